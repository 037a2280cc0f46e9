//! One certificate, with the exact bytes that its issuer signed.

use const_oid::ObjectIdentifier;
use der::{Decode, Document, Encode, Header, Reader as _, SliceReader, Tag, Tagged};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
use x509_cert::name::Name;

use super::key::{PublicKey, Scheme};
use super::{Crl, Validity};
use crate::Error;

/// A certificate longer than this is not read.
const MAX_DER: usize = 16 * 1024;
/// Most certificates of one PEM text.
const MAX_PEM: usize = 16;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// Extensions that may be critical: basic constraints, key usage, extended key usage, alternative name.
const KNOWN: [ObjectIdentifier; 4] = [
    ObjectIdentifier::new_unwrap("2.5.29.19"),
    ObjectIdentifier::new_unwrap("2.5.29.15"),
    ObjectIdentifier::new_unwrap("2.5.29.37"),
    ObjectIdentifier::new_unwrap("2.5.29.17"),
];

const NAME_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.30");
const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");

/// A parsed certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    der: Vec<u8>,
    tbs: Vec<u8>,
    parsed: x509_cert::Certificate,
}

impl Certificate {
    /// Reads one certificate, DER or PEM (of several in PEM the first), of at most 16 KiB. Extensions that occur twice,
    /// and unknown critical ones, are errors.
    ///
    /// # Errors
    /// [`Error::Certificate`].
    pub fn parse(data: &[u8]) -> Result<Self, Error> {
        if data.starts_with(b"-----BEGIN") {
            let mut chain = pem_blocks(data, "CERTIFICATE", 1)?;
            return Certificate::from_der(chain.pop().ok_or(Error::Certificate("not a PEM certificate"))?);
        }
        Certificate::from_der(data.to_vec())
    }

    /// Reads all certificates of a PEM text, at most 16; text between them is ignored.
    ///
    /// # Errors
    /// [`Error::Certificate`] where one is malformed, there are too many, or none.
    pub fn parse_chain(pem: &[u8]) -> Result<Vec<Self>, Error> {
        let chain = pem_blocks(pem, "CERTIFICATE", MAX_PEM)?;
        if chain.is_empty() {
            return Err(Error::Certificate("no PEM certificate"));
        }
        chain.into_iter().map(Certificate::from_der).collect()
    }

    fn from_der(der: Vec<u8>) -> Result<Self, Error> {
        if der.len() > MAX_DER {
            return Err(Error::Certificate("longer than 16 KiB"));
        }
        let malformed = |_| Error::Certificate("not a DER certificate");
        let parsed = x509_cert::Certificate::from_der(&der).map_err(malformed)?;
        let tbs = signed_part(&der).map_err(malformed)?.to_vec();
        let certificate = Certificate { der, tbs, parsed };
        let extensions = certificate.parsed.tbs_certificate().extensions().map_or(&[][..], Vec::as_slice);
        for (i, extension) in extensions.iter().enumerate() {
            if extensions.iter().skip(i + 1).any(|other| other.extn_id == extension.extn_id) {
                return Err(Error::Certificate("an extension occurs twice"));
            }
            if extension.critical && !KNOWN.contains(&extension.extn_id) {
                return Err(Error::Certificate("an unknown critical extension"));
            }
        }
        Ok(certificate)
    }

    /// The certificate's DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether `issuer`'s name and key stand behind this certificate. Says nothing of whether it may issue.
    pub fn is_issued_by(&self, issuer: &Certificate) -> bool {
        let tbs = self.parsed.tbs_certificate();
        let algorithm = self.parsed.signature_algorithm();
        let signed = || {
            let scheme = Scheme::of(algorithm)?;
            let key = issuer.key().ok()?;
            Some(key.verifies(scheme, &self.tbs, self.parsed.signature().as_bytes()?))
        };
        tbs.issuer() == issuer.parsed.tbs_certificate().subject()
            && algorithm == tbs.signature()
            && signed() == Some(true)
    }

    /// Whether basic constraints and, where there is one, key usage let it issue certificates.
    pub fn is_authority(&self) -> bool {
        let tbs = self.parsed.tbs_certificate();
        let constraints = tbs.get_extension::<BasicConstraints>();
        let usage = match tbs.get_extension::<KeyUsage>() {
            Ok(None) => true,
            Ok(Some((_, usage))) => usage.key_cert_sign(),
            Err(_) => false,
        };
        usage && matches!(constraints, Ok(Some((_, BasicConstraints { ca: true, .. }))))
    }

    /// Whether it may sign revocation lists: an authority whose key usage, if any, does not forbid it.
    pub fn may_sign_crl(&self) -> bool {
        let usage = match self.parsed.tbs_certificate().get_extension::<KeyUsage>() {
            Ok(None) => true,
            Ok(Some((_, usage))) => usage.crl_sign(),
            Err(_) => false,
        };
        usage && self.is_authority()
    }

    /// How many authorities may follow below this one; `None` for any number.
    pub fn path_length(&self) -> Option<u8> {
        match self.parsed.tbs_certificate().get_extension::<BasicConstraints>() {
            Ok(Some((_, constraints))) => constraints.path_len_constraint,
            _ => None,
        }
    }

    /// Whether certificates below this one may be for the purpose: it has no extended key usage, or one that names the
    /// purpose or any (CA/Browser Forum, Baseline Requirements 7.1.2.10.6; RFC 5280 leaves it open for authorities).
    pub fn lets_purpose(&self, purpose: ObjectIdentifier) -> bool {
        match self.parsed.tbs_certificate().get_extension::<ExtendedKeyUsage>() {
            Ok(None) => true,
            Ok(Some((_, ExtendedKeyUsage(list)))) => list.contains(&purpose) || list.contains(&ANY_PURPOSE),
            Err(_) => false,
        }
    }

    /// Whether it limits the names below it (RFC 5280, section 4.2.1.10), which nothing here can judge.
    pub(super) fn has_name_constraints(&self) -> bool {
        self.extension(NAME_CONSTRAINTS).is_some()
    }

    /// Whether subject and issuer are the same name.
    pub fn names_itself(&self) -> bool {
        self.parsed.tbs_certificate().subject() == self.parsed.tbs_certificate().issuer()
    }

    /// Whether the list is of this certificate's issuer (by name alone).
    pub(super) fn is_covered_by(&self, crl: &Crl) -> bool {
        self.parsed.tbs_certificate().issuer() == crl.issuer()
    }

    /// The serial number's bytes as encoded, without leading zeros.
    pub fn serial(&self) -> &[u8] {
        trimmed(self.parsed.tbs_certificate().serial_number().as_bytes())
    }

    /// Subject's common name, printable; empty if there is none.
    pub fn subject(&self) -> String {
        common_name(self.parsed.tbs_certificate().subject())
    }

    /// Issuer's common name, printable; empty if there is none.
    pub fn issuer(&self) -> String {
        common_name(self.parsed.tbs_certificate().issuer())
    }

    /// Validity.
    pub fn validity(&self) -> Validity {
        let validity = self.parsed.tbs_certificate().validity();
        let seconds = |t: x509_cert::time::Time| t.to_unix_duration().as_secs();
        Validity { not_before: seconds(validity.not_before), not_after: seconds(validity.not_after) }
    }

    /// The subject's public key.
    ///
    /// # Errors
    /// [`Error::Certificate`] for a kind of key that is not supported.
    pub fn key(&self) -> Result<PublicKey, Error> {
        PublicKey::of(self.parsed.tbs_certificate().subject_public_key_info())
    }

    /// The subject's SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> Vec<u8> {
        self.parsed.tbs_certificate().subject_public_key_info().to_der().unwrap_or_default()
    }

    /// Content of an extension.
    pub fn extension(&self, oid: ObjectIdentifier) -> Option<&[u8]> {
        let extensions = self.parsed.tbs_certificate().extensions()?;
        extensions.iter().find(|e| e.extn_id == oid).map(|e| e.extn_value.as_bytes())
    }

    /// Whether the key stands behind this certificate, whatever the names say: for issuers that are not marked as
    /// authorities and are known by other means.
    pub(crate) fn is_signed_with(&self, key: &PublicKey) -> bool {
        let algorithm = self.parsed.signature_algorithm();
        let signed = |scheme| {
            self.parsed.signature().as_bytes().is_some_and(|bytes| key.verifies(scheme, &self.tbs, bytes))
        };
        algorithm == self.parsed.tbs_certificate().signature() && Scheme::of(algorithm).is_some_and(signed)
    }

    pub(crate) fn subject_name(&self) -> &Name {
        self.parsed.tbs_certificate().subject()
    }

    pub(crate) fn issuer_name(&self) -> &Name {
        self.parsed.tbs_certificate().issuer()
    }
}

/// The first part of a signed structure as it stands: exactly the bytes that were signed.
pub(super) fn signed_part(der: &[u8]) -> der::Result<&[u8]> {
    let mut reader = SliceReader::new(der)?;
    Header::decode(&mut reader)?;
    reader.tlv_bytes()
}

/// DER of at most `limit` blocks with that label; more are an error unless one is wanted.
pub(super) fn pem_blocks(data: &[u8], label: &'static str, limit: usize) -> Result<Vec<Vec<u8>>, Error> {
    let malformed = Error::Certificate("malformed PEM");
    let text = std::str::from_utf8(data).map_err(|_| malformed.clone())?;
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(&begin) {
        if blocks.len() == limit {
            return if limit == 1 { Ok(blocks) } else { Err(Error::Certificate("too many PEM blocks")) };
        }
        let (body, after) = after.split_once(&end).ok_or_else(|| malformed.clone())?;
        if body.len() > 8 * 1024 * 1024 {
            return Err(malformed);
        }
        // Lines of any length and either ending: senders differ.
        let joined: String = body.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let lines: Vec<&str> = chunks(&joined);
        let block = format!("{begin}\n{}\n{end}\n", lines.join("\n"));
        let (_, document) = Document::from_pem(&block).map_err(|_| malformed.clone())?;
        blocks.push(document.into_vec());
        rest = after;
    }
    Ok(blocks)
}

fn chunks(text: &str) -> Vec<&str> {
    let mut lines = Vec::with_capacity(text.len() / 64 + 1);
    let mut rest = text;
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(64).unwrap_or((rest, ""));
        lines.push(line);
        rest = after;
    }
    lines
}

pub(super) fn trimmed(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|b| **b == 0).count();
    number.get(zeros..).unwrap_or_default()
}

fn common_name(name: &Name) -> String {
    name.iter()
        .find(|attribute| attribute.oid == COMMON_NAME)
        .filter(|attribute| matches!(attribute.value.tag(), Tag::Utf8String | Tag::PrintableString))
        .and_then(|attribute| std::str::from_utf8(attribute.value.value()).ok())
        .map(printable)
        .unwrap_or_default()
}

/// A name from a hostile certificate, fit to print.
pub(crate) fn printable(name: &str) -> String {
    name.chars().take(64).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}
