//! Sparse files: GNU tar's old form (type `S`) and its PAX forms 0.0, 0.1 and 1.0 (GNU tar manual, "Storing Sparse
//! Files"). A map says which parts of a file are stored; all else reads as zeros.

use super::header::{Header, number};
use super::pax::decimal;
use crate::Error;

/// Most parts of one file.
const MAX_PARTS: usize = 16 * 1024;
/// Most blocks behind a header of type `S`: each has room for 21 parts.
pub(super) const MAX_EXTENSIONS: usize = MAX_PARTS / 21 + 1;
/// Longest line of a map in a file's content (form 1.0), in characters.
const MAX_DIGITS: usize = 20;

/// Where a part lies, and how long it is.
pub(super) type Part = (u64, u64);

fn corrupt(what: &str) -> Error {
    Error::Corrupt(format!("tar: {what}"))
}

/// What the PAX records before an entry said.
#[derive(Default)]
pub(super) struct Records {
    major: Option<u64>,
    minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    size: Option<u64>,
    parts: Vec<Part>,
    /// An offset whose length has not come yet.
    offset: Option<u64>,
    seen: bool,
}

impl Records {
    /// Takes in one record; `key` is without its prefix `GNU.sparse.`.
    pub(super) fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let bad = || corrupt("a sparse file's record is malformed");
        let number = || decimal(value).ok_or_else(bad);
        self.seen = true;
        match key {
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"name" if value.is_empty() || value.contains(&0) => return Err(bad()),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"numblocks" => {
                number()?;
            }
            b"offset" if self.offset.is_none() => self.offset = Some(number()?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or_else(bad)?;
                self.push(offset, number()?)?;
            }
            b"map" => {
                let numbers: Option<Vec<u64>> =
                    value.split(|b| *b == b',').take(2 * MAX_PARTS + 2).map(decimal).collect();
                let numbers = numbers.ok_or_else(bad)?;
                for pair in numbers.chunks(2) {
                    let [offset, length] = pair else { return Err(bad()) };
                    self.push(*offset, *length)?;
                }
            }
            _ => return Err(bad()),
        }
        Ok(())
    }

    fn push(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        if self.parts.len() >= MAX_PARTS {
            return Err(corrupt("a sparse file has too many parts"));
        }
        self.parts.push((offset, length));
        Ok(())
    }

    /// The form that the records describe.
    pub(super) fn form(self) -> Result<Form, Error> {
        if !self.seen {
            return Ok(Form::Whole);
        }
        let size = self.size.ok_or_else(|| corrupt("a sparse file has no size"))?;
        match (self.major.unwrap_or(0), self.minor.unwrap_or(0)) {
            (0, 0 | 1) if self.offset.is_none() => Ok(Form::Mapped { parts: self.parts, size }),
            (1, 0) if self.parts.is_empty() => Ok(Form::MapInContent { size }),
            _ => Err(corrupt("a sparse file is of an unknown form")),
        }
    }
}

/// How a file's content is stored.
pub(super) enum Form {
    /// From its first byte to its last.
    Whole,
    /// In these parts.
    Mapped { parts: Vec<Part>, size: u64 },
    /// In parts that its content lists first.
    MapInContent { size: u64 },
}

/// The parts in a header of type `S`, the size of the whole file, and whether further blocks hold more parts.
pub(super) fn old_header(header: &Header<'_>) -> Result<(Vec<Part>, u64, bool), Error> {
    let size =
        number(header.field(483, 12)).ok_or_else(|| corrupt("a sparse file's size is not a number"))?;
    let mut parts = Vec::new();
    old_parts(header.field(386, 96), &mut parts)?;
    Ok((parts, size, header.field(482, 1) == [1]))
}

/// The parts in a block that follows such a header; whether another does.
pub(super) fn old_extension(block: &[u8; 512], parts: &mut Vec<Part>) -> Result<bool, Error> {
    old_parts(block.get(..504).unwrap_or_default(), parts)?;
    Ok(block.get(504) == Some(&1))
}

fn old_parts(fields: &[u8], parts: &mut Vec<Part>) -> Result<(), Error> {
    for field in fields.chunks_exact(24) {
        // The first empty one ends the list.
        if field.first() == Some(&0) {
            return Ok(());
        }
        let (offset, length) = field.split_at(12);
        let (Some(offset), Some(length)) = (number(offset), number(length)) else {
            return Err(corrupt("a sparse file's map is malformed"));
        };
        if parts.len() >= MAX_PARTS {
            return Err(corrupt("a sparse file has too many parts"));
        }
        parts.push((offset, length));
    }
    Ok(())
}

/// Reads a map at the beginning of a file's content (form 1.0): the number of parts, then offset and length of each, as
/// decimal lines; the rest of its last block is filled up. `next` gives the content's bytes.
pub(super) fn map_in_content(mut next: impl FnMut() -> Result<u8, Error>) -> Result<(Vec<Part>, u64), Error> {
    let mut read = 0_u64;
    let mut line = || -> Result<u64, Error> {
        let mut digits = Vec::new();
        loop {
            let byte = next()?;
            read += 1;
            match byte {
                b'\n' => {
                    return decimal(&digits).ok_or_else(|| corrupt("a sparse file's map is malformed"));
                }
                _ if digits.len() >= MAX_DIGITS => {
                    return Err(corrupt("a sparse file's map is malformed"));
                }
                digit => digits.push(digit),
            }
        }
    };
    let count = line()?;
    let count = usize::try_from(count).ok().filter(|n| *n <= MAX_PARTS);
    let count = count.ok_or_else(|| corrupt("a sparse file has too many parts"))?;
    let mut parts = Vec::new();
    for _ in 0..count {
        parts.push((line()?, line()?));
    }
    while !read.is_multiple_of(512) {
        next()?;
        read += 1;
    }
    Ok((parts, read))
}

/// A file that is being read part by part.
pub(super) struct Parts {
    parts: std::vec::IntoIter<Part>,
    current: Part,
    position: u64,
    size: u64,
}

impl Parts {
    /// Checks a map: in order, without overlap, within the file, and as much as is stored.
    pub(super) fn new(parts: Vec<Part>, size: u64, stored: u64) -> Result<Self, Error> {
        let mut end = 0_u64;
        let mut sum = 0_u64;
        for (offset, length) in &parts {
            let after = offset.checked_add(*length).filter(|after| *offset >= end && *after <= size);
            end = after.ok_or_else(|| corrupt("a sparse file's parts overlap or lie outside of it"))?;
            sum += length;
        }
        if sum != stored {
            return Err(corrupt("a sparse file's parts are not what is stored"));
        }
        let mut parts = parts.into_iter();
        let current = next_part(&mut parts, size);
        Ok(Parts { parts, current, position: 0, size })
    }

    /// How many bytes of which kind come next: `Some(true)` for stored ones, `Some(false)` for zeros, `None` at the end.
    pub(super) fn next(&self) -> Option<(bool, u64)> {
        let (offset, length) = self.current;
        if self.position >= self.size {
            None
        } else if self.position < offset {
            Some((false, offset - self.position))
        } else {
            Some((true, offset.saturating_add(length).saturating_sub(self.position)))
        }
    }

    /// Moves on within what [`Parts::next`] said.
    pub(super) fn advance(&mut self, n: u64) {
        self.position = self.position.saturating_add(n);
        if self.position >= self.current.0.saturating_add(self.current.1) && self.position < self.size {
            self.current = next_part(&mut self.parts, self.size);
        }
    }
}

/// The next part that holds anything; behind the last one, an empty one at the file's end.
fn next_part(parts: &mut std::vec::IntoIter<Part>, size: u64) -> Part {
    parts.find(|(_, length)| *length > 0).unwrap_or((size, 0))
}
