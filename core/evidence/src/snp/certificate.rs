//! X.509 as AMD uses it: RSA-PSS signed intermediates, and P-384 leaves whose extensions name chip and TCB (AMD 57230).

use aws_lc_rs::signature::{self, ParsedPublicKey, UnparsedPublicKey};
use const_oid::ObjectIdentifier;
use der::asn1::{AnyRef, OctetStringRef};
use der::{Decode, Document, Header, Reader, SliceReader, Tag, Tagged};
use x509_cert::ext::pkix::BasicConstraints;
use x509_cert::name::Name;

use super::tcb::Tcb;
use crate::Error;

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

/// A certificate longer than this is not read.
const MAX_DER: usize = 16 * 1024;

/// A parsed certificate, with the exact bytes its issuer signed.
pub(super) struct Certificate {
    tbs: Vec<u8>,
    parsed: x509_cert::Certificate,
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

impl Certificate {
    /// Reads one certificate, DER or PEM (of several in PEM the first). Extensions that occur twice, and unknown critical ones, are errors.
    pub fn parse(data: &[u8]) -> Result<Self, Error> {
        if data.len() > MAX_DER {
            return Err(Error::Certificate("longer than 16 KiB"));
        }
        let der = if data.starts_with(b"-----BEGIN") { first_pem(data)? } else { data.to_vec() };
        let malformed = |_| Error::Certificate("not a DER certificate");
        let parsed = x509_cert::Certificate::from_der(&der).map_err(malformed)?;
        let tbs = signed_part(&der).map_err(malformed)?.to_vec();
        let certificate = Certificate { tbs, parsed };
        let extensions = certificate.parsed.tbs_certificate().extensions().map_or(&[][..], Vec::as_slice);
        for (i, extension) in extensions.iter().enumerate() {
            if extensions.iter().skip(i + 1).any(|other| other.extn_id == extension.extn_id) {
                return Err(Error::Certificate("an extension occurs twice"));
            }
            let known = [oid::BASIC_CONSTRAINTS, oid::KEY_USAGE].contains(&extension.extn_id);
            if extension.critical && !known {
                return Err(Error::Certificate("an unknown critical extension"));
            }
        }
        Ok(certificate)
    }

    /// Whether `issuer`'s name and RSA-PSS SHA-384 key stand behind this certificate.
    pub fn is_issued_by(&self, issuer: &Certificate) -> bool {
        let named = self.parsed.tbs_certificate().issuer() == issuer.parsed.tbs_certificate().subject();
        named && self.is_signed_by(issuer)
    }

    fn is_signed_by(&self, issuer: &Certificate) -> bool {
        let spki = issuer.parsed.tbs_certificate().subject_public_key_info();
        let algorithm = self.parsed.signature_algorithm();
        let key = spki.subject_public_key.as_bytes();
        let signature = self.parsed.signature().as_bytes();
        match (key, signature) {
            (Some(key), Some(signature))
                if algorithm == self.parsed.tbs_certificate().signature()
                    && algorithm.oid == oid::RSA_PSS
                    && spki.algorithm.oid == oid::RSA =>
            {
                UnparsedPublicKey::new(&signature::RSA_PSS_2048_8192_SHA384, key)
                    .verify(&self.tbs, signature)
                    .is_ok()
            }
            _ => false,
        }
    }

    /// Whether basic constraints make this an authority.
    pub fn is_authority(&self) -> bool {
        let constraints = self.parsed.tbs_certificate().get_extension::<BasicConstraints>();
        matches!(constraints, Ok(Some((_, BasicConstraints { ca: true, .. }))))
    }

    /// Subject's common name.
    pub fn subject(&self) -> &str {
        common_name(self.parsed.tbs_certificate().subject())
    }

    /// Issuer's common name.
    pub fn issuer(&self) -> &str {
        common_name(self.parsed.tbs_certificate().issuer())
    }

    /// First and last second of validity, Unix time.
    pub fn validity(&self) -> (u64, u64) {
        let validity = self.parsed.tbs_certificate().validity();
        let seconds = |t: x509_cert::time::Time| t.to_unix_duration().as_secs();
        (seconds(validity.not_before), seconds(validity.not_after))
    }

    /// The P-384 key of a leaf.
    pub fn p384_key(&self) -> Result<ParsedPublicKey, Error> {
        let spki = self.parsed.tbs_certificate().subject_public_key_info();
        let curve = spki.algorithm.parameters.as_ref().and_then(|p| p.decode_as::<ObjectIdentifier>().ok());
        let wrong = Error::Certificate("the key is not P-384");
        if spki.algorithm.oid != oid::EC || curve != Some(oid::P384) {
            return Err(wrong);
        }
        let point = spki.subject_public_key.as_bytes().ok_or(wrong.clone())?;
        ParsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point).map_err(|_| wrong)
    }

    /// Reads AMD's extensions. One that is there but unreadable is an error.
    pub fn endorsed(&self) -> Result<Endorsed, Error> {
        let level = |oid| self.extension(oid).map(small_integer).transpose();
        Ok(Endorsed {
            product: self.extension(oid::PRODUCT_NAME).map(text).transpose()?,
            hwid: self.extension(oid::HWID).map(chip_id).transpose()?,
            fmc: level(oid::FMC)?,
            bootloader: level(oid::BOOTLOADER)?,
            tee: level(oid::TEE)?,
            snp: level(oid::SNP)?,
            microcode: level(oid::MICROCODE)?,
        })
    }

    fn extension(&self, oid: ObjectIdentifier) -> Option<&[u8]> {
        let extensions = self.parsed.tbs_certificate().extensions()?;
        extensions.iter().find(|e| e.extn_id == oid).map(|e| e.extn_value.as_bytes())
    }
}

/// DER of the first certificate of a PEM text; cloud hosts append the chain to the leaf.
fn first_pem(data: &[u8]) -> Result<Vec<u8>, Error> {
    const END: &str = "-----END CERTIFICATE-----";
    let first = std::str::from_utf8(data).ok().and_then(|text| text.split_inclusive(END).next());
    match first.map(Document::from_pem) {
        Some(Ok(("CERTIFICATE", document))) => Ok(document.into_vec()),
        _ => Err(Error::Certificate("not a PEM certificate")),
    }
}

/// The TBSCertificate as it stands in the certificate: exactly the bytes that were signed.
fn signed_part(der: &[u8]) -> der::Result<&[u8]> {
    let mut reader = SliceReader::new(der)?;
    Header::decode(&mut reader)?;
    reader.tlv_bytes()
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

fn common_name(name: &Name) -> &str {
    name.iter()
        .find(|attribute| attribute.oid == oid::COMMON_NAME)
        .filter(|attribute| matches!(attribute.value.tag(), Tag::Utf8String | Tag::PrintableString))
        .and_then(|attribute| std::str::from_utf8(attribute.value.value()).ok())
        .unwrap_or_default()
}
