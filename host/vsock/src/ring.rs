//! Moves packets between the guest's two virtqueues and the [`Mux`].
//!
//! Everything in a ring is the guest's word: descriptor chains may be short, long, scattered or nonsense. A chain
//! that holds no packet is given back unused.

use std::io::{Read, Write};
use std::sync::Mutex;

use vhost_user_backend::{VringMutex, VringT};
use virtio_queue::{QueueOwnedT, QueueT, Reader, Writer};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};

use crate::device::lock;
use crate::mux::Mux;
use crate::wire::{HEADER_SIZE, Header, MAX_PAYLOAD};

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// Packets moved before the other direction gets its turn.
const BATCH: usize = 256;

/// What a turn at a ring did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    /// At least one chain was used.
    pub moved: bool,
    /// More could be moved at once.
    pub more: bool,
}

/// Reads packets that the guest sent.
pub(crate) fn drain(vring: &VringMutex, memory: &Memory, mux: &Mutex<Mux>, scratch: &mut Vec<u8>) -> Turn {
    let mut vring = vring.get_mut();
    if !vring.is_enabled() || !vring.get_queue().ready() {
        return Turn::default();
    }
    let mut turn = Turn::default();
    let guest = memory.memory();
    let _ = vring.disable_notification();
    for _ in 0..BATCH {
        if lock(mux).is_congested() {
            break;
        }
        let Some(chain) = vring.get_queue_mut().pop_descriptor_chain(guest.clone()) else { break };
        let head = chain.head_index();
        if let Ok(reader) = Reader::new(&*guest, chain) {
            read_packet(reader, mux, scratch);
        }
        turn.moved = true;
        if vring.add_used(head, 0).is_err() {
            break;
        }
    }
    if turn.moved && vring.needs_notification().unwrap_or(true) {
        let _ = vring.signal_used_queue();
    }
    turn.more = vring.enable_notification().unwrap_or(false) && !lock(mux).is_congested();
    turn
}

fn read_packet(mut reader: Reader<'_>, mux: &Mutex<Mux>, scratch: &mut Vec<u8>) {
    let mut bytes = [0; HEADER_SIZE];
    if reader.read_exact(&mut bytes).is_err() {
        return;
    }
    let header = Header::decode(&bytes);
    let announced = usize::try_from(header.len).unwrap_or(usize::MAX);
    if announced > MAX_PAYLOAD || announced > reader.available_bytes() {
        let wakes = {
            let mut mux = lock(mux);
            mux.receive_malformed(&header);
            mux.take_wakes()
        };
        return wakes.into_iter().for_each(std::task::Waker::wake);
    }
    scratch.resize(announced, 0);
    if reader.read_exact(scratch).is_err() {
        return;
    }
    let wakes = {
        let mut mux = lock(mux);
        mux.receive(&header, scratch);
        mux.take_wakes()
    };
    wakes.into_iter().for_each(std::task::Waker::wake);
}

/// Writes packets that the guest shall get into the buffers that it offers.
pub(crate) fn fill(vring: &VringMutex, memory: &Memory, mux: &Mutex<Mux>, scratch: &mut Vec<u8>) -> Turn {
    let mut vring = vring.get_mut();
    if !vring.is_enabled() || !vring.get_queue().ready() || !lock(mux).has_output() {
        return Turn::default();
    }
    let mut turn = Turn::default();
    let guest = memory.memory();
    let _ = vring.disable_notification();
    for _ in 0..BATCH {
        if !lock(mux).has_output() {
            break;
        }
        let Some(chain) = vring.get_queue_mut().pop_descriptor_chain(guest.clone()) else { break };
        let head = chain.head_index();
        let used = match Writer::new(&*guest, chain) {
            Ok(writer) => match write_packet(writer, mux, scratch) {
                Some(used) => used,
                None => {
                    // All output vanished meanwhile; the buffer stays the guest's next one.
                    vring.get_queue_mut().go_to_previous_position();
                    break;
                }
            },
            Err(_) => 0,
        };
        turn.moved = true;
        if vring.add_used(head, used).is_err() {
            break;
        }
    }
    if turn.moved && vring.needs_notification().unwrap_or(true) {
        let _ = vring.signal_used_queue();
    }
    // A kick for new buffers is wanted only while something waits for one.
    turn.more = lock(mux).has_output() && vring.enable_notification().unwrap_or(false);
    turn
}

/// Bytes written; 0 for a buffer too small to be of use; `None` where there was no packet after all.
fn write_packet(mut writer: Writer<'_>, mux: &Mutex<Mux>, scratch: &mut Vec<u8>) -> Option<u32> {
    let room = writer.available_bytes().saturating_sub(HEADER_SIZE);
    if room == 0 {
        return Some(0);
    }
    let (header, wakes) = {
        let mut mux = lock(mux);
        let header = mux.emit(room, scratch);
        (header, mux.take_wakes())
    };
    wakes.into_iter().for_each(std::task::Waker::wake);
    let header = header?;
    // Both fit: `emit` kept to `room`.
    let whole = writer.write_all(&header.encode()).and_then(|()| writer.write_all(scratch));
    Some(if whole.is_ok() { u32::try_from(HEADER_SIZE + scratch.len()).unwrap_or(0) } else { 0 })
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
