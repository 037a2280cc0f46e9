//! Certificate revocation lists (RFC 5280, section 5).

use std::collections::BTreeSet;

use const_oid::ObjectIdentifier;
use der::Decode;
use x509_cert::crl::CertificateList;
use x509_cert::name::Name;

use super::certificate::{pem_blocks, signed_part, trimmed};
use super::key::{PublicKey, Scheme};
use super::{Certificate, Validity};
use crate::Error;

/// A list longer than this is not read; Intel's largest has about 100 kB.
const MAX_DER: usize = 1024 * 1024;
/// Authority key identifier, CRL number: the extensions of a whole list.
const KNOWN: [ObjectIdentifier; 2] =
    [ObjectIdentifier::new_unwrap("2.5.29.35"), ObjectIdentifier::new_unwrap("2.5.29.20")];
/// Delta indicator and issuing distribution point: a list with them is not whole, even if it does not call them critical.
const PARTIAL: [ObjectIdentifier; 2] =
    [ObjectIdentifier::new_unwrap("2.5.29.27"), ObjectIdentifier::new_unwrap("2.5.29.28")];
const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");

/// A parsed list. It is worth nothing until [`Crl::is_signed_by`] says so.
#[derive(Clone, Debug)]
pub struct Crl {
    tbs: Vec<u8>,
    signature: Vec<u8>,
    scheme: Option<Scheme>,
    issuer: Name,
    validity: Validity,
    number: Option<u64>,
    revoked: BTreeSet<Vec<u8>>,
}

impl Crl {
    /// Reads a list, DER or PEM, or DER in hex as Intel's caching service sends it; at most 1 MiB of DER. Lists that are
    /// partial, or have unknown critical extensions or one twice, are refused, as are lists without a next update.
    ///
    /// # Errors
    /// [`Error::Certificate`].
    pub fn parse(data: &[u8]) -> Result<Self, Error> {
        let malformed = |_| Error::Certificate("not a DER certificate revocation list");
        let der = if data.starts_with(b"-----BEGIN") {
            pem_blocks(data, "X509 CRL", 1)?.pop().ok_or(Error::Certificate("not a PEM revocation list"))?
        } else if data.first() == Some(&b'3') {
            hex::decode(data.trim_ascii()).map_err(|_| Error::Certificate("not a revocation list in hex"))?
        } else {
            data.to_vec()
        };
        if der.len() > MAX_DER {
            return Err(Error::Certificate("a revocation list of more than 1 MiB"));
        }
        let list: CertificateList = CertificateList::from_der(&der).map_err(malformed)?;
        let tbs = signed_part(&der).map_err(malformed)?.to_vec();
        let extensions = list.tbs_cert_list.crl_extensions.as_ref().map_or(&[][..], Vec::as_slice);
        if extensions.iter().any(|e| PARTIAL.contains(&e.extn_id)) {
            return Err(Error::Certificate("a partial revocation list"));
        }
        let kinds: BTreeSet<ObjectIdentifier> = extensions.iter().map(|e| e.extn_id).collect();
        if kinds.len() != extensions.len() {
            return Err(Error::Certificate("a revocation list with an extension that occurs twice"));
        }
        if extensions.iter().any(|e| e.critical && !KNOWN.contains(&e.extn_id)) {
            return Err(Error::Certificate("a revocation list with an unknown critical extension"));
        }
        let number = extensions
            .iter()
            .find(|e| e.extn_id == CRL_NUMBER)
            .and_then(|e| u64::from_der(e.extn_value.as_bytes()).ok());
        let scheme = Scheme::of(&list.signature_algorithm)
            .filter(|_| list.signature_algorithm == list.tbs_cert_list.signature);
        let seconds = |t: x509_cert::time::Time| t.to_unix_duration().as_secs();
        let next = list.tbs_cert_list.next_update;
        let validity = Validity {
            not_before: seconds(list.tbs_cert_list.this_update),
            not_after: seconds(next.ok_or(Error::Certificate("a revocation list without next update"))?),
        };
        let entries = list.tbs_cert_list.revoked_certificates.unwrap_or_default();
        let mut revoked = BTreeSet::new();
        for entry in entries {
            if entry.crl_entry_extensions.iter().flatten().any(|e| e.critical) {
                return Err(Error::Certificate("a revocation list entry with a critical extension"));
            }
            revoked.insert(trimmed(entry.serial_number.as_bytes()).to_vec());
        }
        Ok(Crl {
            tbs,
            signature: list.signature.as_bytes().unwrap_or_default().to_vec(),
            scheme,
            issuer: list.tbs_cert_list.issuer,
            validity,
            number,
            revoked,
        })
    }

    /// Whether `issuer`'s name and key stand behind the list and it may sign lists.
    pub fn is_signed_by(&self, issuer: &Certificate) -> bool {
        let signed = |scheme| issuer.key().is_ok_and(|key| key.verifies(scheme, &self.tbs, &self.signature));
        issuer.may_sign_crl() && &self.issuer == issuer.subject_name() && self.scheme.is_some_and(signed)
    }

    /// Whether the certificate is on the list. Serial numbers count within one issuer: ask only of its own certificates.
    pub fn revokes(&self, certificate: &Certificate) -> bool {
        certificate.is_covered_by(self) && self.revoked.contains(certificate.serial())
    }

    /// From this update to the next.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The CRL number, where it has one.
    pub fn number(&self) -> Option<u64> {
        self.number
    }

    /// How many certificates are on it.
    pub fn len(&self) -> usize {
        self.revoked.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.revoked.is_empty()
    }

    /// Whether the key stands behind the list, whatever the names say: for issuers that are not marked as authorities and
    /// are known by other means.
    pub(crate) fn is_signed_with(&self, key: &PublicKey) -> bool {
        self.scheme.is_some_and(|scheme| key.verifies(scheme, &self.tbs, &self.signature))
    }

    /// Whether the serial number (without leading zeros) is on the list, whoever issued it.
    pub(crate) fn lists(&self, serial: &[u8]) -> bool {
        self.revoked.contains(serial)
    }

    pub(crate) fn issuer(&self) -> &Name {
        &self.issuer
    }
}
