//! Content digests (OCI image-spec, descriptor.md "Digests"): `sha256:` or `sha512:` and lower-case hex.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use aws_lc_rs::digest as sha;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Error;

/// A digest algorithm registered by OCI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// A content digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// SHA-256.
    Sha256([u8; 32]),
    /// SHA-512.
    Sha512([u8; 64]),
}

impl Digest {
    /// The SHA-256 digest of the bytes.
    pub fn sha256(bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Digest::Sha256(_) => Algorithm::Sha256,
            Digest::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The lower-case hex part, without the algorithm.
    pub fn hex(&self) -> String {
        match self {
            Digest::Sha256(b) => hex::encode(b),
            Digest::Sha512(b) => hex::encode(b),
        }
    }

    /// Checks that the bytes have this digest.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`], naming `what`.
    pub fn check(&self, bytes: &[u8], what: &str) -> Result<(), Error> {
        let mut hasher = Hasher::new(self.algorithm());
        hasher.update(bytes);
        let got = hasher.finish();
        if got == *self {
            return Ok(());
        }
        Err(Error::DigestMismatch { what: what.to_owned(), expected: self.to_string(), got: got.to_string() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.algorithm() {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        };
        write!(f, "{name}:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let malformed =
            || Error::Manifest(format!("{} is not a digest", crate::error::printable(text.as_bytes())));
        let (name, digits) = text.split_once(':').ok_or_else(malformed)?;
        // OCI allows lower-case only: one content has one name.
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(malformed());
        }
        match name {
            "sha256" => {
                let mut out = [0; 32];
                hex::decode_to_slice(digits, &mut out).map_err(|_| malformed())?;
                Ok(Digest::Sha256(out))
            }
            "sha512" => {
                let mut out = [0; 64];
                hex::decode_to_slice(digits, &mut out).map_err(|_| malformed())?;
                Ok(Digest::Sha512(out))
            }
            _ => Err(malformed()),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A running digest.
#[derive(Clone)]
pub struct Hasher {
    algorithm: Algorithm,
    context: sha::Context,
}

impl Hasher {
    /// An empty running digest.
    pub fn new(algorithm: Algorithm) -> Self {
        let context = match algorithm {
            Algorithm::Sha256 => sha::Context::new(&sha::SHA256),
            Algorithm::Sha512 => sha::Context::new(&sha::SHA512),
        };
        Hasher { algorithm, context }
    }

    /// Takes more bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// The digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        let out = self.context.finish();
        match self.algorithm {
            Algorithm::Sha256 => {
                let mut d = [0; 32];
                d.copy_from_slice(out.as_ref());
                Digest::Sha256(d)
            }
            Algorithm::Sha512 => {
                let mut d = [0; 64];
                d.copy_from_slice(out.as_ref());
                Digest::Sha512(d)
            }
        }
    }
}

/// A reader that gives exactly the content its descriptor promises, or an error at the end.
///
/// It never yields more than `size` bytes. End of file is reported only after size and digest were found right;
/// a consumer that reads up to end of file has therefore read verified content.
pub struct VerifyingReader<R> {
    inner: R,
    what: String,
    expected: Digest,
    size: u64,
    seen: u64,
    state: State,
}

enum State {
    Running(Hasher),
    Verified,
    Failed,
}

impl<R: Read> VerifyingReader<R> {
    /// Checks `inner` against a descriptor's digest and size; `what` names it in errors.
    pub fn new(inner: R, expected: Digest, size: u64, what: impl Into<String>) -> Self {
        let state = State::Running(Hasher::new(expected.algorithm()));
        VerifyingReader { inner, what: what.into(), expected, size, seen: 0, state }
    }

    /// Once failed it stays failed: an error must not heal by reading on.
    fn fail(&mut self, e: Error) -> io::Error {
        self.state = State::Failed;
        e.into_io()
    }

    fn size_error(&mut self) -> io::Error {
        let (what, expected, got) = (self.what.clone(), self.size, self.seen);
        self.fail(Error::SizeMismatch { what, expected, got })
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        if matches!(self.state, State::Failed) {
            return Err(io::Error::other(Error::Corrupt(format!("{} was already refused", self.what))));
        }
        let n = self.inner.read(buf)?;
        self.seen = self.seen.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        if self.seen > self.size || (n == 0 && self.seen < self.size) {
            return Err(self.size_error());
        }
        if n > 0 {
            if let State::Running(hasher) = &mut self.state {
                hasher.update(buf.get(..n).unwrap_or_default());
            }
            return Ok(n);
        }
        if let State::Running(hasher) = std::mem::replace(&mut self.state, State::Verified) {
            let got = hasher.finish();
            if got != self.expected {
                let (what, expected, got) = (self.what.clone(), self.expected.to_string(), got.to_string());
                return Err(self.fail(Error::DigestMismatch { what, expected, got }));
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn parses_and_prints() {
        let d: Digest = EMPTY.parse().unwrap();
        assert_eq!(d, Digest::sha256(b""));
        assert_eq!(d.to_string(), EMPTY);
        for bad in ["", "sha256:", "sha256:00", "md5:00", &EMPTY.to_uppercase(), &format!("{EMPTY}0")] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    fn read(content: &[u8], named: &[u8], size: u64) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        let mut r = VerifyingReader::new(content, Digest::sha256(named), size, "blob");
        match r.read_to_end(&mut out) {
            Ok(_) => Ok(out),
            Err(e) => {
                assert!(r.read(&mut [0]).is_err(), "an error must not heal");
                Err(Error::from_io(e, Error::Source))
            }
        }
    }

    #[test]
    fn verifies_size_and_digest() {
        assert_eq!(read(b"abc", b"abc", 3).unwrap(), b"abc");
        assert!(matches!(read(b"abd", b"abc", 3), Err(Error::DigestMismatch { .. })));
        assert!(matches!(read(b"ab", b"abc", 3), Err(Error::SizeMismatch { got: 2, .. })));
        assert!(matches!(read(b"abcd", b"abc", 3), Err(Error::SizeMismatch { .. })));
        assert!(matches!(read(b"abc", b"abc", 4), Err(Error::SizeMismatch { .. })));
    }

    #[test]
    fn never_yields_more_than_the_size() {
        let mut r = VerifyingReader::new(io::repeat(0), Digest::sha256(b""), 100_000, "blob");
        let copied = io::copy(&mut r, &mut io::sink());
        assert!(copied.is_err());
        assert!(r.seen < 200_000);
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,200}") {
            if let Ok(d) = text.parse::<Digest>() {
                proptest::prop_assert_eq!(d.to_string(), text);
            }
        }
    }
}
