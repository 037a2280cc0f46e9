//! One signed message as `gpg --sign` writes it: a one-pass header, the data, the signature; mostly compressed as a whole.

use cocoon_image::Error;
use flate2::{Decompress, FlushDecompress, Status};

use super::packet::{self, Packet};
use super::signature::{self, Signature};
use super::{Fields, Keyring, armor, invalid};

/// The longest message, packed.
const MAX_MESSAGE: usize = 128 * 1024;
/// The longest message, unpacked: no more than a few times the longest payload.
const MAX_UNPACKED: usize = 256 * 1024;

/// A signed message. Its data is worth nothing until [`Message::verify`] gives it.
pub(in crate::simple) struct Message {
    signature: Signature,
    data: Vec<u8>,
}

impl Message {
    /// Reads exactly one message, binary or armored; nothing may follow it.
    pub(in crate::simple) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_MESSAGE {
            return Err(invalid(format!("is longer than {MAX_MESSAGE} bytes")));
        }
        let decoded = armor::decode(bytes, "MESSAGE").transpose().map_err(invalid)?;
        let bytes = decoded.as_deref().unwrap_or(bytes);
        let (first, rest) = packet::next(bytes).ok_or_else(|| invalid("is not an OpenPGP message"))?;
        if first.tag != packet::COMPRESSED {
            return Message::packets(bytes);
        }
        if !rest.is_empty() {
            return Err(invalid("something follows the compressed packet"));
        }
        Message::packets(&unpack(&first.body)?)
    }

    fn packets(bytes: &[u8]) -> Result<Self, Error> {
        let mut rest = bytes;
        let mut expect = |tag: u8, what: &str| -> Result<Packet<'_>, Error> {
            let (packet, after) = packet::next(rest).ok_or_else(|| invalid(format!("{what} is missing")))?;
            if packet.tag != tag {
                return Err(invalid(format!("a packet of kind {} where {what} should be", packet.tag)));
            }
            rest = after;
            Ok(packet)
        };
        let header = expect(packet::ONE_PASS, "a one-pass header")?.body;
        let literal = expect(packet::LITERAL, "the data")?.body;
        let signature = expect(packet::SIGNATURE, "the signature")?.body;
        if !rest.is_empty() {
            return Err(invalid("something follows the signature"));
        }
        let signature = Signature::parse(&signature).map_err(|why| invalid(format!("a signature {why}")))?;
        if signature.kind != signature::BINARY {
            return Err(invalid(format!(
                "a signature of type {:#04x}, not over binary data",
                signature.kind
            )));
        }
        let announced = [3, signature.kind, signature.hash_id, signature.algorithm];
        if header.len() != 13 || !header.starts_with(&announced) || header.last() != Some(&1) {
            return Err(invalid("header and signature do not belong together"));
        }
        let data = literal_data(&literal).ok_or_else(|| invalid("its data is not binary literal data"))?;
        Ok(Message { signature, data: data.to_vec() })
    }

    /// The data, and the primary fingerprint of its signer.
    pub(in crate::simple) fn verify(
        self,
        keyring: &Keyring,
        now_unix: u64,
    ) -> Result<(Vec<u8>, String), Error> {
        let signer = keyring.signer(&self.signature, &self.data, now_unix)?;
        Ok((self.data, signer))
    }
}

/// The content of a literal packet: after format, file name and date, none of which is signed.
fn literal_data(body: &[u8]) -> Option<&[u8]> {
    let mut fields = Fields(body);
    if fields.byte()? != b'b' {
        return None;
    }
    let name = usize::from(fields.byte()?);
    fields.take(name)?;
    fields.take(4)?;
    Some(fields.0)
}

fn unpack(body: &[u8]) -> Result<Vec<u8>, Error> {
    let (algorithm, packed) = body.split_first().ok_or_else(|| invalid("its compressed packet is empty"))?;
    let mut unpacker = match algorithm {
        0 => return Ok(packed.to_vec()),
        1 => Decompress::new(false),
        2 => Decompress::new(true),
        3 => return Err(invalid("it is compressed with bzip2; sign with ZIP or ZLIB")),
        other => return Err(invalid(format!("it is compressed with unknown algorithm {other}"))),
    };
    // One byte more than allowed tells "too long" from "just fits".
    let mut unpacked = Vec::with_capacity(MAX_UNPACKED + 1);
    let corrupt = || invalid("its compressed packet is corrupt");
    let status = unpacker.decompress_vec(packed, &mut unpacked, FlushDecompress::Finish);
    if unpacked.len() > MAX_UNPACKED {
        return Err(invalid(format!("is longer than {MAX_UNPACKED} bytes when unpacked")));
    }
    match status {
        Ok(Status::StreamEnd) if usize::try_from(unpacker.total_in()) == Ok(packed.len()) => Ok(unpacked),
        Ok(Status::StreamEnd) => Err(invalid("something follows the compressed data")),
        _ => Err(corrupt()),
    }
}
