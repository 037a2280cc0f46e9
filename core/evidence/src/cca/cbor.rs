//! As much of CBOR (RFC 8949) as CCA tokens use, read strictly.
//!
//! Only definite lengths and the shortest form of every number (4.2.1, "preferred serialization") are taken, so that no
//! content has two encodings; a map with the same key twice is refused. Nothing is allocated for what a length promises:
//! byte strings and texts are slices of the input.

use crate::Error;
use crate::reader::Reader;

/// Deepest nesting of an item that is passed over.
const MAX_DEPTH: usize = 8;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

/// A map's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key<'a> {
    Int(i128),
    Text(&'a str),
}

/// Reads items one after the other.
pub(super) struct Decoder<'a> {
    reader: Reader<'a>,
}

impl<'a> Decoder<'a> {
    /// `what` names the format in errors.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Decoder { reader: Reader::new(what, bytes) }
    }

    pub fn error(&self, reason: impl std::fmt::Display) -> Error {
        self.reader.error(reason)
    }

    /// Nothing may be left.
    pub fn finish(&self) -> Result<(), Error> {
        self.reader.finish()
    }

    /// Major type and argument of the next item.
    fn head(&mut self) -> Result<(u8, u64), Error> {
        let initial = self.reader.u8()?;
        let (major, info) = (initial >> 5, initial & 0x1f);
        let (argument, least) = match info {
            0..=23 => (u64::from(info), 0),
            24 => (u64::from(self.reader.u8()?), 24),
            25 => (u64::from(self.reader.u16_be()?), 1 << 8),
            26 => (u64::from(self.reader.u32_be()?), 1 << 16),
            27 => (self.reader.u64_be()?, 1 << 32),
            31 => return Err(self.error("an indefinite length")),
            _ => return Err(self.error("a reserved length")),
        };
        // Of major type 7 there are false, true, null, undefined and floats; other simple values are not assigned.
        if major == SIMPLE && !matches!(info, 20..=23 | 25..=27) {
            return Err(self.error("an unassigned simple value"));
        }
        if argument < least && major != SIMPLE {
            return Err(self.error("a number that is not in its shortest form"));
        }
        Ok((major, argument))
    }

    fn expect(&mut self, wanted: u8, name: &str) -> Result<u64, Error> {
        match self.head()? {
            (major, argument) if major == wanted => Ok(argument),
            (major, _) => Err(self.error(format_args!("{name} has the CBOR type {major}, not {wanted}"))),
        }
    }

    fn slice(&mut self, length: u64) -> Result<&'a [u8], Error> {
        // A length beyond the address space is beyond the input too.
        self.reader.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn string(&mut self, length: u64) -> Result<&'a str, Error> {
        let bytes = self.slice(length)?;
        std::str::from_utf8(bytes).map_err(|_| self.error("a text that is not UTF-8"))
    }

    /// The number of a tag.
    pub fn tag(&mut self) -> Result<u64, Error> {
        self.expect(TAG, "the outermost item")
    }

    pub fn int(&mut self, name: &str) -> Result<i128, Error> {
        match self.head()? {
            (UNSIGNED, n) => Ok(i128::from(n)),
            (NEGATIVE, n) => Ok(-1 - i128::from(n)),
            _ => Err(self.error(format_args!("{name} is not an integer"))),
        }
    }

    pub fn bytes(&mut self, name: &str) -> Result<&'a [u8], Error> {
        let length = self.expect(BYTES, name)?;
        self.slice(length)
    }

    /// A text of at most `max` bytes, without control characters.
    pub fn text(&mut self, name: &str, max: usize) -> Result<&'a str, Error> {
        let length = self.expect(TEXT, name)?;
        let text = self.string(length)?;
        match text.len() <= max && !text.chars().any(char::is_control) {
            true => Ok(text),
            false => Err(self.error(format_args!("{name} is too long or not printable"))),
        }
    }

    /// Number of items of an array: `1..=max`.
    pub fn array(&mut self, name: &str, max: u64) -> Result<u64, Error> {
        match self.expect(ARRAY, name)? {
            count if (1..=max).contains(&count) => Ok(count),
            count => Err(self.error(format_args!("{name} has {count} items, not 1 to {max}"))),
        }
    }

    /// Reads a map of at most `max` entries; `entry` is called after each key and must read the value.
    pub fn map(
        &mut self,
        name: &str,
        max: u64,
        mut entry: impl FnMut(&mut Self, Key<'a>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let count = self.expect(MAP, name)?;
        if count > max {
            return Err(self.error(format_args!("{name} has {count} entries, more than {max}")));
        }
        let mut seen = Vec::new();
        for _ in 0..count {
            let key = match self.head()? {
                (UNSIGNED, n) => Key::Int(i128::from(n)),
                (NEGATIVE, n) => Key::Int(-1 - i128::from(n)),
                (TEXT, length) => Key::Text(self.string(length)?),
                _ => return Err(self.error(format_args!("a key of {name} is neither integer nor text"))),
            };
            if seen.contains(&key) {
                return Err(self.error(format_args!("{name} has the same key twice")));
            }
            seen.push(key);
            entry(self, key)?;
        }
        Ok(())
    }

    /// Passes over one well-formed item that nests at most eight deep.
    pub fn skip(&mut self) -> Result<(), Error> {
        self.skip_at(0)
    }

    fn skip_at(&mut self, depth: usize) -> Result<(), Error> {
        let (major, argument) = self.head()?;
        let items = match major {
            BYTES => return self.slice(argument).map(|_| ()),
            TEXT => return self.string(argument).map(|_| ()),
            ARRAY => argument,
            MAP => argument.saturating_mul(2),
            TAG => 1,
            _ => 0,
        };
        if items > 0 && depth == MAX_DEPTH {
            return Err(self.error("it nests too deep"));
        }
        // However many are promised, each takes at least one byte of the input.
        (0..items).try_for_each(|_| self.skip_at(depth + 1))
    }
}

/// Writes items in their shortest form.
#[derive(Default)]
pub(super) struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    fn head(&mut self, major: u8, argument: u64) {
        let initial = major << 5;
        let [h, g, f, e, d, c, b, a] = argument.to_be_bytes();
        match argument {
            0..24 => self.out.push(initial | a),
            24..0x100 => self.out.extend([initial | 24, a]),
            0x100..0x1_0000 => self.out.extend([initial | 25, b, a]),
            0x1_0000..0x1_0000_0000 => self.out.extend([initial | 26, d, c, b, a]),
            _ => self.out.extend([initial | 27, h, g, f, e, d, c, b, a]),
        }
    }

    pub fn tag(&mut self, tag: u64) -> &mut Self {
        self.head(TAG, tag);
        self
    }

    pub fn int(&mut self, value: i64) -> &mut Self {
        match u64::try_from(value) {
            Ok(value) => self.head(UNSIGNED, value),
            Err(_) => self.head(NEGATIVE, value.unsigned_abs() - 1),
        }
        self
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.head(BYTES, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
        self
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        self.head(TEXT, text.len() as u64);
        self.out.extend_from_slice(text.as_bytes());
        self
    }

    pub fn array(&mut self, count: usize) -> &mut Self {
        self.head(ARRAY, count as u64);
        self
    }

    pub fn map(&mut self, count: usize) -> &mut Self {
        self.head(MAP, count as u64);
        self
    }
}
