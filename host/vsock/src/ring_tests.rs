//! Hostile rings, written byte by byte into a guest memory.

use vhost_user_backend::VringT;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::wire::{Op, TYPE_STREAM};

const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const BUFFERS: u64 = 0x10000;
const SIZE: u16 = 16;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

struct Guest {
    memory: Memory,
    vring: VringMutex,
    available: u16,
}

impl Guest {
    fn new() -> Self {
        let map = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x100_000)]).unwrap();
        let memory = Memory::new(map);
        let vring = VringMutex::new(memory.clone(), SIZE).unwrap();
        vring.set_queue_size(SIZE);
        vring.set_queue_info(DESCRIPTORS, AVAILABLE, USED).unwrap();
        vring.set_queue_ready(true);
        vring.set_enabled(true);
        Guest { memory, vring, available: 0 }
    }

    fn put<const N: usize>(&self, at: u64, bytes: [u8; N]) {
        self.memory.memory().write_slice(&bytes, GuestAddress(at)).unwrap();
    }

    fn descriptor(&self, index: u16, address: u64, len: u32, flags: u16, next: u16) {
        let at = DESCRIPTORS + 16 * u64::from(index);
        self.put(at, address.to_le_bytes());
        self.put(at + 8, len.to_le_bytes());
        self.put(at + 12, flags.to_le_bytes());
        self.put(at + 14, next.to_le_bytes());
    }

    fn offer(&mut self, head: u16) {
        self.put(AVAILABLE + 4 + 2 * u64::from(self.available % SIZE), head.to_le_bytes());
        self.available += 1;
        self.put(AVAILABLE + 2, self.available.to_le_bytes());
    }

    fn used(&self) -> (u16, u32) {
        let memory = self.memory.memory();
        let index: u16 = memory.read_obj(GuestAddress(USED + 2)).unwrap();
        let last = u64::from(index.wrapping_sub(1) % SIZE);
        (index, memory.read_obj(GuestAddress(USED + 4 + 8 * last + 4)).unwrap())
    }

    fn drain(&self, mux: &Mutex<Mux>) -> Turn {
        drain(&self.vring, &self.memory, mux, &mut Vec::new())
    }
}

fn request(port: u32, len: u32) -> Header {
    Header {
        src_cid: 3,
        dst_cid: 2,
        src_port: 50,
        dst_port: port,
        len,
        kind: TYPE_STREAM,
        op: Op::Request,
        flags: 0,
        buf_alloc: 1 << 18,
        fwd_cnt: 0,
    }
}

fn listening() -> Mutex<Mux> {
    let mux = Mutex::<Mux>::default();
    lock(&mux).listen(7).unwrap();
    mux
}

#[test]
fn a_header_scattered_over_descriptors_is_read_and_answered() {
    let mut guest = Guest::new();
    let mux = listening();
    guest.put(BUFFERS, request(7, 0).encode());
    guest.descriptor(0, BUFFERS, 10, NEXT, 1);
    guest.descriptor(1, BUFFERS + 10, 34, 0, 0);
    guest.offer(0);
    assert_eq!(guest.drain(&mux), Turn { moved: true, more: false });
    assert_eq!(guest.used().0, 1);

    let mut receive = Guest::new();
    receive.descriptor(0, BUFFERS, 44, WRITE | NEXT, 1);
    receive.descriptor(1, BUFFERS + 44, 4096, WRITE, 0);
    receive.offer(0);
    assert!(fill(&receive.vring, &receive.memory, &mux, &mut Vec::new()).moved);
    assert_eq!(receive.used(), (1, 44));
    let mut bytes = [0; HEADER_SIZE];
    receive.memory.memory().read_slice(&mut bytes, GuestAddress(BUFFERS)).unwrap();
    let answer = Header::decode(&bytes);
    assert_eq!((answer.op, answer.src_port, answer.dst_port), (Op::Response, 7, 50));
}

#[test]
fn nonsense_chains_are_given_back_without_effect() {
    type Chain = fn(&Guest);
    let chains: [(&str, Chain); 8] = [
        ("short header", |g| g.descriptor(0, BUFFERS, 43, 0, 0)),
        ("empty", |g| g.descriptor(0, BUFFERS, 0, 0, 0)),
        ("write only", |g| g.descriptor(0, BUFFERS, 100, WRITE, 0)),
        ("outside memory", |g| g.descriptor(0, 0xffff_0000_0000, 44, 0, 0)),
        ("wraps around", |g| g.descriptor(0, u64::MAX - 10, 44, 0, 0)),
        ("points to itself", |g| g.descriptor(0, BUFFERS, 1, NEXT, 0)),
        ("next out of range", |g| g.descriptor(0, BUFFERS, 44, NEXT, 999)),
        ("bad indirect", |g| g.descriptor(0, BUFFERS + 3, 7, INDIRECT, 0)),
    ];
    for (name, chain) in chains {
        let mut guest = Guest::new();
        let mux = listening();
        // A length that the chain cannot hold: even a readable header must not open a connection.
        guest.put(BUFFERS, request(7, 1 << 20).encode());
        chain(&guest);
        guest.offer(0);
        assert_eq!(guest.drain(&mux), Turn { moved: true, more: false }, "{name}");
        assert_eq!(guest.used().0, 1, "{name}: the guest gets its buffer back");
        assert!(!lock(&mux).has_output(), "{name}");
    }
}

#[test]
fn a_buffer_too_small_for_a_header_is_skipped_and_output_is_kept() {
    let mux = listening();
    let mut sender = Guest::new();
    sender.put(BUFFERS, request(7, 0).encode());
    sender.descriptor(0, BUFFERS, 44, 0, 0);
    sender.offer(0);
    sender.drain(&mux);
    let mut guest = Guest::new();
    guest.descriptor(0, BUFFERS, 44, WRITE, 0);
    guest.offer(0);
    let turn = fill(&guest.vring, &guest.memory, &mux, &mut Vec::new());
    assert_eq!((turn.moved, guest.used()), (true, (1, 0)));
    assert!(lock(&mux).has_output());
}

#[test]
fn a_guest_that_takes_no_answers_is_no_longer_read() {
    let mux = Mutex::<Mux>::default();
    let mut guest = Guest::new();
    guest.put(BUFFERS, request(9, 0).encode());
    guest.descriptor(0, BUFFERS, 44, 0, 0);
    let mut rounds = 0;
    while !lock(&mux).is_congested() {
        guest.offer(0);
        guest.drain(&mux);
        rounds += 1;
        assert!(rounds < 10_000, "never stops");
    }
    let before = guest.used().0;
    guest.offer(0);
    assert_eq!(guest.drain(&mux), Turn::default());
    assert_eq!(guest.used().0, before);
}

#[test]
fn a_lying_available_index_is_survived() {
    let mux = listening();
    let guest = Guest::new();
    guest.put(AVAILABLE + 2, 60_000_u16.to_le_bytes());
    let _ = guest.drain(&mux);
    assert!(!lock(&mux).has_output());
}

/// Prints what the device side moves in this build; a real guest's own speed comes on top. Asserts bytes, not time.
#[test]
fn large_packets_flow_both_ways() {
    use crate::connection::{ReadOutcome, WriteOutcome};
    use std::task::{Context, Poll, Waker};

    const ROUNDS: usize = 1000;
    let mut cx = Context::from_waker(Waker::noop());
    let mux = listening();
    let mut guest = Guest::new();
    guest.put(BUFFERS, request(7, 0).encode());
    guest.descriptor(0, BUFFERS, 44, 0, 0);
    guest.offer(0);
    guest.drain(&mux);
    let Poll::Ready(Some(id)) = lock(&mux).poll_accept(7, &mut cx) else { panic!() };

    let len = u32::try_from(MAX_PAYLOAD).unwrap();
    guest.descriptor(0, BUFFERS, 44, NEXT, 1);
    guest.descriptor(1, BUFFERS + 44, len, 0, 0);
    guest.put(BUFFERS, Header { op: Op::Data, ..request(7, len) }.encode());
    let (mut scratch, mut buf, mut got) = (Vec::new(), vec![0; MAX_PAYLOAD], 0);
    let since = std::time::Instant::now();
    for _ in 0..ROUNDS {
        guest.offer(0);
        drain(&guest.vring, &guest.memory, &mux, &mut scratch);
        while let ReadOutcome::Bytes(n) = lock(&mux).read(id, &mut buf, &mut cx) {
            got += n;
        }
    }
    assert_eq!(got, ROUNDS * MAX_PAYLOAD);
    println!("guest to host: {:.0} MB/s", got as f64 / since.elapsed().as_secs_f64() / 1e6);

    // Towards the guest with Linux 6.1's buffers of 4 KiB.
    let mut receive = Guest::new();
    receive.descriptor(0, BUFFERS, 44, WRITE | NEXT, 1);
    receive.descriptor(1, BUFFERS + 44, 4096, WRITE, 0);
    let (mut sent, mut taken) = (0_usize, 0);
    let since = std::time::Instant::now();
    while taken < ROUNDS * MAX_PAYLOAD {
        if let WriteOutcome::Bytes(n) = lock(&mux).write(id, &buf, &mut cx) {
            sent += n;
        }
        receive.offer(0);
        fill(&receive.vring, &receive.memory, &mux, &mut scratch);
        taken += usize::try_from(receive.used().1).unwrap() - HEADER_SIZE;
        let fwd_cnt = u32::try_from(taken).unwrap();
        lock(&mux).receive(&Header { op: Op::CreditUpdate, fwd_cnt, ..request(7, 0) }, &[]);
    }
    assert!(sent >= taken);
    println!("host to guest: {:.0} MB/s", taken as f64 / since.elapsed().as_secs_f64() / 1e6);
}
