//! One stream connection: its two bounded buffers, credit in both directions, and how it ends.
//!
//! Pure: no IO, no clock. The guest's packets come in through [`Connection::receive`], what it owes the guest goes
//! out through [`Connection::emit`]; the application's side is `read`, `write`, `finish_writing` and `detach`.

use std::collections::VecDeque;
use std::task::Waker;

use crate::wire::{Header, MAX_PAYLOAD, Op, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};

/// Bytes the guest may have in flight to us per connection; what we announce as `buf_alloc`.
pub(crate) const RECEIVE_LIMIT: u32 = 256 * 1024;
/// Bytes the application may have queued to the guest per connection.
pub(crate) const SEND_LIMIT: usize = 256 * 1024;

/// Whether and how the connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// We asked the guest for a connection and wait for its answer.
    Requested,
    /// Bytes may flow.
    Open,
    /// Both sides are done; nothing was lost.
    Finished,
    /// The guest refused, reset, broke the protocol, or the device went away.
    Aborted,
}

/// Packets that the connection must still send.
#[derive(Clone, Copy, Debug, Default)]
struct Owed {
    request: bool,
    response: bool,
    reset: bool,
    credit_update: bool,
    credit_request: bool,
    shutdown: u32,
}

/// What a read found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadOutcome {
    /// So many bytes were copied.
    Bytes(usize),
    /// The guest sends no more.
    End,
    /// The connection broke.
    Broken,
    /// Nothing yet.
    Wait,
}

/// What a write found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WriteOutcome {
    /// So many bytes were taken.
    Bytes(usize),
    /// The guest takes no more.
    Broken,
    /// No room yet.
    Wait,
}

pub(crate) struct Connection {
    phase: Phase,
    /// A [`crate::Stream`] or a listener's backlog still refers to it.
    attached: bool,
    received: VecDeque<u8>,
    outgoing: VecDeque<u8>,
    guest_sends: bool,
    guest_receives: bool,
    host_sends: bool,
    shutdown_told: u32,
    owed: Owed,
    /// Bytes the guest sent, and how many of them the application took; both modulo 2^32 as the protocol counts.
    received_count: u32,
    forwarded: u32,
    forwarded_told: u32,
    /// Bytes sent to the guest, and the guest's last word on its buffer.
    sent: u32,
    guest_buffer: u32,
    guest_forwarded: u32,
    credit_asked: bool,
    pub reader: Option<Waker>,
    pub writer: Option<Waker>,
}

impl Connection {
    fn new(phase: Phase, owed: Owed) -> Self {
        Connection {
            phase,
            attached: true,
            received: VecDeque::new(),
            outgoing: VecDeque::new(),
            guest_sends: true,
            guest_receives: true,
            host_sends: true,
            shutdown_told: 0,
            owed,
            received_count: 0,
            forwarded: 0,
            forwarded_told: 0,
            sent: 0,
            guest_buffer: 0,
            guest_forwarded: 0,
            credit_asked: false,
            reader: None,
            writer: None,
        }
    }

    /// A connection that the guest asked for with this header and that we accept.
    pub fn accepted(header: &Header) -> Self {
        let mut c = Self::new(Phase::Open, Owed { response: true, ..Owed::default() });
        c.note_credit(header);
        c
    }

    /// A connection that we ask the guest for.
    pub fn requested() -> Self {
        Self::new(Phase::Requested, Owed { request: true, ..Owed::default() })
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// Whether the connection is over for the guest too, so that its ports are free again.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Finished | Phase::Aborted) && !self.owed.reset
    }

    /// A packet from the guest. `payload` is present in full and at most [`MAX_PAYLOAD`] long.
    pub fn receive(&mut self, header: &Header, payload: &[u8]) {
        if matches!(self.phase, Phase::Finished | Phase::Aborted) {
            return;
        }
        self.note_credit(header);
        match (header.op, self.phase) {
            (Op::Reset, _) => self.ended_by_reset(),
            (Op::Response, Phase::Requested) if !self.owed.request => {
                self.phase = Phase::Open;
            }
            (Op::Data, Phase::Open) => self.take_data(payload),
            (Op::CreditUpdate, Phase::Open) => {}
            (Op::CreditRequest, Phase::Open) => self.owed.credit_update = true,
            (Op::Shutdown, Phase::Open) => self.take_shutdown(header.flags),
            _ => self.abort(true),
        }
    }

    fn note_credit(&mut self, header: &Header) {
        self.guest_buffer = header.buf_alloc;
        self.guest_forwarded = header.fwd_cnt;
        if self.credit() > 0 {
            self.credit_asked = false;
        }
    }

    fn take_data(&mut self, payload: &[u8]) {
        let Ok(len) = u32::try_from(payload.len()) else { return self.abort(true) };
        let outstanding = self.received_count.wrapping_sub(self.forwarded);
        if !self.guest_sends || outstanding.saturating_add(len) > RECEIVE_LIMIT {
            return self.abort(true);
        }
        self.received_count = self.received_count.wrapping_add(len);
        if self.attached {
            self.received.extend(payload);
        } else {
            // Nobody reads any more; count it as taken so that the guest is not held up until it hears so.
            self.forwarded = self.forwarded.wrapping_add(len);
        }
    }

    fn take_shutdown(&mut self, flags: u32) {
        if flags & SHUTDOWN_SEND != 0 {
            self.guest_sends = false;
        }
        if flags & SHUTDOWN_RECEIVE != 0 {
            self.guest_receives = false;
            self.outgoing.clear();
        }
        if !self.guest_sends && !self.guest_receives {
            // The guest closes and waits for our reset; its data lies before this packet, so none is lost.
            self.phase = Phase::Finished;
            self.owed = Owed { reset: true, ..Owed::default() };
        }
    }

    fn ended_by_reset(&mut self) {
        let clean = self.phase == Phase::Open && (!self.guest_sends || self.shutdown_told == SHUTDOWN_BOTH);
        if clean {
            self.phase = Phase::Finished;
            self.owed = Owed::default();
            self.guest_sends = false;
            self.guest_receives = false;
            self.outgoing.clear();
        } else {
            self.abort(false);
        }
    }

    /// Ends the connection at once; `tell` the guest with a reset.
    pub fn abort(&mut self, tell: bool) {
        self.phase = Phase::Aborted;
        self.outgoing = VecDeque::new();
        // A request that never left needs no reset.
        let tell = tell && !self.owed.request;
        self.owed = Owed { reset: tell, ..Owed::default() };
    }

    /// Bytes that the guest still has room for.
    fn credit(&self) -> u32 {
        let in_flight = self.sent.wrapping_sub(self.guest_forwarded);
        self.guest_buffer.saturating_sub(in_flight)
    }

    /// Whether [`Connection::emit`] would give a packet.
    pub fn has_output(&self) -> bool {
        let o = &self.owed;
        if o.reset || o.request || o.response {
            return true;
        }
        self.phase == Phase::Open
            && (o.credit_update
                || o.credit_request
                || (o.shutdown != 0 && self.outgoing.is_empty())
                || (!self.outgoing.is_empty() && self.credit() > 0))
    }

    /// The next packet for the guest: operation and flags; payload bytes are put into `payload` (at most `room`).
    pub fn emit(&mut self, room: usize, payload: &mut Vec<u8>) -> Option<(Op, u32)> {
        payload.clear();
        if std::mem::take(&mut self.owed.reset) {
            return Some((Op::Reset, 0));
        }
        if std::mem::take(&mut self.owed.request) {
            return Some((Op::Request, 0));
        }
        if std::mem::take(&mut self.owed.response) {
            return Some((Op::Response, 0));
        }
        if self.phase != Phase::Open {
            return None;
        }
        let credit = usize::try_from(self.credit()).unwrap_or(0);
        let len = self.outgoing.len().min(credit).min(room).min(MAX_PAYLOAD);
        if len > 0 {
            self.owed.credit_update = false;
            self.owed.credit_request = false;
            let (front, back) = self.outgoing.as_slices();
            let (front, _) = front.split_at(front.len().min(len));
            let (back, _) = back.split_at(len - front.len());
            payload.extend_from_slice(front);
            payload.extend_from_slice(back);
            self.outgoing.drain(..len);
            self.sent = self.sent.wrapping_add(u32::try_from(len).unwrap_or(0));
            self.ask_for_credit();
            return Some((Op::Data, 0));
        }
        if std::mem::take(&mut self.owed.credit_update) {
            return Some((Op::CreditUpdate, 0));
        }
        if std::mem::take(&mut self.owed.credit_request) {
            return Some((Op::CreditRequest, 0));
        }
        if self.outgoing.is_empty() && self.owed.shutdown != 0 {
            self.shutdown_told |= self.owed.shutdown;
            self.owed.shutdown = 0;
            if !self.attached && self.shutdown_told == SHUTDOWN_BOTH {
                // The application is gone and all is said; a late packet of the guest meets "unknown" and a reset.
                self.phase = Phase::Finished;
            }
            return Some((Op::Shutdown, self.shutdown_told));
        }
        None
    }

    fn ask_for_credit(&mut self) {
        if !self.outgoing.is_empty() && self.credit() == 0 && !self.credit_asked {
            self.credit_asked = true;
            self.owed.credit_request = true;
        }
    }

    /// `buf_alloc` and `fwd_cnt` for a packet that leaves now; noted as told to the guest.
    pub fn announce(&mut self) -> (u32, u32) {
        self.forwarded_told = self.forwarded;
        (RECEIVE_LIMIT, self.forwarded)
    }

    /// Moves received bytes into `buf`.
    pub fn read(&mut self, buf: &mut [u8]) -> ReadOutcome {
        if buf.is_empty() {
            return ReadOutcome::Bytes(0);
        }
        if self.received.is_empty() {
            return match self.phase {
                Phase::Aborted => ReadOutcome::Broken,
                Phase::Finished => ReadOutcome::End,
                _ if !self.guest_sends => ReadOutcome::End,
                _ => ReadOutcome::Wait,
            };
        }
        let (front, back) = self.received.as_slices();
        let first = front.len().min(buf.len());
        let (to_front, to_back) = buf.split_at_mut(first);
        let second = back.len().min(to_back.len());
        copy(to_front, front);
        copy(to_back, back);
        let taken = first + second;
        self.received.drain(..taken);
        self.forwarded = self.forwarded.wrapping_add(u32::try_from(taken).unwrap_or(0));
        // The guest's view of our free space; tell it before it must stop, not at every read.
        let guest_sees = RECEIVE_LIMIT.saturating_sub(self.received_count.wrapping_sub(self.forwarded_told));
        if self.phase == Phase::Open && self.guest_sends && guest_sees < RECEIVE_LIMIT / 2 {
            self.owed.credit_update = true;
        }
        ReadOutcome::Bytes(taken)
    }

    /// Queues bytes of `buf` for the guest.
    pub fn write(&mut self, buf: &[u8]) -> WriteOutcome {
        if self.phase != Phase::Open || !self.host_sends || !self.guest_receives {
            return WriteOutcome::Broken;
        }
        if buf.is_empty() {
            return WriteOutcome::Bytes(0);
        }
        let room = SEND_LIMIT.saturating_sub(self.outgoing.len()).min(buf.len());
        if room == 0 {
            return WriteOutcome::Wait;
        }
        let (taken, _) = buf.split_at(room);
        self.outgoing.extend(taken);
        self.ask_for_credit();
        WriteOutcome::Bytes(room)
    }

    /// Whether a waiting reader would find bytes, the end, or a break.
    pub fn wake_reader(&self) -> bool {
        !self.received.is_empty()
            || !self.guest_sends
            || matches!(self.phase, Phase::Finished | Phase::Aborted)
    }

    /// Whether enough room came free to wake a waiting writer, or waiting is in vain.
    pub fn wake_writer(&self) -> bool {
        match self.phase {
            // The one who connects waits here for the answer.
            Phase::Requested => false,
            Phase::Open => !self.guest_receives || self.outgoing.len() <= SEND_LIMIT / 2,
            Phase::Finished | Phase::Aborted => true,
        }
    }

    /// The application writes no more: half close once all is sent.
    pub fn finish_writing(&mut self) {
        if self.host_sends && self.phase == Phase::Open {
            self.host_sends = false;
            self.owed.shutdown |= SHUTDOWN_SEND;
        }
    }

    /// Bytes held: received and outgoing.
    #[cfg(test)]
    pub fn buffered(&self) -> (usize, usize) {
        (self.received.len(), self.outgoing.len())
    }

    /// The application is gone: what it wrote is still sent, what it did not read is dropped.
    pub fn detach(&mut self) {
        self.attached = false;
        self.reader = None;
        self.writer = None;
        self.received = VecDeque::new();
        self.forwarded = self.received_count;
        match self.phase {
            Phase::Requested => self.abort(true),
            Phase::Open => {
                self.host_sends = false;
                self.owed.shutdown = SHUTDOWN_BOTH;
            }
            Phase::Finished | Phase::Aborted => {}
        }
    }
}

fn copy(to: &mut [u8], from: &[u8]) {
    let len = to.len().min(from.len());
    let (to, _) = to.split_at_mut(len);
    let (from, _) = from.split_at(len);
    to.copy_from_slice(from);
}
