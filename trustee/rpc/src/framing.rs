//! gRPC's length-prefixed messages (PROTOCOL-HTTP2.md of gRPC's documentation), for calls of one message each way.
//!
//! A frame is one byte 0 (not compressed), the length as four big-endian bytes, and the message.

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};

/// Bytes before each message.
pub(crate) const PREFIX: usize = 5;
/// Most fields of a message's outermost level. A field of two bytes may become a hundred in memory.
const MAX_FIELDS: usize = 64;

/// Why bytes are not one message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFrame {
    /// The flag says compressed.
    #[error("a compressed message, which is not supported")]
    Compressed,
    /// Fewer bytes than the prefix says, or no prefix.
    #[error("a message cut short")]
    Truncated,
    /// More bytes than the prefix says.
    #[error("more than one message")]
    Trailing,
    /// More bytes than allowed.
    #[error("a message larger than {0} bytes")]
    TooLarge(usize),
    /// Not protobuf, or not this message.
    #[error("a malformed message")]
    Malformed,
    /// The transport failed.
    #[error("a broken stream")]
    Broken,
}

/// Frames a message.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX.saturating_add(length));
    framed.put_u8(0);
    // Messages of 4 GiB are not made here; the peer would refuse a wrong length.
    framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // Fails for buffers that cannot grow only.
    let _ = message.encode(&mut framed);
    framed.freeze()
}

/// The one message in `framed`, still encoded.
pub(crate) fn unframe(mut framed: Bytes, limit: usize) -> Result<Bytes, BadFrame> {
    let Some(&[flag, a, b, c, d]) = framed.first_chunk::<PREFIX>() else { return Err(BadFrame::Truncated) };
    match flag {
        0 => {}
        1 => return Err(BadFrame::Compressed),
        _ => return Err(BadFrame::Malformed),
    }
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(|_| BadFrame::TooLarge(limit))?;
    if length > limit {
        return Err(BadFrame::TooLarge(limit));
    }
    let message = framed.split_off(PREFIX);
    match message.len().cmp(&length) {
        std::cmp::Ordering::Less => Err(BadFrame::Truncated),
        std::cmp::Ordering::Equal => Ok(message),
        std::cmp::Ordering::Greater => Err(BadFrame::Trailing),
    }
}

/// Reads a body that is one message of at most `limit` bytes; gives its trailers too.
pub(crate) async fn read<B>(body: B, limit: usize) -> Result<(Bytes, HeaderMap), BadFrame>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let collected = Limited::new(body, limit.saturating_add(PREFIX)).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() { BadFrame::TooLarge(limit) } else { BadFrame::Broken }
    })?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok((collected.to_bytes(), trailers))
}

/// Decodes a message of at most 64 fields on its outermost level.
pub(crate) fn decode<M: Message + Default>(message: &Bytes) -> Result<M, BadFrame> {
    let mut rest = message.clone();
    for _ in 0..MAX_FIELDS {
        if rest.is_empty() {
            return M::decode(message.clone()).map_err(|_| BadFrame::Malformed);
        }
        decode_key(&mut rest)
            .and_then(|(tag, wire)| skip_field(wire, tag, &mut rest, DecodeContext::default()))
            .map_err(|_| BadFrame::Malformed)?;
    }
    if rest.is_empty() {
        M::decode(message.clone()).map_err(|_| BadFrame::Malformed)
    } else {
        Err(BadFrame::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::messages::{AttestationRequest, ChallengeRequest, PluginResponse};

    #[test]
    fn frames_are_as_specified() {
        let message = PluginResponse { body: b"x".to_vec(), status_code: 0, content_type: String::new() };
        assert_eq!(frame(&message).as_ref(), [0, 0, 0, 0, 3, 0x0a, 1, b'x']);
        assert_eq!(frame(&PluginResponse::default()).as_ref(), [0; 5]);
    }

    #[test]
    fn malformed_frames_are_named() {
        let of = |bytes: &'static [u8]| unframe(Bytes::from_static(bytes), 4);
        assert_eq!(of(&[0, 0, 0, 0, 1, 7]).unwrap().as_ref(), [7]);
        for (bytes, error) in [
            (&[][..], BadFrame::Truncated),
            (&[0, 0, 0, 0], BadFrame::Truncated),
            (&[0, 0, 0, 0, 2, 7], BadFrame::Truncated),
            (&[0, 0, 0, 0, 1, 7, 8], BadFrame::Trailing),
            (&[1, 0, 0, 0, 1, 7], BadFrame::Compressed),
            (&[2, 0, 0, 0, 1, 7], BadFrame::Malformed),
            (&[0, 0xff, 0xff, 0xff, 0xff], BadFrame::TooLarge(4)),
        ] {
            assert_eq!(of(bytes).unwrap_err(), error, "{bytes:?}");
        }
    }

    #[test]
    fn many_empty_fields_are_refused() {
        let fields = |n: usize| Bytes::from([0x0a, 0].repeat(n));
        assert_eq!(decode::<AttestationRequest>(&fields(64)).unwrap().verification_requests.len(), 64);
        assert_eq!(decode::<AttestationRequest>(&fields(65)).unwrap_err(), BadFrame::Malformed);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            let _ = decode::<AttestationRequest>(&bytes);
            let _ = decode::<ChallengeRequest>(&bytes);
            if let Ok(message) = unframe(bytes.clone(), 16) {
                prop_assert!(message.len() <= 16 && message.len() + PREFIX == bytes.len());
            }
        }

        #[test]
        fn framing_round_trips(body: Vec<u8>, status_code: i32, content_type: String) {
            let message = PluginResponse { body, status_code, content_type };
            let back = unframe(frame(&message), 1 << 20).unwrap();
            prop_assert!(decode::<PluginResponse>(&back).unwrap() == message);
        }
    }
}
