//! The header of a virtio-vsock packet (VIRTIO 1.2, 5.10.6): 44 bytes, little endian.

/// Size of a header on the wire.
pub(crate) const HEADER_SIZE: usize = 44;

/// Most payload bytes of one packet: what Linux sends at most (`VIRTIO_VSOCK_MAX_PKT_BUF_SIZE`).
pub(crate) const MAX_PAYLOAD: usize = 64 * 1024;

/// Socket type "stream" (5.10.6.1); the only one offered.
pub(crate) const TYPE_STREAM: u16 = 1;

/// SHUTDOWN flag: the sender will receive no more data (5.10.6.4).
pub(crate) const SHUTDOWN_RECEIVE: u32 = 1;
/// SHUTDOWN flag: the sender will send no more data.
pub(crate) const SHUTDOWN_SEND: u32 = 2;
/// Both SHUTDOWN flags.
pub(crate) const SHUTDOWN_BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// What a packet does (5.10.6, `enum virtio_vsock_op`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Request,
    Response,
    Reset,
    Shutdown,
    Data,
    CreditUpdate,
    CreditRequest,
    /// A number the specification does not name; only ever received.
    Unknown(u16),
}

impl Op {
    fn from_wire(value: u16) -> Self {
        match value {
            1 => Op::Request,
            2 => Op::Response,
            3 => Op::Reset,
            4 => Op::Shutdown,
            5 => Op::Data,
            6 => Op::CreditUpdate,
            7 => Op::CreditRequest,
            other => Op::Unknown(other),
        }
    }

    fn to_wire(self) -> u16 {
        match self {
            Op::Request => 1,
            Op::Response => 2,
            Op::Reset => 3,
            Op::Shutdown => 4,
            Op::Data => 5,
            Op::CreditUpdate => 6,
            Op::CreditRequest => 7,
            Op::Unknown(other) => other,
        }
    }
}

/// A decoded header; every field as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub src_cid: u64,
    pub dst_cid: u64,
    pub src_port: u32,
    pub dst_port: u32,
    pub len: u32,
    pub kind: u16,
    pub op: Op,
    pub flags: u32,
    pub buf_alloc: u32,
    pub fwd_cnt: u32,
}

impl Header {
    /// Decodes; every 44 bytes are some header, judging it is the receiver's business.
    pub fn decode(bytes: &[u8; HEADER_SIZE]) -> Self {
        let mut fields = Fields { bytes, at: 0 };
        Header {
            src_cid: u64::from_le_bytes(fields.take()),
            dst_cid: u64::from_le_bytes(fields.take()),
            src_port: u32::from_le_bytes(fields.take()),
            dst_port: u32::from_le_bytes(fields.take()),
            len: u32::from_le_bytes(fields.take()),
            kind: u16::from_le_bytes(fields.take()),
            op: Op::from_wire(u16::from_le_bytes(fields.take())),
            flags: u32::from_le_bytes(fields.take()),
            buf_alloc: u32::from_le_bytes(fields.take()),
            fwd_cnt: u32::from_le_bytes(fields.take()),
        }
    }

    /// Encodes to the wire form.
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut out = [0; HEADER_SIZE];
        let parts: [&[u8]; 10] = [
            &self.src_cid.to_le_bytes(),
            &self.dst_cid.to_le_bytes(),
            &self.src_port.to_le_bytes(),
            &self.dst_port.to_le_bytes(),
            &self.len.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &self.op.to_wire().to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.buf_alloc.to_le_bytes(),
            &self.fwd_cnt.to_le_bytes(),
        ];
        for (to, from) in out.iter_mut().zip(parts.iter().flat_map(|p| p.iter())) {
            *to = *from;
        }
        out
    }
}

struct Fields<'a> {
    bytes: &'a [u8; HEADER_SIZE],
    at: usize,
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        for (to, from) in out.iter_mut().zip(self.bytes.iter().skip(self.at)) {
            *to = *from;
        }
        self.at += N;
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_lie_where_the_specification_puts_them() {
        let header = Header {
            src_cid: 2,
            dst_cid: 3,
            src_port: 0x0403_0201,
            dst_port: 1024,
            len: 7,
            kind: TYPE_STREAM,
            op: Op::Data,
            flags: SHUTDOWN_SEND,
            buf_alloc: 0x11,
            fwd_cnt: 0x22,
        };
        let bytes = header.encode();
        assert_eq!(bytes[0..8], 2u64.to_le_bytes());
        assert_eq!(bytes[16..20], [1, 2, 3, 4]);
        assert_eq!(bytes[28..32], [1, 0, 5, 0]);
        assert_eq!(bytes[40..44], [0x22, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn any_bytes_survive_a_round_trip(bytes in prop::collection::vec(any::<u8>(), HEADER_SIZE)) {
            let bytes: [u8; HEADER_SIZE] = bytes.try_into().unwrap();
            prop_assert_eq!(Header::decode(&bytes).encode(), bytes);
        }
    }
}
