//! A bounded reader of binary formats: every access is checked, every error names the format.

use crate::Error;

/// Reads fields in order from a slice.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`; `what` names the format in errors.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Reader { what, rest: bytes, at: 0 }
    }

    /// Bytes consumed so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything was consumed.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// An error at this place.
    pub fn error(&self, reason: impl std::fmt::Display) -> Error {
        Error::Malformed { what: self.what, reason: format!("at byte {}: {reason}", self.at) }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (head, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| self.error(format_args!("{count} bytes wanted, {} left", self.rest.len())))?;
        self.rest = rest;
        self.at += count;
        Ok(head)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| self.error(format_args!("{N} bytes wanted, {} left", self.rest.len())))?;
        self.rest = rest;
        self.at += N;
        Ok(*head)
    }

    /// `count` bytes, all zero.
    pub fn zeros(&mut self, count: usize) -> Result<(), Error> {
        let here = self.clone();
        match self.take(count)?.iter().all(|b| *b == 0) {
            true => Ok(()),
            false => Err(here.error(format_args!("{count} reserved bytes are not zero"))),
        }
    }

    /// A reader of the next `count` bytes alone.
    pub fn part(&mut self, what: &'static str, count: usize) -> Result<Reader<'a>, Error> {
        Ok(Reader::new(what, self.take(count)?))
    }

    /// Nothing may be left.
    pub fn finish(&self) -> Result<(), Error> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(self.error(format_args!("{left} bytes too many"))),
        }
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Error> {
        self.array::<1>().map(|[b]| b)
    }

    /// Little-endian 16-bit number.
    pub fn u16_le(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_le_bytes)
    }

    /// Little-endian 32-bit number.
    pub fn u32_le(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    /// Little-endian 64-bit number.
    pub fn u64_le(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    /// Big-endian 16-bit number.
    pub fn u16_be(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    /// Big-endian 32-bit number.
    pub fn u32_be(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    /// Big-endian 64-bit number.
    pub fn u64_be(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_reads_beyond_the_end() {
        let mut r = Reader::new("a test", &[1, 2, 3, 0, 0]);
        assert_eq!(r.u16_le(), Ok(0x0201));
        assert!(r.u32_be().is_err());
        assert_eq!(r.position(), 2, "an error consumes nothing");
        assert!(r.zeros(2).unwrap_err().to_string().contains("at byte 2"));
        assert!(r.zeros(1).is_ok());
        assert!(r.finish().is_ok());
        assert!(r.take(usize::MAX).is_err());
    }
}
