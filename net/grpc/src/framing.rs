//! gRPC's length-prefixed messages: one byte 0 (not compressed), the length as four big-endian bytes, the message.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Body;
use protobuf::rt::WireType;
use protobuf::{CodedInputStream, Message};

use crate::{Code, Status};

/// Bytes before each message.
pub const PREFIX: usize = 5;
/// Most fields of a message's outermost level: a field of two bytes may become a hundred in memory.
const MAX_FIELDS: usize = 16 * 1024;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The flag says compressed.
    #[error("a compressed message, which is not supported")]
    Compressed,
    /// The stream ended within a message.
    #[error("a message cut short")]
    Truncated,
    /// No message where there must be one.
    #[error("no message")]
    Missing,
    /// Another message where there may be only one.
    #[error("more than one message")]
    Trailing,
    /// More bytes than allowed.
    #[error("a message larger than {0} bytes")]
    TooLarge(usize),
    /// Not protobuf, or not this message, or one of too many fields.
    #[error("a malformed message")]
    Malformed,
    /// The transport failed.
    #[error("a broken stream")]
    Broken,
}

impl FrameError {
    /// The status of a call whose request was so.
    pub(crate) fn of_request(self) -> Status {
        let code = match self {
            FrameError::Compressed => Code::Unimplemented,
            FrameError::TooLarge(_) => Code::ResourceExhausted,
            FrameError::Broken => Code::Cancelled,
            _ => Code::InvalidArgument,
        };
        Status::new(code, format!("the request is {self}"))
    }

    /// The status of a call whose answer was so.
    pub(crate) fn of_answer(self) -> Status {
        let code = match self {
            FrameError::TooLarge(_) => Code::ResourceExhausted,
            FrameError::Broken => Code::Unavailable,
            _ => Code::Internal,
        };
        Status::new(code, format!("the answer is {self}"))
    }
}

/// Splits a stream of bytes into messages of at most `limit` bytes each.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    limit: usize,
}

impl Decoder {
    /// An empty one.
    pub fn new(limit: usize) -> Self {
        Decoder { buffer: BytesMut::new(), limit }
    }

    /// Takes the next bytes. With [`Decoder::message`] called until it gives none after each, at most `limit` + 5 bytes
    /// and those of the last call are held.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, still encoded; `None` until there is one.
    ///
    /// # Errors
    /// [`FrameError::Compressed`], [`FrameError::Malformed`] for another flag, [`FrameError::TooLarge`] as soon as the
    /// prefix is there.
    pub fn message(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(&[flag, a, b, c, d]) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        match flag {
            0 => {}
            1 => return Err(FrameError::Compressed),
            _ => return Err(FrameError::Malformed),
        }
        let too_large = FrameError::TooLarge(self.limit);
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(|_| too_large)?;
        if length > self.limit {
            return Err(too_large);
        }
        if self.buffer.len().saturating_sub(PREFIX) < length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Whether nothing is left of what was taken.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// Frames a message.
pub(crate) fn frame(message: &impl Message) -> Result<Bytes, Status> {
    let unfit = |e: protobuf::Error| Status::new(Code::Internal, format!("a message cannot be encoded: {e}"));
    let encoded = message.write_to_bytes().map_err(unfit)?;
    let mut framed = BytesMut::with_capacity(PREFIX.saturating_add(encoded.len()));
    let length = u32::try_from(encoded.len())
        .map_err(|_| Status::new(Code::ResourceExhausted, "a message of 4 GiB or more"))?;
    framed.put_u8(0);
    framed.put_u32(length);
    framed.extend_from_slice(&encoded);
    Ok(framed.freeze())
}

/// Decodes a message of at most 16384 fields on its outermost level.
///
/// # Errors
/// [`FrameError::Malformed`].
pub fn parse<M: Message>(message: &[u8]) -> Result<M, FrameError> {
    let malformed = |_| FrameError::Malformed;
    let mut fields = CodedInputStream::from_bytes(message);
    for _ in 0..MAX_FIELDS {
        match fields.read_raw_tag_or_eof().map_err(malformed)? {
            None => return M::parse_from_bytes(message).map_err(malformed),
            Some(tag) => {
                let wire = WireType::new(tag & 7).filter(|_| tag > 7).ok_or(FrameError::Malformed)?;
                fields.skip_field(wire).map_err(malformed)?;
            }
        }
    }
    if fields.eof().map_err(malformed)? {
        M::parse_from_bytes(message).map_err(malformed)
    } else {
        Err(FrameError::Malformed)
    }
}

/// A body as messages, and the trailers after them.
pub(crate) struct Messages<B> {
    body: B,
    decoder: Decoder,
    trailers: HeaderMap,
    ended: bool,
}

impl<B> Messages<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    pub fn new(body: B, limit: usize) -> Self {
        Messages { body, decoder: Decoder::new(limit), trailers: HeaderMap::new(), ended: false }
    }

    /// The next message; `None` at the end, from when on the trailers are there.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(message) = self.decoder.message()? {
                return Ok(Some(message));
            }
            if self.ended {
                return if self.decoder.is_empty() { Ok(None) } else { Err(FrameError::Truncated) };
            }
            match self.body.frame().await {
                None => self.ended = true,
                Some(Err(_)) => return Err(FrameError::Broken),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.decoder.push(&data),
                    Err(frame) => {
                        self.trailers = frame.into_trailers().unwrap_or_default();
                        self.ended = true;
                    }
                },
            }
        }
    }

    /// The one message of a body.
    pub async fn only(&mut self) -> Result<Bytes, FrameError> {
        let message = self.next().await?.ok_or(FrameError::Missing)?;
        match self.next().await? {
            None => Ok(message),
            Some(_) => Err(FrameError::Trailing),
        }
    }

    /// The trailers; empty before the end.
    pub fn trailers(&self) -> &HeaderMap {
        &self.trailers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protobuf::well_known_types::field_mask::FieldMask;
    use protobuf::well_known_types::wrappers::BytesValue;

    use super::*;

    fn value(bytes: &[u8]) -> BytesValue {
        BytesValue { value: bytes.to_vec(), ..BytesValue::default() }
    }

    fn all(decoder: &mut Decoder) -> Result<Vec<Bytes>, FrameError> {
        std::iter::from_fn(|| decoder.message().transpose()).collect()
    }

    #[test]
    fn frames_are_as_specified() {
        assert_eq!(frame(&value(b"x")).unwrap().as_ref(), [0, 0, 0, 0, 3, 0x0a, 1, b'x']);
        assert_eq!(frame(&value(b"")).unwrap().as_ref(), [0; 5]);
    }

    #[test]
    fn malformed_frames_are_named() {
        for (bytes, error) in [
            (&[1, 0, 0, 0, 1, 7][..], FrameError::Compressed),
            (&[2, 0, 0, 0, 1, 7], FrameError::Malformed),
            (&[0, 0xff, 0xff, 0xff, 0xff], FrameError::TooLarge(4)),
            (&[0, 0, 0, 0, 5], FrameError::TooLarge(4)),
        ] {
            let mut decoder = Decoder::new(4);
            decoder.push(bytes);
            assert_eq!(all(&mut decoder).unwrap_err(), error, "{bytes:?}");
        }
    }

    #[test]
    fn many_fields_and_nonsense_are_refused() {
        let fields = |n: usize| [0x0a, 0].repeat(n);
        assert_eq!(parse::<FieldMask>(&fields(MAX_FIELDS)).unwrap().paths.len(), MAX_FIELDS);
        assert_eq!(parse::<FieldMask>(&fields(MAX_FIELDS + 1)), Err(FrameError::Malformed));
        for bad in [&[0x0a][..], &[0x0a, 5, 1], &[0x00], &[0x07], &[0xff; 12]] {
            assert_eq!(parse::<FieldMask>(bad), Err(FrameError::Malformed), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, cut in 0usize..64) {
            let mut decoder = Decoder::new(16);
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            for part in [first, second] {
                decoder.push(part);
                match all(&mut decoder) {
                    Ok(messages) => prop_assert!(messages.iter().all(|m| m.len() <= 16)),
                    Err(_) => return Ok(()),
                }
            }
            let _ = parse::<FieldMask>(&bytes);
        }

        #[test]
        fn messages_round_trip_however_they_are_cut(bodies: Vec<Vec<u8>>, size in 1usize..32) {
            let mut stream = Vec::new();
            for body in &bodies {
                stream.extend_from_slice(&frame(&value(body)).unwrap());
            }
            let (mut decoder, mut read) = (Decoder::new(1 << 20), Vec::new());
            for part in stream.chunks(size) {
                decoder.push(part);
                for message in all(&mut decoder).unwrap() {
                    read.push(parse::<BytesValue>(&message).unwrap().value);
                }
            }
            prop_assert!(decoder.is_empty());
            prop_assert_eq!(read, bodies);
        }
    }
}
