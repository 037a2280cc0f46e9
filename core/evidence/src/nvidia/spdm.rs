//! The attestation report: an SPDM 1.1 GET_MEASUREMENTS request and the MEASUREMENTS response to it, one after the other.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | request: version `11`, code `e0`, attributes `01` (signed), operation `ff` (all measurements) |
//! | 4 | nonce of the request, 32 |
//! | 36 | slot of the certificate chain |
//! | 37 | response: version `11`, code `60`, 0, slot, number of blocks, length of the record (3) |
//! | 45 | measurement record: blocks of index, specification `01` (DMTF), size (2), type, size (2), value |
//! | … | nonce of the response, 32; length of the opaque data (2); opaque data; signature r ‖ s, 96 |
//!
//! Numbers are little-endian. Signed with ECDSA P-384 and SHA-384 is everything before the signature. Source: DSP0274 1.1.1,
//! sections 10.11.1 to 10.11.4. Some drivers hand out a buffer that is a little longer than the message; what follows must
//! be zero and counts for nothing.

use super::evidence::Architecture;
use super::opaque::Opaque;
use crate::Error;
use crate::reader::Reader;

const WHAT: &str = "NVIDIA attestation report";
const VERSION: u8 = 0x11;
const GET_MEASUREMENTS: u8 = 0xe0;
const MEASUREMENTS: u8 = 0x60;
/// Signature length of P-384, which all supported devices use.
const SIGNATURE: usize = 96;
/// Longest report; real ones have about 4 kB.
pub(crate) const MAX_REPORT: usize = 16 * 1024;
/// Most zero bytes after the message.
const MAX_PADDING: usize = 16;

/// One measurement block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// SPDM's index, from 1. A manifest counts from 0.
    pub index: u8,
    /// DMTF's type of the value.
    pub value_type: u8,
    /// The value; 48 bytes for a digest.
    pub value: Vec<u8>,
}

/// A parsed report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    raw: Vec<u8>,
    signed: usize,
    /// The requester's nonce.
    pub nonce: [u8; 32],
    /// The device's own nonce.
    pub response_nonce: [u8; 32],
    /// The blocks in the device's order, no index twice.
    pub measurements: Vec<Measurement>,
    /// What the device says of itself.
    pub opaque: Opaque,
}

impl Report {
    /// Parses a report of a device of that architecture.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::Unsupported`] for another SPDM version, request or opaque field.
    pub fn parse(bytes: &[u8], architecture: Architecture) -> Result<Self, Error> {
        if bytes.len() > MAX_REPORT {
            return Err(Reader::new(WHAT, bytes).error("longer than 16 KiB"));
        }
        let mut r = Reader::new(WHAT, bytes);
        let [version, code, attributes, operation] = r.array()?;
        supported("SPDM version", version == VERSION, version)?;
        if code != GET_MEASUREMENTS {
            return Err(r.error("the request is not GET_MEASUREMENTS"));
        }
        supported("GET_MEASUREMENTS attributes", attributes == 1, attributes)?;
        supported("GET_MEASUREMENTS operation", operation == 0xff, operation)?;
        let nonce = r.array()?;
        let slot = r.u8()?;
        let [version, code, count, param2] = r.array()?;
        supported("SPDM version", version == VERSION, version)?;
        if code != MEASUREMENTS || count != 0 {
            return Err(r.error("the response is not MEASUREMENTS"));
        }
        // Slots are 0 to 7; the other bits are reserved.
        if slot > 7 || param2 != slot {
            return Err(r.error("the slots of request and response are not one slot"));
        }
        let blocks = r.u8()?;
        let [low, middle, high] = r.array()?;
        let length = u32::from_le_bytes([low, middle, high, 0]);
        let length = usize::try_from(length).map_err(|_| r.error("the record is too long"))?;
        let mut record = r.part("SPDM measurement record", length)?;
        let measurements = blocks_of(&mut record, blocks)?;
        let response_nonce = r.array()?;
        let length = usize::from(r.u16_le()?);
        let opaque = Opaque::parse(r.take(length)?, architecture)?;
        let signed = r.position();
        r.take(SIGNATURE)?;
        let padding = r.rest();
        if padding.len() > MAX_PADDING || padding.iter().any(|b| *b != 0) {
            return Err(r.error("something follows the signature"));
        }
        Ok(Report { raw: bytes.to_vec(), signed, nonce, response_nonce, measurements, opaque })
    }

    /// The report as it came.
    pub fn as_bytes(&self) -> &[u8] {
        &self.raw
    }

    /// The message that is signed.
    pub(super) fn message(&self) -> &[u8] {
        self.raw.get(..self.signed).unwrap_or_default()
    }

    /// r and s.
    pub(super) fn signature(&self) -> &[u8] {
        self.raw.get(self.signed..).and_then(|rest| rest.get(..SIGNATURE)).unwrap_or_default()
    }

    /// The measurement that a manifest calls `index`, which counts from 0 where SPDM counts from 1.
    pub(super) fn manifest_index(&self, index: u16) -> Option<&Measurement> {
        self.measurements.iter().find(|m| u16::from(m.index) == index.saturating_add(1))
    }
}

fn blocks_of(record: &mut Reader<'_>, count: u8) -> Result<Vec<Measurement>, Error> {
    let mut blocks: Vec<Measurement> = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let index = record.u8()?;
        let specification = record.u8()?;
        // 0 and 255 are reserved (operations of the request).
        if matches!(index, 0 | 0xff) || blocks.iter().any(|known| known.index == index) {
            return Err(record.error("an index is reserved or occurs twice"));
        }
        supported("SPDM measurement specification", specification == 1, specification)?;
        let size = usize::from(record.u16_le()?);
        let mut block = record.part("SPDM measurement block", size)?;
        let value_type = block.u8()?;
        let size = usize::from(block.u16_le()?);
        let value = block.take(size)?.to_vec();
        block.finish()?;
        blocks.push(Measurement { index, value_type, value });
    }
    record.finish()?;
    if blocks.is_empty() {
        return Err(record.error("it has no measurement"));
    }
    Ok(blocks)
}

fn supported(what: &'static str, known: bool, got: u8) -> Result<(), Error> {
    if known { Ok(()) } else { Err(Error::Unsupported { what, got: format!("{got:#04x}") }) }
}
