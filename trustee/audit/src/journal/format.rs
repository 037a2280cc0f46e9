//! The journal's bytes. All numbers are big endian.
//!
//! The file has a fixed length. Two header slots of 4096 bytes at 0 and 4096, then records from 8192 on, each at the
//! next multiple of 64. What a generation needs is in one header; generation `n` has the slot `n % 2`, so that a
//! header that is cut short leaves the other. Records of an earlier generation that were not overwritten yet may
//! follow those of the present one.
//!
//! The fields of both are listed at the top of this crate.

use crate::MAX_ENTRY;
use crate::layout::{Head, Item};
use crate::merkle::Hash;

/// Length of a header slot.
const SLOT: usize = 4096;
/// Where records begin.
pub(crate) const DATA: usize = 2 * SLOT;
/// Records begin at multiples of this.
const ALIGN: usize = 64;
/// Length of a record without its body.
pub(crate) const RECORD: usize = 104;
/// Most entries of one record.
pub(crate) const MAX_BATCH: usize = 512;
/// No canonical entry is shorter; bounds how many entries a hostile file can hold.
const MIN_ENTRY: usize = 64;

// No entry, which is UTF-8, has the first byte.
const HEADER_MAGIC: [u8; 8] = *b"\xffcaj-h\0\x01";
const RECORD_MAGIC: [u8; 8] = *b"\xffcaj-r\0\x01";
const DOMAIN: &[u8] = b"cocoon-audit-journal-v1\0";

/// One use of the file, from its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Generation {
    pub(crate) number: u64,
    /// The head that the first record continues.
    pub(crate) base: Head,
    /// Hash of the header.
    pub(crate) hash: Hash,
}

/// What an intact journal holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) generation: Generation,
    /// The entries from the base on.
    pub(crate) items: Vec<Item>,
}

/// At which byte a journal is damaged in a way that no interrupted write explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged(pub(crate) u64);

/// Where the slot of a generation begins.
pub(crate) fn slot(number: u64) -> u64 {
    if number.is_multiple_of(2) { 0 } else { SLOT as u64 }
}

/// Where the record after one of this length, which began at `offset`, begins.
pub(crate) fn after(offset: u64, length: usize) -> u64 {
    offset.saturating_add(length as u64).next_multiple_of(ALIGN as u64)
}

/// A header with its hash.
pub(crate) fn encode_header(number: u64, length: u64, nonce: &[u8; 16], base: &Head) -> (Vec<u8>, Hash) {
    let head = base.encode();
    let mut bytes = HEADER_MAGIC.to_vec();
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(nonce);
    // A head has at most 25 + 64 * 32 bytes.
    bytes.extend_from_slice(&u32::try_from(head.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&head);
    let hash = Hash::digest(&[DOMAIN, &bytes]);
    bytes.extend_from_slice(&hash.0);
    (bytes, hash)
}

/// Length of the record of these entries.
pub(crate) fn record_length(items: &[Item]) -> usize {
    items.iter().fold(RECORD, |sum, item| sum.saturating_add(4).saturating_add(item.bytes.len()))
}

/// Writes a record of 1 to [`MAX_BATCH`] entries into `buffer`; its hash. `None` if there are too many.
pub(crate) fn encode_record(
    buffer: &mut Vec<u8>,
    generation: u64,
    sequence: u64,
    first: u64,
    previous: &Hash,
    items: &[Item],
) -> Option<Hash> {
    let count = u32::try_from(items.len()).ok().filter(|_| (1..=MAX_BATCH).contains(&items.len()))?;
    let length = u32::try_from(record_length(items) - RECORD).ok()?;
    buffer.clear();
    buffer.extend_from_slice(&RECORD_MAGIC);
    for number in [generation, sequence, first] {
        buffer.extend_from_slice(&number.to_be_bytes());
    }
    buffer.extend_from_slice(&count.to_be_bytes());
    buffer.extend_from_slice(&length.to_be_bytes());
    buffer.extend_from_slice(&previous.0);
    buffer.extend_from_slice(&[0; 32]);
    for item in items {
        buffer.extend_from_slice(&u32::try_from(item.bytes.len()).ok()?.to_be_bytes());
        buffer.extend_from_slice(&item.bytes);
    }
    let (head, body) = buffer.split_first_chunk_mut::<RECORD>()?;
    let (fields, place) = head.split_last_chunk_mut::<32>()?;
    let hash = Hash::digest(&[DOMAIN, fields, body]);
    *place = hash.0;
    Some(hash)
}

/// Reads the newest generation of a whole journal; `None` if it holds none. A record at the end that is not whole is
/// what a crash leaves: it was never acknowledged and does not count.
///
/// # Errors
/// [`Damaged`] if a record that is not whole has one of the same generation after it; if there are records of a
/// generation whose header is damaged; or if the file is not as long as it was.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Contents>, Damaged> {
    let newest =
        [0, SLOT].into_iter().filter_map(|at| header(bytes, at)).max_by_key(|(found, _)| found.number);
    // Records are written only when their header is durable.
    let used = place(bytes, DATA).map_or(0, |(number, _)| number);
    let Some((generation, length)) = newest else {
        return if used == 0 { Ok(None) } else { Err(Damaged(0)) };
    };
    if used.checked_sub(1) == Some(generation.number) {
        return Err(Damaged(slot(used)));
    }
    if length != bytes.len() as u64 {
        return Err(Damaged(bytes.len() as u64));
    }
    let (mut items, mut offset, mut sequence, mut previous) = (Vec::new(), DATA, 0, generation.hash);
    while let Some((hash, length)) = record(bytes, offset, &generation, sequence, &previous, &mut items) {
        offset = usize::try_from(after(offset as u64, length)).unwrap_or(usize::MAX);
        sequence += 1;
        previous = hash;
    }
    // What is not whole here may be this generation's number before another's bytes.
    let later = |at: usize| {
        at > offset && place(bytes, at).is_some_and(|(n, s)| n == generation.number && s > sequence)
    };
    let moved = whole(bytes, offset).is_some_and(|record| record.place.0 == generation.number);
    if moved || (offset..bytes.len()).step_by(ALIGN).any(later) {
        return Err(Damaged(offset as u64));
    }
    Ok(Some(Contents { generation, items }))
}

/// The header in the slot that begins at `at`, with the file's length that it states.
fn header(bytes: &[u8], at: usize) -> Option<(Generation, u64)> {
    let slot_bytes = bytes.get(at..)?.get(..SLOT)?;
    let rest = slot_bytes.strip_prefix(&HEADER_MAGIC)?;
    let (number, rest) = take_u64(rest)?;
    let (length, rest) = take_u64(rest)?;
    let (_nonce, rest) = rest.split_at_checked(16)?;
    let (head_length, rest) = take_u32(rest)?;
    let (head, rest) = rest.split_at_checked(head_length)?;
    let (stated, rest) = rest.split_first_chunk::<32>()?;
    let signed = slot_bytes.get(..SLOT - rest.len() - 32)?;
    let hash = Hash::digest(&[DOMAIN, signed]);
    let whole = hash.0 == *stated && number > 0 && slot(number) == at as u64;
    whole.then_some(())?;
    Some((Generation { number, base: Head::decode(head)?, hash }, length))
}

/// Generation and sequence of what looks like a record at `at`.
fn place(bytes: &[u8], at: usize) -> Option<(u64, u64)> {
    let rest = bytes.get(at..)?.strip_prefix(&RECORD_MAGIC)?;
    let (generation, rest) = take_u64(rest)?;
    let (sequence, _) = take_u64(rest)?;
    Some((generation, sequence))
}

/// A record whose bytes are as they were written.
struct Record<'a> {
    place: (u64, u64),
    first: u64,
    count: usize,
    previous: &'a [u8; 32],
    hash: Hash,
    body: &'a [u8],
}

/// The record at `at`, if it is whole.
fn whole(bytes: &[u8], at: usize) -> Option<Record<'_>> {
    let place = place(bytes, at)?;
    let (head, rest) = bytes.get(at..)?.split_first_chunk::<RECORD>()?;
    let (fields, stated) = head.split_last_chunk::<32>()?;
    let (numbers, previous) = fields.split_last_chunk::<32>()?;
    let (first, numbers) = take_u64(numbers.get(24..)?)?;
    let (count, numbers) = take_u32(numbers)?;
    let (length, _) = take_u32(numbers)?;
    let body = rest.get(..length)?;
    let hash = Hash::digest(&[DOMAIN, fields, body]);
    (hash.0 == *stated).then_some(Record { place, first, count, previous, hash, body })
}

/// Adds the entries of the record at `at`, if it is whole and the one that comes next; its hash and length.
fn record(
    bytes: &[u8],
    at: usize,
    generation: &Generation,
    sequence: u64,
    previous: &Hash,
    items: &mut Vec<Item>,
) -> Option<(Hash, usize)> {
    let found = whole(bytes, at)?;
    let next = generation.base.frontier.size.checked_add(items.len() as u64)?;
    let right = found.place == (generation.number, sequence)
        && *found.previous == previous.0
        && found.first == next
        && (1..=MAX_BATCH).contains(&found.count);
    right.then_some(())?;
    let before = items.len();
    if entries(found.body, items) != Some(found.count) {
        items.truncate(before);
        return None;
    }
    Some((found.hash, RECORD + found.body.len()))
}

/// Adds the entries of a body; how many.
fn entries(mut body: &[u8], items: &mut Vec<Item>) -> Option<usize> {
    let mut count = 0;
    while !body.is_empty() {
        let (length, rest) = take_u32(body)?;
        let (bytes, rest) = rest.split_at_checked(length)?;
        (MIN_ENTRY..=MAX_ENTRY).contains(&length).then_some(())?;
        items.push(Item { leaf: Hash::of_leaf(bytes), bytes: bytes.to_vec() });
        (count, body) = (count + 1, rest);
    }
    Some(count)
}

fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    bytes.split_first_chunk::<8>().map(|(number, rest)| (u64::from_be_bytes(*number), rest))
}

fn take_u32(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_be_bytes(*number)).ok()?, rest))
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the sizes in these tests are small")]
#[path = "format_tests.rs"]
mod tests;
