//! Whatever a guest sends, in whatever order: no panic, no growth, every byte in its place.

use proptest::prelude::*;

use super::tests::{packet, with_cx};
use super::*;
use crate::connection::{RECEIVE_LIMIT, SEND_LIMIT};

#[derive(Clone, Debug)]
enum Step {
    Packet { op: u16, guest: u32, host: u32, len: usize, flags: u32, buf: u32, fwd: u32, kind: u16 },
    Malformed { guest: u32, host: u32 },
    Emit,
    Accept,
    Connect,
    Read(usize, usize),
    Write(usize, usize),
    Finish(usize),
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let small = 0..4_u32;
    let packet =
        (0..9_u16, small.clone(), small.clone(), 0..70_000_usize, 0..5_u32, any::<u32>(), any::<u32>())
            .prop_map(|(op, guest, host, len, flags, buf, fwd)| Step::Packet {
                op,
                guest,
                host,
                len: len.min(MAX_PAYLOAD),
                flags,
                buf,
                fwd,
                kind: if flags == 4 { 2 } else { 1 },
            });
    prop_oneof![
        6 => packet,
        1 => (small.clone(), small).prop_map(|(guest, host)| Step::Malformed { guest, host }),
        4 => Just(Step::Emit),
        2 => Just(Step::Accept),
        1 => Just(Step::Connect),
        2 => (0..8_usize, 0..100_000_usize).prop_map(|(i, n)| Step::Read(i, n)),
        2 => (0..8_usize, 0..400_000_usize).prop_map(|(i, n)| Step::Write(i, n)),
        1 => (0..8_usize).prop_map(Step::Finish),
        1 => (0..8_usize).prop_map(Step::Drop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_guest_can_panic_it_or_grow_it(steps in prop::collection::vec(step(), 1..200)) {
        let mut mux = Mux::default();
        for port in 0..3 {
            mux.listen(port).unwrap();
        }
        let mut held: Vec<Id> = Vec::new();
        let block = vec![7; MAX_PAYLOAD];
        let mut payload = Vec::new();
        for step in steps {
            let pick = |i: usize| held.get(i % held.len().max(1)).copied();
            match step {
                Step::Packet { op, guest, host, len, flags, buf, fwd, kind } => {
                    let mut bytes = packet(Op::Request, guest, host).encode();
                    bytes[30..32].copy_from_slice(&op.to_le_bytes());
                    let header = Header {
                        len: len as u32, flags, buf_alloc: buf, fwd_cnt: fwd, kind, ..Header::decode(&bytes)
                    };
                    mux.receive(&header, &block[..len]);
                }
                Step::Malformed { guest, host } => mux.receive_malformed(&packet(Op::Data, guest, host)),
                Step::Emit => {
                    if mux.emit(3000, &mut payload).is_some() {
                        prop_assert!(payload.len() <= 3000);
                    }
                }
                Step::Accept => {
                    for port in 0..3 {
                        if let Poll::Ready(Some(id)) = with_cx(|cx| mux.poll_accept(port, cx)) {
                            held.push(id);
                        }
                    }
                }
                Step::Connect => held.extend(mux.connect(1)),
                Step::Read(i, n) => if let Some(id) = pick(i) {
                    let mut buf = vec![0; n];
                    with_cx(|cx| mux.read(id, &mut buf, cx));
                },
                Step::Write(i, n) => if let Some(id) = pick(i) {
                    with_cx(|cx| mux.write(id, &vec![1; n], cx));
                },
                Step::Finish(i) => if let Some(id) = pick(i) { mux.finish_writing(id) },
                Step::Drop(i) => if let Some(id) = pick(i) {
                    held.retain(|h| *h != id);
                    mux.detach(id);
                },
            }
            prop_assert!(mux.by_ports.len() <= mux.entries.len());
            prop_assert!(mux.ready.len() <= mux.entries.len() + 200);
            for entry in mux.entries.values() {
                let (received, outgoing) = entry.connection.buffered();
                prop_assert!(received <= RECEIVE_LIMIT as usize && outgoing <= SEND_LIMIT);
            }
        }
        // Whatever happened, letting go of everything leaves nothing behind once the device closes.
        held.into_iter().for_each(|id| mux.detach(id));
        (0..3).for_each(|port| mux.unlisten(port));
        mux.close();
        prop_assert!(mux.entries.is_empty() && mux.by_ports.is_empty());
    }

    #[test]
    fn bytes_arrive_whole_and_in_order_under_any_credit(
        data in prop::collection::vec(any::<u8>(), 0..50_000),
        window in 1..9_000_u32,
        room in 1..5_000_usize,
    ) {
        let mut mux = Mux::default();
        mux.listen(7).unwrap();
        mux.receive(&Header { buf_alloc: window, ..packet(Op::Request, 50, 7) }, &[]);
        let Poll::Ready(Some(id)) = with_cx(|cx| mux.poll_accept(7, cx)) else { panic!() };
        let (mut sent, mut got, mut payload) = (0, Vec::new(), Vec::new());
        let mut end = false;
        while !end {
            if sent < data.len() {
                if let WriteOutcome::Bytes(n) = with_cx(|cx| mux.write(id, &data[sent..], cx)) {
                    sent += n;
                }
                if sent == data.len() {
                    mux.finish_writing(id);
                }
            } else if data.is_empty() {
                mux.finish_writing(id);
            }
            let before = got.len();
            while let Some(h) = mux.emit(room, &mut payload) {
                got.extend_from_slice(&payload);
                end |= h.op == Op::Shutdown;
            }
            prop_assert!(got.len() - before <= window as usize, "more than the window in flight");
            let fwd_cnt = got.len() as u32;
            mux.receive(&Header { buf_alloc: window, fwd_cnt, ..packet(Op::CreditUpdate, 50, 7) }, &[]);
        }
        prop_assert_eq!(got, data);
    }
}
