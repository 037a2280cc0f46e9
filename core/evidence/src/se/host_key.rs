//! Host key documents: which machines may read an attestation request?
//!
//! A host key document is an X.509 certificate of a machine's P-521 key, issued by IBM's host key signing key, whose own
//! certificate leads over at least one intermediate authority to a public root. The signing key is known by its subject: its
//! certificate is not marked as an authority (IBM, SC34-7721, "Verifying the host key document"; s390-tools `pv`).

use aws_lc_rs::digest::{SHA256, digest};
use cocoon_stage::{Code, Failure};

use super::names;
use crate::x509::{Certificate, Crl, Curve, Hash, Path, PublicKey, Scheme, Validity, path};

/// More certificates of signing keys are not tried.
const MAX_SIGNING: usize = 8;

/// What host key documents are verified against. All of it comes from the operator, and only the roots are trusted.
#[derive(Clone, Debug, Default)]
pub struct HostKeyTrust {
    /// Roots, trusted as they are.
    pub roots: Vec<Certificate>,
    /// IBM's signing keys and the intermediate authorities.
    pub certificates: Vec<Certificate>,
    /// Revocation lists: for each certificate below a root there must be one of its issuer.
    pub crls: Vec<Crl>,
}

/// The key of a trusted machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKey {
    point: Vec<u8>,
    hash: [u8; 32],
    validity: Validity,
    subject: String,
}

impl HostKey {
    /// Verifies a host key document, DER or PEM of one certificate, at an instant.
    ///
    /// # Errors
    /// [`Code::AttestEvidenceMalformed`] for what is no such document, [`Code::AttestChainUntrusted`] where it does not lead to
    /// a root, [`Code::AttestCertificateExpired`], [`Code::AttestRevoked`], and [`Code::AttestCollateralMissing`] where a
    /// valid revocation list is missing.
    pub fn verify(document: &[u8], trust: &HostKeyTrust, now_unix: u64) -> Result<Self, Failure> {
        let certificate = parse(document)?;
        let key = host_public_key(&certificate)?;
        let candidates = trust.certificates.iter().filter(|candidate| {
            let (issuer, subject) = (certificate.issuer_name(), candidate.subject_name());
            names::is_signing_key(subject) && names::same(issuer, subject)
        });
        let signed =
            |candidate: &&Certificate| candidate.key().is_ok_and(|key| certificate.is_signed_with(&key));
        let mut outcome = untrusted("no IBM Z host key signing key stands behind the host key document");
        // A signing key's certificate is renewed now and then: any of them will do.
        for signing in candidates.filter(signed).take(MAX_SIGNING) {
            outcome = validity(&certificate, signing, trust, now_unix);
            if outcome.is_ok() {
                break;
            }
        }
        HostKey::of(&key, outcome?, certificate.subject())
    }

    fn of(key: &PublicKey, validity: Validity, subject: String) -> Result<Self, Failure> {
        let malformed =
            || Failure::new(Code::AttestEvidenceMalformed, "the host key is not a point of P-521");
        let PublicKey::Ec(Curve::P521, point) = key else { return Err(malformed()) };
        let hashed = digest(&SHA256, &coordinates(point).ok_or_else(malformed)?);
        let hash = hashed.as_ref().try_into().map_err(|_| malformed())?;
        Ok(HostKey { point: point.clone(), hash, validity, subject })
    }

    /// The key's hash, by which requests and measurements name it: SHA-256 of its coordinates, 80 bytes each.
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// When all that vouches for the key is valid; it ends with the first revocation list that is due. Verify the document
    /// anew with fresh lists before that.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The document's subject, printable.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The public key, an uncompressed point of P-521.
    pub(super) fn point(&self) -> &[u8] {
        &self.point
    }
}

/// When a host key document and the chain of its signing key are valid and not revoked, if now.
fn validity(
    document: &Certificate,
    signing: &Certificate,
    trust: &HostKeyTrust,
    now_unix: u64,
) -> Result<Validity, Failure> {
    let Ok(chain) = path(signing, &trust.certificates, &trust.roots) else {
        return untrusted("the host key signing key does not lead to a trusted root");
    };
    // A signing key that somebody put among the roots, or that a root issued directly, is not IBM's way.
    if chain.certificates.len() < 3 {
        return untrusted("there is no authority between the host key signing key and the root");
    }
    let mut all = std::iter::once(document).chain(chain.certificates.iter().copied());
    if let Some(outside) = all.find(|c| !c.validity().contains(now_unix)) {
        let Validity { not_before, not_after } = outside.validity();
        let subject = outside.subject();
        let reason = format!("{subject} is valid from {not_before} until {not_after}, not at {now_unix}");
        return Err(Failure::new(Code::AttestCertificateExpired, reason));
    }
    let signing_key = signing.key()?;
    let of_signing =
        |crl: &&Crl| names::same(crl.issuer(), signing.subject_name()) && crl.is_signed_with(&signing_key);
    let mut validity = within(document.validity(), &chain);
    let mut until = unrevoked(document, trust.crls.iter().filter(of_signing), now_unix)?;
    for (subject, issuer) in chain.certificates.iter().zip(chain.certificates.iter().skip(1)) {
        let of_issuer = trust.crls.iter().filter(|crl| crl.is_signed_by(issuer));
        until = until.min(unrevoked(subject, of_issuer, now_unix)?);
    }
    validity.not_after = validity.not_after.min(until);
    Ok(validity)
}

fn untrusted<T>(reason: &str) -> Result<T, Failure> {
    Err(Failure::new(Code::AttestChainUntrusted, reason))
}

/// The only certificate of a document.
fn parse(document: &[u8]) -> Result<Certificate, Failure> {
    let several = || Failure::new(Code::AttestEvidenceMalformed, "a host key document is one certificate");
    if !document.starts_with(b"-----BEGIN") {
        return Ok(Certificate::parse(document)?);
    }
    let mut certificates = Certificate::parse_chain(document)?;
    let certificate = certificates.pop().ok_or_else(several)?;
    if certificates.is_empty() { Ok(certificate) } else { Err(several()) }
}

/// The key of the document, which must be a valid one on P-521.
fn host_public_key(certificate: &Certificate) -> Result<PublicKey, Failure> {
    let key = certificate.key()?;
    match key.prepared(Scheme::Ecdsa(Hash::Sha512)) {
        Ok(_) if matches!(key, PublicKey::Ec(Curve::P521, _)) => Ok(key),
        _ => Err(Failure::new(Code::AttestEvidenceMalformed, "a host key is an EC key on P-521")),
    }
}

fn within(leaf: Validity, chain: &Path<'_>) -> Validity {
    chain.certificates.iter().map(|c| c.validity()).fold(leaf, |a, b| Validity {
        not_before: a.not_before.max(b.not_before),
        not_after: a.not_after.min(b.not_after),
    })
}

/// The lists are of the certificate's issuer. One must be valid now, and none of those that are may name the certificate.
/// Gives when the last of them is due.
fn unrevoked<'a>(
    certificate: &Certificate,
    crls: impl Iterator<Item = &'a Crl>,
    now_unix: u64,
) -> Result<u64, Failure> {
    let mut due = None;
    for crl in crls {
        // An old list that names the certificate tells no less.
        if crl.lists(certificate.serial()) {
            return Err(Failure::new(Code::AttestRevoked, format!("{} is revoked", certificate.subject())));
        }
        if crl.validity().contains(now_unix) {
            due = due.max(Some(crl.validity().not_after));
        }
    }
    due.ok_or_else(|| {
        let reason = format!("no valid revocation list of the issuer of {}", certificate.subject());
        Failure::new(Code::AttestCollateralMissing, reason)
    })
}

/// A point's coordinates as the Ultravisor takes them, 80 bytes each.
pub(super) fn coordinates(point: &[u8]) -> Option<[u8; 160]> {
    let (format, xy) = point.split_first()?;
    let (x, y) = xy.split_at_checked(66)?;
    if *format != 4 || y.len() != 66 {
        return None;
    }
    let mut out = [0; 160];
    let (left, right) = out.split_at_mut(80);
    left.iter_mut().skip(14).zip(x).for_each(|(out, byte)| *out = *byte);
    right.iter_mut().skip(14).zip(y).for_each(|(out, byte)| *out = *byte);
    Some(out)
}
