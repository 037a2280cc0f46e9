//! The signer's certificates (Notary Project signature specification, "Certificate Requirements").

use cocoon_evidence::x509::{Certificate, MAX_DEPTH, PublicKey, path_for};
use const_oid::ObjectIdentifier;
use der::Decode as _;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};
use x509_cert::name::Name;

use super::headers::Algorithm;

const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
/// Purposes that a signing certificate must not have beside: any, TLS servers, mail, time stamps, OCSP.
const FOREIGN: [&str; 5] =
    ["2.5.29.37.0", "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.4", "1.3.6.1.5.5.7.3.8", "1.3.6.1.5.5.7.3.9"];
const MAX_NAME: usize = 300;

/// A signer whose certificates lead to a trusted root.
pub(super) struct Signer {
    pub(super) key: PublicKey,
    /// What its signatures must be made with.
    pub(super) algorithm: Algorithm,
    pub(super) subject: Name,
    /// The subject for people.
    pub(super) name: String,
}

/// The signer, whose certificate comes first of `chain` (DER), judged at a time.
pub(super) fn signer(chain: &[Vec<u8>], roots: &[Certificate], at_unix: u64) -> Result<Signer, String> {
    if chain.is_empty() || chain.len() > MAX_DEPTH {
        return Err(format!("has not 1 to {MAX_DEPTH} certificates"));
    }
    let parsed: Result<Vec<_>, _> = chain.iter().map(|der| Certificate::parse(der)).collect();
    let parsed = parsed.map_err(|e| format!("has an unusable certificate: {e}"))?;
    let (leaf, pool) = parsed.split_first().ok_or("has no certificates")?;
    let code_signing = ObjectIdentifier::new_unwrap(CODE_SIGNING);
    let path =
        path_for(leaf, pool, roots, code_signing).map_err(|e| format!("is not under a trusted root: {e}"))?;
    if let Some(over) = path.expired(at_unix) {
        return Err(format!("has a certificate, {:?}, that is not valid at the time", over.subject()));
    }
    let allowed = path.certificates.iter().all(|c| c.key().is_ok_and(|key| strong(&key)));
    if !allowed {
        return Err("has a certificate with a key that is too weak".to_owned());
    }
    let key = leaf.key().map_err(|e| format!("has an unusable key: {e}"))?;
    let algorithm = Algorithm::of(&key).ok_or("has a key of a size that is not allowed")?;
    let certificate =
        x509_cert::Certificate::from_der(leaf.der()).map_err(|_| "has no usable certificate")?;
    purpose(&certificate)?;
    let subject = certificate.tbs_certificate().subject().clone();
    let name = subject.to_string().chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
    Ok(Signer { key, algorithm, subject, name })
}

/// RSA of 2048 bits or more; curves are all strong enough.
fn strong(key: &PublicKey) -> bool {
    match key {
        PublicKey::Ec(..) => true,
        PublicKey::Rsa(_) => key.rsa_components().is_some_and(|(n, _)| n.len() >= 256),
    }
}

/// Whether the certificate is for code signing and nothing that contradicts it.
fn purpose(certificate: &x509_cert::Certificate) -> Result<(), String> {
    let tbs = certificate.tbs_certificate();
    let wrong = |why: &str| Err(format!("is by a certificate {why}"));
    match tbs.get_extension::<KeyUsage>() {
        Ok(Some((true, usage))) => {
            let other = usage.key_encipherment()
                || usage.data_encipherment()
                || usage.key_agreement()
                || usage.key_cert_sign()
                || usage.crl_sign();
            if !usage.digital_signature() || other {
                return wrong("whose key is not for signatures alone");
            }
        }
        _ => return wrong("without a critical key usage"),
    }
    if !matches!(
        tbs.get_extension::<BasicConstraints>(),
        Ok(None | Some((_, BasicConstraints { ca: false, .. })))
    ) {
        return wrong("of an authority");
    }
    let Ok(Some((_, ExtendedKeyUsage(purposes)))) = tbs.get_extension::<ExtendedKeyUsage>() else {
        return wrong("that is not for code signing");
    };
    let has = |text: &str| ObjectIdentifier::new(text).is_ok_and(|oid| purposes.contains(&oid));
    if !has(CODE_SIGNING) || FOREIGN.iter().any(|text| has(text)) {
        return wrong("that is not for code signing alone");
    }
    Ok(())
}
