//! X.509: whether a document's signing certificate leads to a trusted authority now (RFC 5280, a strict subset).

use aws_lc_rs::digest::{SHA256, digest};
use der::{Decode, Encode, Header, Reader, SliceReader};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
use x509_cert::spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use crate::Error;
use crate::trust::{Form, PublicKey, Scheme, TrustAnchors};

/// Most certificates of a chain.
pub(crate) const MAX_CHAIN: usize = 6;
/// Longest certificate in bytes.
const MAX_DER: usize = 16 * 1024;

const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
const DOCUMENT_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.36");
const ANY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A parsed certificate, with the exact bytes its issuer signed.
pub(crate) struct Certificate {
    tbs: Vec<u8>,
    fingerprint: String,
    key: PublicKey,
    parsed: x509_cert::Certificate,
}

impl Certificate {
    /// Reads DER; `None` for what is malformed, has an extension twice or a critical one not known here, or a key of
    /// another kind than [`PublicKey`] knows.
    pub fn parse(der: &[u8]) -> Option<Self> {
        if der.len() > MAX_DER {
            return None;
        }
        let parsed = x509_cert::Certificate::from_der(der).ok()?;
        let tbs = signed_part(der).ok()?.to_vec();
        let extensions = parsed.tbs_certificate().extensions().map_or(&[][..], Vec::as_slice);
        for (i, extension) in extensions.iter().enumerate() {
            let twice = extensions.iter().skip(i + 1).any(|other| other.extn_id == extension.extn_id);
            let known = [BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE].contains(&extension.extn_id);
            if twice || (extension.critical && !known) {
                return None;
            }
        }
        let spki = parsed.tbs_certificate().subject_public_key_info().to_der().ok()?;
        let key = PublicKey::from_spki(&SubjectPublicKeyInfoRef::from_der(&spki).ok()?)?;
        let fingerprint = format!("sha256:{}", hex::encode(digest(&SHA256, der)));
        Some(Certificate { tbs, fingerprint, key, parsed })
    }

    /// The subject's key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    fn is_issued_by(&self, issuer: &Certificate) -> bool {
        let (own, issuers) = (self.parsed.tbs_certificate(), issuer.parsed.tbs_certificate());
        let algorithm = self.parsed.signature_algorithm();
        let scheme = match algorithm.oid {
            ECDSA_SHA256 => Scheme::EcdsaSha256(Form::Asn1),
            ECDSA_SHA384 => Scheme::EcdsaSha384(Form::Asn1),
            RSA_SHA256 => Scheme::RsaSha256,
            RSA_SHA384 => Scheme::RsaSha384,
            ED25519 => Scheme::Ed25519,
            _ => return false,
        };
        let Some(signature) = self.parsed.signature().as_bytes() else { return false };
        own.issuer() == issuers.subject()
            && algorithm == own.signature()
            && issuer.key.verifies(scheme, &self.tbs, signature)
    }

    fn valid_at(&self, now_unix: u64) -> bool {
        let validity = self.parsed.tbs_certificate().validity();
        let seconds = |t: x509_cert::time::Time| t.to_unix_duration().as_secs();
        (seconds(validity.not_before)..=seconds(validity.not_after)).contains(&now_unix)
    }

    /// Whether it may issue certificates, with so many authorities between it and the signer.
    fn is_authority(&self, between: usize) -> bool {
        let tbs = self.parsed.tbs_certificate();
        let limit = match tbs.get_extension::<BasicConstraints>() {
            Ok(Some((_, BasicConstraints { ca: true, path_len_constraint }))) => path_len_constraint,
            _ => return false,
        };
        let issues = match tbs.get_extension::<KeyUsage>() {
            Ok(usage) => usage.is_none_or(|(_, usage)| usage.key_cert_sign()),
            Err(_) => false,
        };
        issues && limit.is_none_or(|limit| between <= usize::from(limit))
    }

    /// Whether its key may sign documents: no authority, no certificate for something else.
    fn is_signer(&self) -> bool {
        let tbs = self.parsed.tbs_certificate();
        let authority = match tbs.get_extension::<BasicConstraints>() {
            Ok(constraints) => constraints.is_some_and(|(_, c)| c.ca),
            Err(_) => true,
        };
        let usage = match tbs.get_extension::<KeyUsage>() {
            Ok(usage) => usage.is_none_or(|(_, usage)| usage.digital_signature() || usage.non_repudiation()),
            Err(_) => false,
        };
        let purpose = match tbs.get_extension::<ExtendedKeyUsage>() {
            Ok(purposes) => purposes.is_none_or(|(_, ExtendedKeyUsage(purposes))| {
                purposes.iter().any(|p| [CODE_SIGNING, DOCUMENT_SIGNING, ANY_USAGE].contains(p))
            }),
            Err(_) => false,
        };
        !authority && usage && purpose
    }
}

/// The certificates of a document, the signer's first. Only parsed, not yet trusted.
pub(crate) fn parse_chain<'a>(ders: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Certificate>, Error> {
    let mut chain = Vec::new();
    for der in ders {
        if chain.len() >= MAX_CHAIN {
            return Err(Error::Untrusted("its chain has more than 6 certificates"));
        }
        chain.push(
            Certificate::parse(der).ok_or(Error::Untrusted("a certificate of its chain cannot be read"))?,
        );
    }
    Ok(chain)
}

/// The fingerprint of the chain's first certificate, if each is valid now and issued by the next, up to one that an
/// anchor issued. What follows that one is not looked at.
pub(crate) fn trusted_signer(
    chain: &[Certificate],
    trust: &TrustAnchors,
    now_unix: u64,
) -> Result<String, Error> {
    let anchors = trust.authorities()?;
    let signer = chain.first().ok_or(Error::Untrusted("it has no certificate"))?;
    if !signer.is_signer() {
        return Err(Error::Untrusted("its certificate is not one to sign documents with"));
    }
    for (above, certificate) in chain.iter().enumerate() {
        if !certificate.valid_at(now_unix) {
            return Err(Error::Untrusted("a certificate of its chain is not valid now"));
        }
        let issuing = |issuer: &Certificate| issuer.is_authority(above) && certificate.is_issued_by(issuer);
        if let Some(anchor) = anchors.iter().find(|anchor| issuing(anchor)) {
            if !anchor.valid_at(now_unix) {
                return Err(Error::Untrusted("the trusted authority's certificate is not valid now"));
            }
            return Ok(signer.fingerprint.clone());
        }
        if !chain.get(above + 1).is_some_and(issuing) {
            return Err(Error::Untrusted("its chain does not lead to a trusted authority"));
        }
    }
    Err(Error::Untrusted("its chain does not lead to a trusted authority"))
}

/// The TBSCertificate as it stands in the certificate: exactly the bytes that were signed.
fn signed_part(der: &[u8]) -> der::Result<&[u8]> {
    let mut reader = SliceReader::new(der)?;
    Header::decode(&mut reader)?;
    reader.tlv_bytes()
}
