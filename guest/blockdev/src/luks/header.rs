//! The binary header, twice on the disk, each copy followed by its JSON text (LUKS2 On-Disk Format Specification 1.1.x,
//! section 2.1). All numbers are big-endian.
//!
//! The disk is the host's: sizes are bounded before anything is read by them, and of two copies the one with the larger
//! sequence number counts, where its checksum is right.

use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroize;

use super::Problem;
use super::metadata::Metadata;

/// Bytes of the binary part.
pub(super) const BINARY: usize = 4096;
/// Bytes of one copy as this crate writes it, JSON included.
pub(super) const COPY: usize = 16 << 10;
/// Sizes of a copy that are read; the format knows up to 4 MiB, cryptsetup writes the first.
const COPIES: [usize; 4] = [COPY, 32 << 10, 64 << 10, 128 << 10];
/// How much of a disk's beginning holds both copies at most.
pub(super) const MOST: usize = 2 * (128 << 10);
const FIRST: &[u8; 6] = b"LUKS\xba\xbe";
const SECOND: &[u8; 6] = b"SKUL\xba\xbe";
const VERSION: u16 = 2;
const CHECKSUM: std::ops::Range<usize> = 448..512;
/// SHA-256's name in the field of 32 bytes.
const ALGORITHM: &[u8] = b"sha256";

/// Which of the two copies is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repair {
    /// Both, and they agree.
    None,
    /// The first one is to be written anew.
    First,
    /// The second one is.
    Second,
}

/// A header that was read.
#[derive(Debug)]
pub struct Header {
    /// As the disk has it: for messages alone.
    pub uuid: String,
    /// What the JSON says, checked.
    pub(super) metadata: Metadata,
    pub(super) repair: Repair,
    /// The good copy.
    copy: Vec<u8>,
}

/// What the beginning of a disk is.
#[derive(Debug)]
pub enum Found {
    /// Nothing that looks like a header.
    Nothing,
    /// A header.
    Header(Box<Header>),
}

/// A copy whose checksum is right.
struct Copy<'a> {
    sequence: u64,
    bytes: &'a [u8],
}

/// Looks for a header at the beginning of a disk of `disk_bytes`; `start` is that beginning, 256 KiB or the whole disk.
///
/// # Errors
/// [`Problem::Foreign`] for a header that is damaged in both copies, too large, of another version, or says something
/// that is not taken here.
pub fn find(start: &[u8], disk_bytes: u64) -> Result<Found, Problem> {
    let first = copy_at(start, 0, FIRST);
    let size = first.as_ref().map_or(0, |c| c.bytes.len());
    // Where the first copy is damaged its size is not known: the second one is at one of a few places.
    let second = match size {
        0 => COPIES.iter().find_map(|at| copy_at(start, *at, SECOND)),
        size => copy_at(start, size, SECOND),
    };
    let (copy, repair) = match (first, second) {
        (Some(first), Some(second)) if second.sequence > first.sequence => (second, Repair::First),
        (Some(first), Some(second)) if second.sequence < first.sequence => (first, Repair::Second),
        (Some(first), Some(_)) => (first, Repair::None),
        (Some(first), None) => (first, Repair::Second),
        (None, Some(second)) => (second, Repair::First),
        (None, None) if start.starts_with(FIRST) => {
            return Err(Problem::foreign("its LUKS header is damaged, or of another kind than LUKS2"));
        }
        (None, None) => return Ok(Found::Nothing),
    };
    let json = copy.bytes.get(BINARY..).unwrap_or_default();
    let end = json.iter().position(|b| *b == 0).unwrap_or(json.len());
    let metadata = Metadata::read(json.get(..end).unwrap_or_default(), copy.bytes.len(), disk_bytes)?;
    let uuid = copy.bytes.get(168..208).unwrap_or_default();
    let uuid = uuid.iter().take_while(|b| b.is_ascii_graphic()).map(|b| char::from(*b)).collect();
    Ok(Found::Header(Box::new(Header { uuid, metadata, repair, copy: copy.bytes.to_vec() })))
}

fn copy_at<'a>(start: &'a [u8], at: usize, magic: &[u8]) -> Option<Copy<'a>> {
    let rest = start.get(at..)?;
    let version = u16::from_be_bytes(*rest.get(6..)?.first_chunk()?);
    if !rest.starts_with(magic) || version != VERSION {
        return None;
    }
    let size = usize::try_from(number(rest, 8)?).ok().filter(|size| COPIES.contains(size))?;
    let bytes = rest.get(..size)?;
    let algorithm = bytes.get(72..104)?;
    let named = algorithm.starts_with(ALGORITHM) && algorithm.iter().skip(ALGORITHM.len()).all(|b| *b == 0);
    let right = named
        && number(bytes, 256)? == u64::try_from(at).ok()?
        && checksum(bytes) == *bytes.get(CHECKSUM)?.first_chunk::<32>()?;
    right.then_some(Copy { sequence: number(bytes, 16)?, bytes })
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_be_bytes(*b))
}

/// Of a whole copy, with its own field as zeros.
fn checksum(copy: &[u8]) -> [u8; 32] {
    let mut copy = copy.to_vec();
    if let Some(field) = copy.get_mut(CHECKSUM) {
        field.zeroize();
    }
    digest(&SHA256, &copy).as_ref().first_chunk().copied().unwrap_or_default()
}

impl Header {
    /// The copy that is to be written, and where: of the good one's content.
    pub(super) fn repaired(&self) -> Option<(u64, Vec<u8>)> {
        let size = u64::try_from(self.copy.len()).ok()?;
        match self.repair {
            Repair::None => None,
            Repair::First => Some((0, placed(self.copy.clone(), FIRST, 0))),
            Repair::Second => Some((size, placed(self.copy.clone(), SECOND, size))),
        }
    }
}

/// Both copies of a new header: first the second one, which begins at its own length.
pub(super) fn both(json: &[u8], uuid: &str, salts: &[[u8; 64]; 2]) -> Option<(Vec<u8>, Vec<u8>)> {
    let make = |salt: &[u8; 64], magic, at: u64| {
        let mut copy = vec![0; COPY];
        let mut put = |at: usize, bytes: &[u8]| {
            copy.get_mut(at..at + bytes.len()).map(|place| place.copy_from_slice(bytes))
        };
        put(6, &VERSION.to_be_bytes())?;
        put(8, &u64::try_from(COPY).ok()?.to_be_bytes())?;
        put(16, &1_u64.to_be_bytes())?;
        put(72, ALGORITHM)?;
        put(104, salt)?;
        put(168, uuid.as_bytes().get(..39.min(uuid.len()))?)?;
        put(BINARY, json)?;
        // The text ends with a zero.
        (BINARY + json.len() < COPY).then(|| placed(copy, magic, at))
    };
    let [one, other] = salts;
    Some((make(one, FIRST, 0)?, make(other, SECOND, u64::try_from(COPY).ok()?)?))
}

/// The copy as it belongs at that place.
fn placed(mut copy: Vec<u8>, magic: &[u8; 6], at: u64) -> Vec<u8> {
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = copy.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, magic);
    put(256, &at.to_be_bytes());
    put(CHECKSUM.start, &[0; 64]);
    let sum = checksum(&copy);
    if let Some(place) = copy.get_mut(CHECKSUM.start..CHECKSUM.start + sum.len()) {
        place.copy_from_slice(&sum);
    }
    copy
}
