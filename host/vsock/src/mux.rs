//! All connections and listeners of one guest: who gets a packet, and whose packet goes out next.
//!
//! Pure: no IO, no clock, no thread. [`Mux::receive`] takes the guest's packets, [`Mux::emit`] gives the next one
//! for it, round robin over the connections that have something to say. Wakers to be called are collected in
//! [`Mux::take_wakes`], so that the caller can call them after letting go of its lock.

use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll, Waker};

use crate::connection::{Connection, Phase, ReadOutcome, WriteOutcome};
use crate::wire::{Header, MAX_PAYLOAD, Op, TYPE_STREAM};
use crate::{Error, GUEST_CID, HOST_CID};

/// Most connections of one guest at a time, of either direction, including those not yet accepted.
pub const MAX_CONNECTIONS: usize = 1024;

/// Most connections of a listener that wait to be accepted.
const MAX_BACKLOG: usize = 128;

/// Resets owed to packets of no connection. Past it the guest's packets are left in its ring until it takes some.
const MAX_STRAY_RESETS: usize = 256;

/// First port for connections that the host opens; below it programs choose their own.
const FIRST_EPHEMERAL_PORT: u32 = 1 << 30;

/// Names a connection for as long as somebody holds it; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ports {
    guest: u32,
    host: u32,
}

struct Entry {
    ports: Ports,
    connection: Connection,
    queued: bool,
}

#[derive(Default)]
struct Backlog {
    waiting: VecDeque<Id>,
    acceptor: Option<Waker>,
}

#[derive(Default)]
pub(crate) struct Mux {
    entries: HashMap<Id, Entry>,
    by_ports: HashMap<Ports, Id>,
    listeners: HashMap<u32, Backlog>,
    ready: VecDeque<Id>,
    stray_resets: VecDeque<Ports>,
    next_id: u64,
    next_port: u32,
    closed: bool,
    wakes: Vec<Waker>,
}

impl Mux {
    // ---- the guest's side -------------------------------------------------------------------------------------

    /// Takes one packet from the guest; `payload` must be the `len` bytes that the header announces.
    pub fn receive(&mut self, header: &Header, payload: &[u8]) {
        if header.src_cid != u64::from(GUEST_CID) || header.dst_cid != u64::from(HOST_CID) || self.closed {
            return;
        }
        let ports = Ports { guest: header.src_port, host: header.dst_port };
        if header.kind != TYPE_STREAM {
            return self.refuse(ports, header.op);
        }
        match self.by_ports.get(&ports).copied() {
            Some(id) => {
                self.change(id, |c| c.receive(header, payload));
            }
            None if header.op == Op::Request => self.accept_request(ports, header),
            None => self.refuse(ports, header.op),
        }
    }

    /// A packet whose payload does not fit what its header says: its connection is reset.
    pub fn receive_malformed(&mut self, header: &Header) {
        let ports = Ports { guest: header.src_port, host: header.dst_port };
        if let Some(id) = self.by_ports.get(&ports).copied() {
            self.change(id, |c| c.abort(true));
        }
    }

    fn accept_request(&mut self, ports: Ports, header: &Header) {
        let room = self.entries.len() < MAX_CONNECTIONS;
        let id = Id(self.next_id);
        match self.listeners.get_mut(&ports.host) {
            Some(backlog) if room && backlog.waiting.len() < MAX_BACKLOG => {
                backlog.waiting.push_back(id);
                self.wakes.extend(backlog.acceptor.take());
            }
            _ => return self.refuse(ports, header.op),
        }
        self.insert(ports, Connection::accepted(header));
    }

    fn insert(&mut self, ports: Ports, connection: Connection) -> Id {
        let id = Id(self.next_id);
        self.next_id += 1;
        self.entries.insert(id, Entry { ports, connection, queued: false });
        self.by_ports.insert(ports, id);
        self.settle(id);
        id
    }

    fn refuse(&mut self, ports: Ports, op: Op) {
        if op != Op::Reset {
            self.stray_resets.push_back(ports);
        }
    }

    /// Whether the guest must first take answers before more of its packets are read.
    pub fn is_congested(&self) -> bool {
        self.stray_resets.len() >= MAX_STRAY_RESETS
    }

    /// Whether [`Mux::emit`] has a packet.
    pub fn has_output(&self) -> bool {
        !self.stray_resets.is_empty() || !self.ready.is_empty()
    }

    /// The next packet for the guest, with at most `room` payload bytes (at least 1) put into `payload`.
    pub fn emit(&mut self, room: usize, payload: &mut Vec<u8>) -> Option<Header> {
        payload.clear();
        if let Some(ports) = self.stray_resets.pop_front() {
            return Some(header(ports, Op::Reset, 0, 0, (0, 0)));
        }
        while let Some(id) = self.ready.pop_front() {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.queued = false;
            let emitted = entry.connection.emit(room.min(MAX_PAYLOAD), payload);
            let emitted = emitted.map(|(op, flags)| {
                let len = u32::try_from(payload.len()).unwrap_or(0);
                header(entry.ports, op, flags, len, entry.connection.announce())
            });
            self.settle(id);
            if emitted.is_some() {
                return emitted;
            }
        }
        None
    }

    /// Drops every connection: the guest's driver was reset and remembers none of them.
    pub fn reset_connections(&mut self) {
        self.stray_resets.clear();
        let ids: Vec<Id> = self.entries.keys().copied().collect();
        for id in ids {
            self.change(id, |c| c.abort(false));
        }
    }

    /// The device is gone for good: connections break, listeners end.
    pub fn close(&mut self) {
        self.closed = true;
        self.reset_connections();
        for backlog in self.listeners.values_mut() {
            self.wakes.extend(backlog.acceptor.take());
        }
    }

    // ---- the application's side -------------------------------------------------------------------------------

    pub fn listen(&mut self, port: u32) -> Result<(), Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        if self.listeners.contains_key(&port) {
            return Err(Error::PortInUse(port));
        }
        self.listeners.insert(port, Backlog::default());
        Ok(())
    }

    pub fn unlisten(&mut self, port: u32) {
        let Some(backlog) = self.listeners.remove(&port) else { return };
        for id in backlog.waiting {
            self.change(id, |c| c.abort(true));
            self.detach(id);
        }
    }

    pub fn poll_accept(&mut self, port: u32, cx: &mut Context<'_>) -> Poll<Option<Id>> {
        let closed = self.closed;
        let Some(backlog) = self.listeners.get_mut(&port) else { return Poll::Ready(None) };
        match backlog.waiting.pop_front() {
            Some(id) => Poll::Ready(Some(id)),
            None if closed => Poll::Ready(None),
            None => {
                backlog.acceptor = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub fn connect(&mut self, guest_port: u32) -> Result<Id, Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        if self.entries.len() >= MAX_CONNECTIONS {
            return Err(Error::TooManyConnections);
        }
        loop {
            let host = FIRST_EPHEMERAL_PORT | self.next_port;
            self.next_port = self.next_port.wrapping_add(1) & (FIRST_EPHEMERAL_PORT - 1);
            let ports = Ports { guest: guest_port, host };
            // Ends: there are a thousand times more ports than connections.
            if !self.by_ports.contains_key(&ports) && !self.listeners.contains_key(&host) {
                return Ok(self.insert(ports, Connection::requested()));
            }
        }
    }

    pub fn poll_connected(&mut self, id: Id, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let closed = self.closed;
        let Some(entry) = self.entries.get_mut(&id) else { return Poll::Ready(Err(Error::Closed)) };
        match entry.connection.phase() {
            Phase::Requested => {
                entry.connection.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            Phase::Open | Phase::Finished => Poll::Ready(Ok(())),
            Phase::Aborted if closed => Poll::Ready(Err(Error::Closed)),
            Phase::Aborted => Poll::Ready(Err(Error::Refused(entry.ports.guest))),
        }
    }

    pub fn read(&mut self, id: Id, buf: &mut [u8], cx: &mut Context<'_>) -> ReadOutcome {
        let outcome = self.change(id, |c| {
            let outcome = c.read(buf);
            if outcome == ReadOutcome::Wait {
                c.reader = Some(cx.waker().clone());
            }
            outcome
        });
        outcome.unwrap_or(ReadOutcome::Broken)
    }

    pub fn write(&mut self, id: Id, buf: &[u8], cx: &mut Context<'_>) -> WriteOutcome {
        let outcome = self.change(id, |c| {
            let outcome = c.write(buf);
            if outcome == WriteOutcome::Wait {
                c.writer = Some(cx.waker().clone());
            }
            outcome
        });
        outcome.unwrap_or(WriteOutcome::Broken)
    }

    pub fn finish_writing(&mut self, id: Id) {
        self.change(id, Connection::finish_writing);
    }

    pub fn detach(&mut self, id: Id) {
        self.change(id, Connection::detach);
    }

    /// Wakers that became due; call them without holding the lock around this [`Mux`].
    pub fn take_wakes(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakes)
    }

    // ---- bookkeeping ------------------------------------------------------------------------------------------

    /// Changes a connection and keeps the queues true. Wakes its reader or writer where they can go on.
    fn change<T>(&mut self, id: Id, how: impl FnOnce(&mut Connection) -> T) -> Option<T> {
        let entry = self.entries.get_mut(&id)?;
        let out = how(&mut entry.connection);
        self.settle(id);
        Some(out)
    }

    fn settle(&mut self, id: Id) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let c = &mut entry.connection;
        if c.reader.is_some() && c.wake_reader() {
            self.wakes.extend(c.reader.take());
        }
        if c.writer.is_some() && c.wake_writer() {
            self.wakes.extend(c.writer.take());
        }
        if c.has_output() && !entry.queued {
            entry.queued = true;
            self.ready.push_back(id);
        }
        if c.is_over() {
            if self.by_ports.get(&entry.ports) == Some(&id) {
                self.by_ports.remove(&entry.ports);
            }
            if !c.is_attached() {
                self.entries.remove(&id);
            }
        }
    }
}

fn header(ports: Ports, op: Op, flags: u32, len: u32, (buf_alloc, fwd_cnt): (u32, u32)) -> Header {
    Header {
        src_cid: u64::from(HOST_CID),
        dst_cid: u64::from(GUEST_CID),
        src_port: ports.host,
        dst_port: ports.guest,
        len,
        kind: TYPE_STREAM,
        op,
        flags,
        buf_alloc,
        fwd_cnt,
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
#[path = "mux_tests.rs"]
mod tests;

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
#[path = "mux_properties.rs"]
mod properties;
