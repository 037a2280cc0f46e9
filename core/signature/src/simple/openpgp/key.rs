//! Public key packets of version 4 (RFC 9580, section 5.5.2), and what their keys can verify.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use cocoon_evidence::x509::{Curve, Hash, PublicKey, Scheme};

use super::Fields;

const RSA: u8 = 1;
const RSA_SIGN: u8 = 3;
const ECDSA: u8 = 19;
const EDDSA: u8 = 22;
const ED25519_ALGORITHM: u8 = 27;
/// Object identifiers of curves, without tag and length.
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
const LEGACY_ED25519: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01];

/// A key of version 4, of any algorithm.
pub(super) struct Key {
    pub(super) algorithm: u8,
    pub(super) created: u64,
    pub(super) fingerprint: [u8; 20],
    /// The packet as signatures over the key hash it: `99`, length, body.
    pub(super) hashed: Vec<u8>,
    pub(super) material: Option<Material>,
}

pub(super) enum Material {
    X509(PublicKey),
    Ed25519([u8; 32]),
}

impl Key {
    /// Reads a packet's body; `None` where it is malformed or not of version 4. Keys that cannot verify here (for encryption,
    /// too short, of another algorithm) are read and verify nothing.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        if fields.byte()? != 4 {
            return None;
        }
        let created = u64::from(fields.word()?);
        let algorithm = fields.byte()?;
        let mut hashed = vec![0x99];
        hashed.extend(u16::try_from(body.len()).ok()?.to_be_bytes());
        hashed.extend_from_slice(body);
        // SHA-1 names a version 4 key; nothing is authenticated by it.
        let name = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &hashed);
        let fingerprint = name.as_ref().try_into().ok()?;
        let material = Material::parse(algorithm, &mut fields).filter(|_| fields.0.is_empty());
        Some(Key { algorithm, created, fingerprint, hashed, material })
    }

    /// The last 8 bytes of the fingerprint.
    pub(super) fn id(&self) -> &[u8] {
        self.fingerprint.get(12..).unwrap_or_default()
    }

    /// Whether it is of an algorithm and size that verify.
    pub(super) fn can_verify(&self) -> bool {
        self.material.is_some()
    }

    /// Whether the fields of a signature packet that follow the hash's first bytes are this key's signature.
    pub(super) fn verifies(&self, hash: Hash, message: &[u8], signature: &[u8]) -> bool {
        let mut fields = Fields(signature);
        let verified = match &self.material {
            None => None,
            Some(Material::X509(key @ PublicKey::Rsa(_))) => rsa(key, hash, message, &mut fields),
            Some(Material::X509(key @ PublicKey::Ec(..))) => ecdsa(key, hash, message, &mut fields),
            Some(Material::Ed25519(key)) => {
                let plain = self.algorithm == ED25519_ALGORITHM;
                ed25519(key, plain, &digest_of(hash, message), &mut fields)
            }
        };
        verified == Some(true) && fields.0.is_empty()
    }
}

impl Material {
    fn parse(algorithm: u8, fields: &mut Fields<'_>) -> Option<Self> {
        match algorithm {
            RSA | RSA_SIGN => {
                let (n, e) = (fields.mpi()?, fields.mpi()?);
                let key = PublicKey::rsa(n, e).ok()?;
                // Also refuses moduli outside 2048 to 8192 bits.
                key.prepared(Scheme::RsaPkcs1(Hash::Sha256)).ok()?;
                Some(Material::X509(key))
            }
            ECDSA => {
                let length = usize::from(fields.byte()?);
                let curve = match fields.take(length)? {
                    P256 => Curve::P256,
                    P384 => Curve::P384,
                    P521 => Curve::P521,
                    _ => return None,
                };
                let point = fields.mpi()?.strip_prefix(&[4])?;
                let (x, y) = point.split_at_checked(curve.length())?;
                PublicKey::ec(curve, x, y).ok().map(Material::X509)
            }
            EDDSA => {
                let length = usize::from(fields.byte()?);
                if fields.take(length)? != LEGACY_ED25519 {
                    return None;
                }
                let point = fields.mpi()?.strip_prefix(&[0x40])?;
                point.try_into().ok().map(Material::Ed25519)
            }
            ED25519_ALGORITHM => fields.take(32)?.try_into().ok().map(Material::Ed25519),
            _ => None,
        }
    }
}

pub(super) fn digest_of(hash: Hash, message: &[u8]) -> Vec<u8> {
    let algorithm = match hash {
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    };
    digest::digest(algorithm, message).as_ref().to_vec()
}

fn rsa(key: &PublicKey, hash: Hash, message: &[u8], fields: &mut Fields<'_>) -> Option<bool> {
    let modulus = key.rsa_components()?.0.len();
    let signature = padded(fields.mpi()?, modulus)?;
    Some(key.verifies(Scheme::RsaPkcs1(hash), message, &signature))
}

fn ecdsa(key: &PublicKey, hash: Hash, message: &[u8], fields: &mut Fields<'_>) -> Option<bool> {
    let sequence = [der_integer(fields.mpi()?)?, der_integer(fields.mpi()?)?].concat();
    let length = u8::try_from(sequence.len()).ok()?;
    let mut signature = if length < 0x80 { vec![0x30, length] } else { vec![0x30, 0x81, length] };
    signature.extend(sequence);
    Some(key.verifies(Scheme::Ecdsa(hash), message, &signature))
}

/// Ed25519 over the message's *digest*: legacy with two integers, else with 64 plain bytes.
fn ed25519(key: &[u8; 32], plain: bool, digest: &[u8], fields: &mut Fields<'_>) -> Option<bool> {
    let signature = if plain {
        fields.take(64)?.to_vec()
    } else {
        [padded(fields.mpi()?, 32)?, padded(fields.mpi()?, 32)?].concat()
    };
    Some(UnparsedPublicKey::new(&ED25519, key).verify(digest, &signature).is_ok())
}

fn padded(number: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut out = vec![0; length.checked_sub(number.len())?];
    out.extend_from_slice(number);
    Some(out)
}

fn der_integer(number: &[u8]) -> Option<Vec<u8>> {
    let zeros = number.iter().take_while(|b| **b == 0).count();
    let number = number.get(zeros..).filter(|n| n.len() <= 66)?;
    let sign = number.first().is_none_or(|b| b & 0x80 != 0);
    let mut out = vec![2, u8::try_from(number.len() + usize::from(sign)).ok()?];
    out.extend(sign.then_some(0));
    out.extend_from_slice(number);
    Some(out)
}
