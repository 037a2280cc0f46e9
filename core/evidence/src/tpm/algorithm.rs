//! Identifiers of algorithms, curves and structures (TPM 2.0 Library, part 2, sections 6.3, 6.4 and 6.9).

use aws_lc_rs::digest::{self, digest};

use crate::x509::{Curve, Hash};

pub const RSA: u16 = 0x0001;
pub const AES: u16 = 0x0006;
pub const NULL: u16 = 0x0010;
pub const RSASSA: u16 = 0x0014;
pub const RSAES: u16 = 0x0015;
pub const RSAPSS: u16 = 0x0016;
pub const OAEP: u16 = 0x0017;
pub const ECDSA: u16 = 0x0018;
pub const ECDH: u16 = 0x0019;
pub const ECC: u16 = 0x0023;
pub const CFB: u16 = 0x0043;

/// The longest digest of any algorithm that a TPM knows.
pub const MAX_DIGEST: usize = 64;

/// A hash by its identifier; SHA-1, SM3 and SHA-3 are not taken.
pub fn hash_of(id: u16) -> Option<Hash> {
    match id {
        0x000b => Some(Hash::Sha256),
        0x000c => Some(Hash::Sha384),
        0x000d => Some(Hash::Sha512),
        _ => None,
    }
}

/// A hash's identifier.
pub fn id_of(hash: Hash) -> u16 {
    match hash {
        Hash::Sha256 => 0x000b,
        Hash::Sha384 => 0x000c,
        Hash::Sha512 => 0x000d,
    }
}

/// A hash's name as people and event logs write it.
pub fn name_of(hash: Hash) -> &'static str {
    match hash {
        Hash::Sha256 => "SHA-256",
        Hash::Sha384 => "SHA-384",
        Hash::Sha512 => "SHA-512",
    }
}

/// A curve by its identifier.
pub fn curve_of(id: u16) -> Option<Curve> {
    match id {
        0x0003 => Some(Curve::P256),
        0x0004 => Some(Curve::P384),
        0x0005 => Some(Curve::P521),
        _ => None,
    }
}

/// Digest of some parts one after the other.
pub fn hashed(hash: Hash, parts: &[&[u8]]) -> Vec<u8> {
    let algorithm = match hash {
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    };
    match parts {
        [one] => digest(algorithm, one).as_ref().to_vec(),
        parts => {
            let mut context = digest::Context::new(algorithm);
            parts.iter().for_each(|part| context.update(part));
            context.finish().as_ref().to_vec()
        }
    }
}
