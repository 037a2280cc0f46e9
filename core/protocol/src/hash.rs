//! The hash algorithms a handshake or an initdata document may select.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::Error;

/// A SHA-2 hash. Written `sha256`, `sha384`, `sha512`; the IANA names (`sha-256`, …) and any case are read too.
///
/// SM3, which other implementations offer, is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum HashAlgorithm {
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-384, 48 bytes; the protocol's default.
    Sha384,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl HashAlgorithm {
    /// The digest of `data`; [`HashAlgorithm::len`] bytes.
    pub fn digest(&self, data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            HashAlgorithm::Sha256 => &digest::SHA256,
            HashAlgorithm::Sha384 => &digest::SHA384,
            HashAlgorithm::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, data).as_ref().to_vec()
    }

    /// The digest's length in bytes.
    #[allow(clippy::len_without_is_empty)] // an algorithm is no collection
    pub fn len(&self) -> usize {
        match self {
            HashAlgorithm::Sha256 => 32,
            HashAlgorithm::Sha384 => 48,
            HashAlgorithm::Sha512 => 64,
        }
    }
}

impl From<HashAlgorithm> for &'static str {
    fn from(algorithm: HashAlgorithm) -> Self {
        match algorithm {
            HashAlgorithm::Sha256 => "sha256",
            HashAlgorithm::Sha384 => "sha384",
            HashAlgorithm::Sha512 => "sha512",
        }
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad((*self).into())
    }
}

impl FromStr for HashAlgorithm {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        [
            ("sha256", "sha-256", HashAlgorithm::Sha256),
            ("sha384", "sha-384", HashAlgorithm::Sha384),
            ("sha512", "sha-512", HashAlgorithm::Sha512),
        ]
        .into_iter()
        .find(|(short, iana, _)| name.eq_ignore_ascii_case(short) || name.eq_ignore_ascii_case(iana))
        .map(|(_, _, algorithm)| algorithm)
        // The name is the other side's text: no more of it than a name needs.
        .ok_or_else(|| Error::Algorithm(name.chars().take(32).collect()))
    }
}

impl TryFrom<String> for HashAlgorithm {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        name.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [HashAlgorithm; 3] = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];

    #[test]
    fn digests_of_abc() {
        // FIPS 180-4 examples.
        let expected = [
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ];
        for (algorithm, expected) in ALL.into_iter().zip(expected) {
            let digest = algorithm.digest(b"abc");
            assert_eq!(hex::encode(&digest), expected);
            assert_eq!(digest.len(), algorithm.len());
        }
    }

    #[test]
    fn names() {
        for algorithm in ALL {
            let name = algorithm.to_string();
            assert_eq!(name.parse::<HashAlgorithm>().unwrap(), algorithm);
            assert_eq!(name.to_uppercase().parse::<HashAlgorithm>().unwrap(), algorithm);
            assert_eq!(name.replace("sha", "sha-").parse::<HashAlgorithm>().unwrap(), algorithm);
            let json = serde_json::to_string(&algorithm).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<HashAlgorithm>(&json).unwrap(), algorithm);
        }
        for bad in ["", "sha", "sha1", "sm3", "sha 256", "sha256 ", "sha--256", "sha3-256"] {
            assert!(bad.parse::<HashAlgorithm>().is_err(), "{bad:?}");
        }
        let long = "x".repeat(1 << 20).parse::<HashAlgorithm>().unwrap_err();
        assert!(long.to_string().len() < 100);
    }
}
