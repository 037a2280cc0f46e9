//! AMD's leaf certificates: P-384 keys whose extensions name chip and TCB (AMD 57230).

use aws_lc_rs::signature::ParsedPublicKey;
use der::Decode;
use der::asn1::{AnyRef, OctetStringRef};

use super::tcb::Tcb;
use crate::Error;
use crate::x509::{Certificate, Curve, Hash, PublicKey, Scheme};

/// Object identifiers of AMD's certificate extensions (AMD 57230) and of the algorithms they use.
pub mod oid {
    use const_oid::ObjectIdentifier;

    const fn oid(text: &str) -> ObjectIdentifier {
        ObjectIdentifier::new_unwrap(text)
    }

    /// Structure version, INTEGER.
    pub const STRUCT_VERSION: ObjectIdentifier = oid("1.3.6.1.4.1.3704.1.1");
    /// Product name, IA5String, e.g. `Genoa-B1`.
    pub const PRODUCT_NAME: ObjectIdentifier = oid("1.3.6.1.4.1.3704.1.2");
    /// Boot loader level, INTEGER.
    pub const BOOTLOADER: ObjectIdentifier = oid("1.3.6.1.4.1.3704.1.3.1");
    /// TEE level, INTEGER.
    pub const TEE: ObjectIdentifier = oid("1.3.6.1.4.1.3704.1.3.2");
    /// SNP firmware level, INTEGER.
    pub const SNP: ObjectIdentifier = oid("1.3.6.1.4.1.3704.1.3.3");
    /// Microcode level, INTEGER.
    pub const MICROCODE: ObjectIdentifier = oid("1.3.6.1.4.1.3704.1.3.8");
    /// FMC level (Turin), INTEGER.
    pub const FMC: ObjectIdentifier = oid("1.3.6.1.4.1.3704.1.3.9");
    /// Chip id, raw bytes or an OCTET STRING.
    pub const HWID: ObjectIdentifier = oid("1.3.6.1.4.1.3704.1.4");
    /// RSASSA-PSS.
    pub const RSA_PSS: ObjectIdentifier = oid("1.2.840.113549.1.1.10");
    /// RSA public key.
    pub const RSA: ObjectIdentifier = oid("1.2.840.113549.1.1.1");
    /// EC public key.
    pub const EC: ObjectIdentifier = oid("1.2.840.10045.2.1");
    /// Curve P-384.
    pub const P384: ObjectIdentifier = oid("1.3.132.0.34");
    /// Common name.
    pub const COMMON_NAME: ObjectIdentifier = oid("2.5.4.3");
    /// Basic constraints.
    pub const BASIC_CONSTRAINTS: ObjectIdentifier = oid("2.5.29.19");
    /// Key usage.
    pub const KEY_USAGE: ObjectIdentifier = oid("2.5.29.15");
}

/// What a VCEK or VLEK says of the chip it belongs to. Levels the certificate does not name are `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endorsed {
    pub product: Option<String>,
    pub hwid: Option<Vec<u8>>,
    fmc: Option<u8>,
    bootloader: Option<u8>,
    tee: Option<u8>,
    snp: Option<u8>,
    microcode: Option<u8>,
}

impl Endorsed {
    /// Reads AMD's extensions. One that is there but unreadable is an error.
    pub fn of(certificate: &Certificate) -> Result<Self, Error> {
        let level = |oid| certificate.extension(oid).map(small_integer).transpose();
        Ok(Endorsed {
            product: certificate.extension(oid::PRODUCT_NAME).map(text).transpose()?,
            hwid: certificate.extension(oid::HWID).map(chip_id).transpose()?,
            fmc: level(oid::FMC)?,
            bootloader: level(oid::BOOTLOADER)?,
            tee: level(oid::TEE)?,
            snp: level(oid::SNP)?,
            microcode: level(oid::MICROCODE)?,
        })
    }

    /// The TCB the certificate was made for; `None` unless all four common levels are named.
    pub fn tcb(&self) -> Option<Tcb> {
        Some(Tcb {
            fmc: self.fmc,
            bootloader: self.bootloader?,
            tee: self.tee?,
            snp: self.snp?,
            microcode: self.microcode?,
        })
    }
}

/// The P-384 key of a leaf, ready to check reports.
pub(super) fn p384_key(certificate: &Certificate) -> Result<ParsedPublicKey, Error> {
    match certificate.key()? {
        key @ PublicKey::Ec(Curve::P384, _) => key.prepared(Scheme::EcdsaFixed(Hash::Sha384)),
        _ => Err(Error::Certificate("the key is not P-384")),
    }
}

/// Older certificates hold the value bare, newer ones wrapped in an OCTET STRING.
fn unwrapped(value: &[u8]) -> &[u8] {
    <&OctetStringRef>::from_der(value).map_or(value, OctetStringRef::as_bytes)
}

fn small_integer(value: &[u8]) -> Result<u8, Error> {
    u8::from_der(unwrapped(value))
        .map_err(|_| Error::Certificate("a TCB level is not an INTEGER of 0 to 255"))
}

/// A chip id has 64 bytes (8 on Turin); its length alone says whether it is wrapped.
fn chip_id(value: &[u8]) -> Result<Vec<u8>, Error> {
    let id = if matches!(value.len(), 8 | 64) { value } else { unwrapped(value) };
    match id.len() {
        8 | 64 => Ok(id.to_vec()),
        _ => Err(Error::Certificate("the chip id has neither 8 nor 64 bytes")),
    }
}

fn text(value: &[u8]) -> Result<String, Error> {
    let any = AnyRef::from_der(unwrapped(value));
    any.ok()
        .and_then(|any| std::str::from_utf8(any.value()).ok())
        .filter(|text| text.len() <= 64 && text.chars().all(|c| c.is_ascii_graphic()))
        .map(str::to_owned)
        .ok_or(Error::Certificate("the product name is not text"))
}
