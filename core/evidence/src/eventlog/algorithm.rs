//! Hashes of an event log's banks, and values of registers.

use aws_lc_rs::digest;
use sm3::Digest as _;

/// The longest digest.
const LONGEST: usize = 64;

/// A hash that registers are extended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-1. Old logs have it and are read, but no check accepts it: collisions can be made.
    Sha1,
    /// SHA-256: vTPMs.
    Sha256,
    /// SHA-384: Intel TDX.
    Sha384,
    /// SHA-512.
    Sha512,
    /// SM3 (GB/T 32905): Hygon CSV.
    Sm3,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 5] =
        [Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512, Algorithm::Sm3];

    /// By its TPM_ALG_ID (TCG Algorithm Registry).
    pub fn from_id(id: u16) -> Option<Self> {
        Algorithm::ALL.into_iter().find(|a| a.id() == id)
    }

    /// Its TPM_ALG_ID.
    pub fn id(self) -> u16 {
        match self {
            Algorithm::Sha1 => 0x04,
            Algorithm::Sha256 => 0x0b,
            Algorithm::Sha384 => 0x0c,
            Algorithm::Sha512 => 0x0d,
            Algorithm::Sm3 => 0x12,
        }
    }

    /// Bytes of a digest.
    pub fn length(self) -> usize {
        match self {
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 | Algorithm::Sm3 => 32,
            Algorithm::Sha384 => 48,
            Algorithm::Sha512 => LONGEST,
        }
    }

    /// Its name in claims.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha1 => "SHA-1",
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Sha384 => "SHA-384",
            Algorithm::Sha512 => "SHA-512",
            Algorithm::Sm3 => "SM3",
        }
    }

    /// The digest of some bytes.
    pub fn digest(self, bytes: &[u8]) -> Digest {
        let aws = |algorithm| Digest::filled(self, digest::digest(algorithm, bytes).as_ref());
        match self {
            Algorithm::Sha1 => aws(&digest::SHA1_FOR_LEGACY_USE_ONLY),
            Algorithm::Sha256 => aws(&digest::SHA256),
            Algorithm::Sha384 => aws(&digest::SHA384),
            Algorithm::Sha512 => aws(&digest::SHA512),
            Algorithm::Sm3 => Digest::filled(self, &sm3::Sm3::digest(bytes)),
        }
    }
}

/// A digest, or the value of a register.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    algorithm: Algorithm,
    /// As many bytes as the algorithm has, then zeros.
    bytes: [u8; LONGEST],
}

impl Digest {
    /// From its bytes; `None` where their number is not the algorithm's.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        (bytes.len() == algorithm.length()).then(|| Digest::filled(algorithm, bytes))
    }

    /// Every byte of it the same.
    pub(super) fn repeated(algorithm: Algorithm, byte: u8) -> Self {
        let mut digest = Digest { algorithm, bytes: [0; LONGEST] };
        digest.bytes.iter_mut().take(algorithm.length()).for_each(|b| *b = byte);
        digest
    }

    /// The same with another last byte.
    pub(super) fn ending(mut self, byte: u8) -> Self {
        if let Some(last) = self.bytes.get_mut(..self.algorithm.length()).and_then(|b| b.last_mut()) {
            *last = byte;
        }
        self
    }

    fn filled(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut digest = Digest { algorithm, bytes: [0; LONGEST] };
        digest.bytes.iter_mut().take(algorithm.length()).zip(bytes).for_each(|(to, from)| *to = *from);
        digest
    }

    /// Its hash.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.algorithm.length()).unwrap_or_default()
    }

    /// A register with this value, once extended: the hash of the old value and the digest.
    pub fn extended(&self, with: &Digest) -> Digest {
        let mut joined = [0; 2 * LONGEST];
        let both = self.as_bytes().iter().chain(with.as_bytes());
        joined.iter_mut().zip(both).for_each(|(to, from)| *to = *from);
        let length = self.as_bytes().len() + with.as_bytes().len();
        self.algorithm.digest(joined.get(..length).unwrap_or_default())
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), hex::encode(self.as_bytes()))
    }
}
