//! Public areas of TPM objects: `TPMT_PUBLIC` and its sized form `TPM2B_PUBLIC`.
//!
//! Source: TPM 2.0 Library, part 2, section 12.2 (public areas), 8.3 (attributes), part 1, section 16 (names). Only RSA and
//! the NIST curves; keyed hashes and symmetric objects attest nothing.

use super::algorithm::{self, curve_of, hash_of, hashed, id_of};
use super::quote::sized;
use crate::Error;
use crate::reader::Reader;
use crate::x509::{Curve, Hash, PublicKey};

/// A public area of RSA with 4096 bits has about 600 bytes.
pub const MAX_PUBLIC: usize = 1024;
/// 65537, which a TPM writes as zero.
const DEFAULT_EXPONENT: u32 = 65537;

/// What an object may be used for (`TPMA_OBJECT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes(u32);

impl Attributes {
    /// Made in this TPM and never to leave it.
    pub const FIXED_TPM: u32 = 1 << 1;
    /// Never to get another parent.
    pub const FIXED_PARENT: u32 = 1 << 4;
    /// The TPM itself made the secret part.
    pub const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    /// Signs or decrypts only what the TPM itself formats.
    pub const RESTRICTED: u32 = 1 << 16;
    /// Decrypts.
    pub const DECRYPT: u32 = 1 << 17;
    /// Signs.
    pub const SIGN: u32 = 1 << 18;
    /// Bits that no version of the specification names: 0, 3, 12 to 15, 20 to 31.
    const RESERVED: u32 = 0xfff0_f009;

    /// Whether all of these bits are set.
    pub fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }

    /// The bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

/// The symmetric cipher with which a storage key protects its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symmetric {
    algorithm: u16,
    bits: u16,
    mode: u16,
}

impl Symmetric {
    /// AES with 128 bits in CFB mode, the only one of the standard templates that is supported.
    pub const AES_128_CFB: Symmetric =
        Symmetric { algorithm: algorithm::AES, bits: 128, mode: algorithm::CFB };
}

/// A parsed public area and the bytes it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    raw: Vec<u8>,
    name_hash: Hash,
    attributes: Attributes,
    symmetric: Option<Symmetric>,
    has_scheme: bool,
    key: PublicKey,
}

impl Public {
    /// Reads a `TPM2B_PUBLIC` of at most 1 KiB.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::Unsupported`] for other kinds of keys, hashes, curves.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new("TPM public area", bytes);
        let area = sized(&mut r, MAX_PUBLIC)?;
        r.finish()?;
        Public::parse_area(area)
    }

    /// Reads a `TPMT_PUBLIC`: the same without its length.
    ///
    /// # Errors
    /// As [`Public::parse`].
    pub fn parse_area(raw: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new("TPM public area", raw);
        if raw.len() > MAX_PUBLIC {
            return Err(r.error("longer than 1 KiB"));
        }
        let kind = r.u16_be()?;
        let id = r.u16_be()?;
        let name_hash = hash_of(id).ok_or_else(|| unsupported("TPM name algorithm", id))?;
        let attributes = Attributes(r.u32_be()?);
        if attributes.0 & Attributes::RESERVED != 0 {
            return Err(r.error("reserved attributes"));
        }
        sized(&mut r, algorithm::MAX_DIGEST)?; // The authorisation policy: part of the name, else of no concern.
        let symmetric = symmetric(&mut r)?;
        let (has_scheme, key) = match kind {
            algorithm::RSA => rsa(&mut r)?,
            algorithm::ECC => ecc(&mut r)?,
            other => return Err(unsupported("TPM object type", other)),
        };
        r.finish()?;
        Ok(Public { raw: raw.to_vec(), name_hash, attributes, symmetric, has_scheme, key })
    }

    /// The object's name: what identifies it to every TPM, and covers all of the public area.
    pub fn name(&self) -> Vec<u8> {
        [&id_of(self.name_hash).to_be_bytes(), hashed(self.name_hash, &[&self.raw]).as_slice()].concat()
    }

    /// The key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The hash of the name.
    pub fn name_hash(&self) -> Hash {
        self.name_hash
    }

    /// The attributes.
    pub fn attributes(&self) -> Attributes {
        self.attributes
    }

    /// The cipher for children; only storage keys have one.
    pub fn symmetric(&self) -> Option<Symmetric> {
        self.symmetric
    }

    /// The `TPM2B_PUBLIC`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = u16::try_from(self.raw.len()).unwrap_or_default();
        [&length.to_be_bytes(), self.raw.as_slice()].concat()
    }

    /// What keeps this from being an attestation key: one that is bound to its TPM and signs nothing but what the TPM itself
    /// made. Without `restricted`, the guest could have it sign a made-up quote. `None`: nothing.
    pub fn not_attestation_key(&self) -> Option<&'static str> {
        self.missing(Attributes::RESTRICTED | Attributes::SIGN, Attributes::DECRYPT)
            .or_else(|| self.symmetric.map(|_| "it has a symmetric cipher"))
            .or_else(|| (!self.has_scheme).then_some("it has no signature scheme"))
    }

    /// What keeps this from being an endorsement key: a storage key bound to its TPM. `None`: nothing.
    pub fn not_endorsement_key(&self) -> Option<&'static str> {
        self.missing(Attributes::RESTRICTED | Attributes::DECRYPT, Attributes::SIGN)
            .or_else(|| self.symmetric.is_none().then_some("it has no symmetric cipher"))
            .or_else(|| self.has_scheme.then_some("it has a scheme of its own"))
    }

    fn missing(&self, wanted: u32, unwanted: u32) -> Option<&'static str> {
        let names = [
            (Attributes::FIXED_TPM, "it is not fixedTPM"),
            (Attributes::FIXED_PARENT, "it is not fixedParent"),
            (Attributes::SENSITIVE_DATA_ORIGIN, "the TPM did not make it (sensitiveDataOrigin)"),
            (wanted & Attributes::RESTRICTED, "it is not restricted"),
            (wanted & Attributes::SIGN, "it does not sign"),
            (wanted & Attributes::DECRYPT, "it does not decrypt"),
        ];
        let absent = names.iter().find(|(bits, _)| !self.attributes.has(*bits)).map(|(_, name)| *name);
        absent.or_else(|| (self.attributes.0 & unwanted != 0).then_some("it both signs and decrypts"))
    }
}

fn unsupported(what: &'static str, got: u16) -> Error {
    Error::Unsupported { what, got: format!("{got:#06x}") }
}

/// `TPMT_SYM_DEF_OBJECT`.
fn symmetric(r: &mut Reader<'_>) -> Result<Option<Symmetric>, Error> {
    match r.u16_be()? {
        algorithm::NULL => Ok(None),
        // Every block cipher has the same two parameters; which of them is supported is for its user to say.
        algorithm => Ok(Some(Symmetric { algorithm, bits: r.u16_be()?, mode: r.u16_be()? })),
    }
}

/// A scheme and its hash, or none (`TPMT_RSA_SCHEME`, `TPMT_ECC_SCHEME`, `TPMT_KDF_SCHEME`). Whether there is one.
fn scheme(r: &mut Reader<'_>, known: &[u16]) -> Result<bool, Error> {
    match r.u16_be()? {
        algorithm::NULL => Ok(false),
        algorithm::RSAES if known.contains(&algorithm::RSAES) => Ok(true),
        id if known.contains(&id) => {
            let hash = r.u16_be()?;
            hash_of(hash).map(|_| true).ok_or_else(|| unsupported("TPM scheme hash", hash))
        }
        other => Err(unsupported("TPM scheme", other)),
    }
}

fn rsa(r: &mut Reader<'_>) -> Result<(bool, PublicKey), Error> {
    use algorithm::{OAEP, RSAES, RSAPSS, RSASSA};
    let has_scheme = scheme(r, &[RSASSA, RSAPSS, RSAES, OAEP])?;
    let bits = r.u16_be()?;
    let exponent = match r.u32_be()? {
        0 => DEFAULT_EXPONENT,
        other => other,
    };
    if !matches!(bits, 2048 | 3072 | 4096) {
        return Err(unsupported("TPM RSA key size", bits));
    }
    let modulus = sized(r, 512)?;
    let full = usize::from(bits / 8) == modulus.len() && modulus.first().is_some_and(|b| b & 0x80 != 0);
    if !full {
        return Err(r.error("the modulus has another length than the key"));
    }
    Ok((has_scheme, PublicKey::rsa(modulus, &exponent.to_be_bytes())?))
}

fn ecc(r: &mut Reader<'_>) -> Result<(bool, PublicKey), Error> {
    let has_scheme = scheme(r, &[algorithm::ECDSA, algorithm::ECDH])?;
    let id = r.u16_be()?;
    let curve = curve_of(id).ok_or_else(|| unsupported("TPM curve", id))?;
    // No template has a key derivation scheme here and no TPM uses one.
    scheme(r, &[])?;
    let x = coordinate(r, curve)?;
    let y = coordinate(r, curve)?;
    Ok((has_scheme, PublicKey::ec(curve, &x, &y)?))
}

/// A coordinate in full length; some TPMs leave out leading zeros.
pub fn coordinate(r: &mut Reader<'_>, curve: Curve) -> Result<Vec<u8>, Error> {
    let bytes = sized(r, curve.length())?;
    let mut full = vec![0; curve.length().saturating_sub(bytes.len())];
    full.extend(bytes);
    Ok(full)
}
