//! What the guest is answered, packet by packet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;
use crate::connection::{RECEIVE_LIMIT, SEND_LIMIT};
use crate::wire::{SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) fn with_cx<T>(f: impl FnOnce(&mut Context<'_>) -> T) -> T {
    f(&mut Context::from_waker(Waker::noop()))
}

pub(super) fn packet(op: Op, guest: u32, host: u32) -> Header {
    Header {
        src_cid: u64::from(GUEST_CID),
        dst_cid: u64::from(HOST_CID),
        src_port: guest,
        dst_port: host,
        len: 0,
        kind: TYPE_STREAM,
        op,
        flags: 0,
        buf_alloc: 1 << 18,
        fwd_cnt: 0,
    }
}

fn emit(mux: &mut Mux) -> Option<(Header, Vec<u8>)> {
    let mut payload = Vec::new();
    let header = mux.emit(4096, &mut payload)?;
    assert_eq!(header.len as usize, payload.len());
    assert_eq!((header.src_cid, header.dst_cid, header.kind), (2, 3, TYPE_STREAM));
    Some((header, payload))
}

fn emit_op(mux: &mut Mux) -> Option<Op> {
    emit(mux).map(|(h, _)| h.op)
}

/// An open connection from guest port 50 to host port 7, its RESPONSE already sent.
fn open(mux: &mut Mux) -> Id {
    mux.listen(7).unwrap();
    mux.receive(&packet(Op::Request, 50, 7), &[]);
    assert_eq!(emit_op(mux), Some(Op::Response));
    match with_cx(|cx| mux.poll_accept(7, cx)) {
        Poll::Ready(Some(id)) => id,
        other => panic!("{other:?}"),
    }
}

fn read_all(mux: &mut Mux, id: Id) -> (Vec<u8>, ReadOutcome) {
    let mut all = Vec::new();
    let mut buf = [0; 1000];
    loop {
        match with_cx(|cx| mux.read(id, &mut buf, cx)) {
            ReadOutcome::Bytes(n) => all.extend(&buf[..n]),
            end => return (all, end),
        }
    }
}

#[test]
fn a_request_to_a_port_nobody_listens_on_is_reset_and_a_reset_is_never_answered() {
    let mut mux = Mux::default();
    mux.receive(&packet(Op::Request, 50, 9), &[]);
    let (h, _) = emit(&mut mux).unwrap();
    assert_eq!((h.op, h.src_port, h.dst_port), (Op::Reset, 9, 50));
    mux.receive(&packet(Op::Reset, 50, 9), &[]);
    assert!(!mux.has_output());
}

#[test]
fn packets_of_another_cid_are_ignored_and_other_socket_types_are_reset() {
    let mut mux = Mux::default();
    mux.listen(7).unwrap();
    mux.receive(&Header { src_cid: 99, ..packet(Op::Request, 50, 7) }, &[]);
    mux.receive(&Header { dst_cid: 99, ..packet(Op::Request, 50, 7) }, &[]);
    assert!(!mux.has_output() && mux.entries.is_empty());
    mux.receive(&Header { kind: 2, ..packet(Op::Request, 50, 7) }, &[]);
    assert_eq!(emit_op(&mut mux), Some(Op::Reset));
}

#[test]
fn the_host_connects_and_learns_of_refusal() {
    let mut mux = Mux::default();
    let id = mux.connect(1024).unwrap();
    let (h, _) = emit(&mut mux).unwrap();
    assert_eq!((h.op, h.dst_port, h.buf_alloc), (Op::Request, 1024, RECEIVE_LIMIT));
    assert!(with_cx(|cx| mux.poll_connected(id, cx)).is_pending());
    mux.receive(&packet(Op::Response, 1024, h.src_port), &[]);
    assert!(matches!(with_cx(|cx| mux.poll_connected(id, cx)), Poll::Ready(Ok(()))));

    let id = mux.connect(1024).unwrap();
    let (h, _) = emit(&mut mux).unwrap();
    mux.receive(&packet(Op::Reset, 1024, h.src_port), &[]);
    let refused = with_cx(|cx| mux.poll_connected(id, cx));
    assert!(matches!(refused, Poll::Ready(Err(Error::Refused(1024)))), "{refused:?}");
}

#[test]
fn a_withdrawn_connect_tells_the_guest_only_what_it_must() {
    let mut mux = Mux::default();
    let unsent = mux.connect(1024).unwrap();
    mux.detach(unsent);
    assert_eq!(emit_op(&mut mux), None);
    let sent = mux.connect(1024).unwrap();
    assert_eq!(emit_op(&mut mux), Some(Op::Request));
    mux.detach(sent);
    assert_eq!(emit_op(&mut mux), Some(Op::Reset));
    assert!(mux.entries.is_empty() && mux.by_ports.is_empty());
}

#[test]
fn half_close_by_the_host_leaves_the_guest_sending() {
    let mut mux = Mux::default();
    let id = open(&mut mux);
    assert_eq!(with_cx(|cx| mux.write(id, b"in", cx)), WriteOutcome::Bytes(2));
    mux.finish_writing(id);
    assert_eq!(with_cx(|cx| mux.write(id, b"more", cx)), WriteOutcome::Broken);
    assert_eq!(emit(&mut mux).unwrap().1, b"in");
    let (h, _) = emit(&mut mux).unwrap();
    assert_eq!((h.op, h.flags), (Op::Shutdown, SHUTDOWN_SEND));
    mux.receive(&Header { len: 3, ..packet(Op::Data, 50, 7) }, b"out");
    assert_eq!(read_all(&mut mux, id), (b"out".to_vec(), ReadOutcome::Wait));
    mux.receive(&Header { flags: SHUTDOWN_BOTH, ..packet(Op::Shutdown, 50, 7) }, &[]);
    assert_eq!(read_all(&mut mux, id).1, ReadOutcome::End);
    assert_eq!(emit_op(&mut mux), Some(Op::Reset));
    mux.detach(id);
    assert!(mux.entries.is_empty() && mux.by_ports.is_empty() && !mux.has_output());
}

#[test]
fn half_close_by_the_guest_leaves_the_host_sending() {
    let mut mux = Mux::default();
    let id = open(&mut mux);
    mux.receive(&Header { len: 1, ..packet(Op::Data, 50, 7) }, b"x");
    mux.receive(&Header { flags: SHUTDOWN_SEND, ..packet(Op::Shutdown, 50, 7) }, &[]);
    assert_eq!(read_all(&mut mux, id), (b"x".to_vec(), ReadOutcome::End));
    assert_eq!(with_cx(|cx| mux.write(id, b"answer", cx)), WriteOutcome::Bytes(6));
    assert_eq!(emit(&mut mux).unwrap().1, b"answer");
    mux.receive(&Header { flags: SHUTDOWN_RECEIVE, ..packet(Op::Shutdown, 50, 7) }, &[]);
    assert_eq!(with_cx(|cx| mux.write(id, b"late", cx)), WriteOutcome::Broken);
}

#[test]
fn dropping_a_stream_delivers_what_was_written_then_closes() {
    let mut mux = Mux::default();
    let id = open(&mut mux);
    assert_eq!(with_cx(|cx| mux.write(id, b"last words", cx)), WriteOutcome::Bytes(10));
    mux.detach(id);
    assert_eq!(emit(&mut mux).unwrap().1, b"last words");
    let (h, _) = emit(&mut mux).unwrap();
    assert_eq!((h.op, h.flags), (Op::Shutdown, SHUTDOWN_BOTH));
    assert!(mux.entries.is_empty() && mux.by_ports.is_empty());
}

#[test]
fn data_read_before_a_guests_close_is_kept_even_where_its_ports_are_used_anew() {
    let mut mux = Mux::default();
    let old = open(&mut mux);
    mux.receive(&Header { len: 3, ..packet(Op::Data, 50, 7) }, b"old");
    mux.receive(&Header { flags: SHUTDOWN_BOTH, ..packet(Op::Shutdown, 50, 7) }, &[]);
    assert_eq!(emit_op(&mut mux), Some(Op::Reset));
    mux.receive(&packet(Op::Request, 50, 7), &[]);
    assert_eq!(emit_op(&mut mux), Some(Op::Response));
    mux.receive(&Header { len: 3, ..packet(Op::Data, 50, 7) }, b"new");
    assert_eq!(read_all(&mut mux, old), (b"old".to_vec(), ReadOutcome::End));
    let Poll::Ready(Some(new)) = with_cx(|cx| mux.poll_accept(7, cx)) else { panic!() };
    assert_eq!(read_all(&mut mux, new), (b"new".to_vec(), ReadOutcome::Wait));
}

#[test]
fn a_guest_that_breaks_off_is_an_error_not_an_end() {
    let mut mux = Mux::default();
    let id = open(&mut mux);
    mux.receive(&Header { len: 1, ..packet(Op::Data, 50, 7) }, b"x");
    mux.receive(&packet(Op::Reset, 50, 7), &[]);
    assert_eq!(read_all(&mut mux, id), (b"x".to_vec(), ReadOutcome::Broken));
    assert_eq!(with_cx(|cx| mux.write(id, b"y", cx)), WriteOutcome::Broken);
}

#[test]
fn the_guests_credit_is_kept_to_and_asked_for() {
    let mut mux = Mux::default();
    mux.listen(7).unwrap();
    mux.receive(&Header { buf_alloc: 5, ..packet(Op::Request, 50, 7) }, &[]);
    assert_eq!(emit_op(&mut mux), Some(Op::Response));
    let Poll::Ready(Some(id)) = with_cx(|cx| mux.poll_accept(7, cx)) else { panic!() };
    with_cx(|cx| mux.write(id, b"0123456789", cx));
    assert_eq!(emit(&mut mux).unwrap().1, b"01234");
    assert_eq!(emit_op(&mut mux), Some(Op::CreditRequest));
    assert_eq!(emit_op(&mut mux), None, "asked once");
    mux.receive(&Header { buf_alloc: 5, fwd_cnt: 3, ..packet(Op::CreditUpdate, 50, 7) }, &[]);
    assert_eq!(emit(&mut mux).unwrap().1, b"567");
    // A guest that takes its promise back (or lies about what it took) gets nothing rather than a wrap-around.
    mux.receive(&Header { buf_alloc: 2, fwd_cnt: 100, ..packet(Op::CreditUpdate, 50, 7) }, &[]);
    assert_eq!(emit(&mut mux).map(|(h, _)| h.len), Some(0));
}

#[test]
fn a_guest_that_exceeds_its_credit_is_reset() {
    let mut mux = Mux::default();
    let id = open(&mut mux);
    let block = vec![1; MAX_PAYLOAD];
    for _ in 0..RECEIVE_LIMIT as usize / MAX_PAYLOAD {
        mux.receive(&Header { len: 65536, ..packet(Op::Data, 50, 7) }, &block);
    }
    assert!(!mux.has_output());
    mux.receive(&Header { len: 1, ..packet(Op::Data, 50, 7) }, &[1]);
    assert_eq!(emit_op(&mut mux), Some(Op::Reset));
    let (data, end) = read_all(&mut mux, id);
    assert_eq!((data.len(), end), (RECEIVE_LIMIT as usize, ReadOutcome::Broken));
}

#[test]
fn reading_gives_credit_back_before_the_guest_must_stop() {
    let mut mux = Mux::default();
    let id = open(&mut mux);
    let block = vec![1; MAX_PAYLOAD];
    for _ in 0..3 {
        mux.receive(&Header { len: 65536, ..packet(Op::Data, 50, 7) }, &block);
    }
    let (data, _) = read_all(&mut mux, id);
    // The update leaves when it is emitted and then tells all that was read by then.
    let (h, _) = emit(&mut mux).unwrap();
    assert_eq!((h.op, h.fwd_cnt as usize), (Op::CreditUpdate, data.len()));
    assert!(!mux.has_output());
}

#[test]
fn a_writer_waits_for_room_and_is_woken() {
    let mut mux = Mux::default();
    let id = open(&mut mux);
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut cx = Context::from_waker(&waker);
    assert_eq!(mux.write(id, &vec![0; SEND_LIMIT + 1], &mut cx), WriteOutcome::Bytes(SEND_LIMIT));
    assert_eq!(mux.write(id, &[0], &mut cx), WriteOutcome::Wait);
    while emit(&mut mux).is_some() {}
    mux.take_wakes().into_iter().for_each(Waker::wake);
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
}

#[test]
fn a_flood_of_requests_meets_the_backlog_and_the_cap() {
    let mut mux = Mux::default();
    for port in 0..20 {
        mux.listen(port).unwrap();
    }
    let mut answered = 0;
    for n in 0..20 * 200_u32 {
        mux.receive(&packet(Op::Request, 10_000 + n, n % 20), &[]);
        answered += usize::from(emit_op(&mut mux) == Some(Op::Response));
    }
    assert_eq!((answered, mux.entries.len()), (MAX_CONNECTIONS, MAX_CONNECTIONS));
    assert!(matches!(mux.connect(1), Err(Error::TooManyConnections)));
    (0..20).for_each(|port| mux.unlisten(port));
    while emit(&mut mux).is_some() {}
    assert!(mux.entries.is_empty() && mux.by_ports.is_empty());
}

#[test]
fn round_robin_lets_every_connection_send() {
    let mut mux = Mux::default();
    mux.listen(7).unwrap();
    for guest in 0..3 {
        mux.receive(&packet(Op::Request, guest, 7), &[]);
        assert_eq!(emit_op(&mut mux), Some(Op::Response));
    }
    while let Poll::Ready(Some(id)) = with_cx(|cx| mux.poll_accept(7, cx)) {
        with_cx(|cx| mux.write(id, &[0; 10_000], cx));
    }
    let first: Vec<u32> = (0..3).map(|_| emit(&mut mux).unwrap().0.dst_port).collect();
    assert_eq!(first, [0, 1, 2]);
}

#[test]
fn closing_the_device_ends_listeners_streams_and_connects() {
    let mut mux = Mux::default();
    let id = open(&mut mux);
    let connecting = mux.connect(3).unwrap();
    mux.close();
    assert!(matches!(with_cx(|cx| mux.poll_accept(7, cx)), Poll::Ready(None)));
    assert_eq!(read_all(&mut mux, id).1, ReadOutcome::Broken);
    assert!(matches!(with_cx(|cx| mux.poll_connected(connecting, cx)), Poll::Ready(Err(Error::Closed))));
    assert!(matches!(mux.listen(8), Err(Error::Closed)));
    assert!(matches!(mux.connect(8), Err(Error::Closed)));
}

#[test]
fn two_listeners_cannot_share_a_port() {
    let mut mux = Mux::default();
    mux.listen(7).unwrap();
    assert!(matches!(mux.listen(7), Err(Error::PortInUse(7))));
    mux.unlisten(7);
    mux.listen(7).unwrap();
}
