//! Whose signatures count: trusted keys and certificate authorities, and signatures by a key of any kind.

use aws_lc_rs::signature::{self as sig, UnparsedPublicKey, VerificationAlgorithm};
use der::{Decode, Document};
use x509_cert::spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use crate::Error;
use crate::certificate::Certificate;
use crate::value::printable;

/// Longest key in bytes.
const MAX_KEY: usize = 16 * 1024;
/// Most keys and most certificates.
const MAX_ANCHORS: usize = 64;

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A trusted public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorKey {
    /// Its id, as documents name it (`kid`, `keyid`) and as records keep it; printable ASCII without `#`, up to 100.
    pub id: String,
    /// SubjectPublicKeyInfo of a P-256, P-384, Ed25519 or RSA (2,048 to 8,192 bits) key, PEM or DER.
    pub key: Vec<u8>,
}

/// Who may sign documents. Empty: nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustAnchors {
    /// Keys, up to 64.
    pub keys: Vec<AnchorKey>,
    /// Certificates of authorities, X.509, PEM or DER, up to 64. A document's chain must end below one of them.
    pub certificates: Vec<Vec<u8>>,
}

impl TrustAnchors {
    /// Whether all anchors can be read; for settings, before they are used.
    ///
    /// # Errors
    /// [`Error::Key`] with the id of the key, or `certificate <n>` counted from 0.
    pub fn check(&self) -> Result<(), Error> {
        if self.keys.len() > MAX_ANCHORS || self.certificates.len() > MAX_ANCHORS {
            return Err(Error::Key { id: String::new(), reason: "more than 64 anchors" });
        }
        for (i, key) in self.keys.iter().enumerate() {
            let refused = |reason| Err(Error::Key { id: key.id.chars().take(100).collect(), reason });
            if !printable(&key.id, 100) {
                return refused("an id has 1 to 100 printable ASCII characters without `#`");
            }
            if self.keys.iter().skip(i + 1).any(|other| other.id == key.id) {
                return refused("two keys have the same id");
            }
        }
        self.keys()?;
        self.authorities().map(drop)
    }

    /// All keys with their ids.
    pub(crate) fn keys(&self) -> Result<Vec<(&str, PublicKey)>, Error> {
        let read = |key: &AnchorKey| {
            PublicKey::read(&key.key).ok_or(Error::Key {
                id: key.id.clone(),
                reason: "not a P-256, P-384, Ed25519 or RSA public key",
            })
        };
        self.keys.iter().map(|key| Ok((key.id.as_str(), read(key)?))).collect()
    }

    /// All certificates.
    pub(crate) fn authorities(&self) -> Result<Vec<Certificate>, Error> {
        let read = |(i, bytes): (usize, &Vec<u8>)| {
            let der = der_of(bytes, "CERTIFICATE");
            der.and_then(|der| Certificate::parse(&der))
                .ok_or(Error::Key { id: format!("certificate {i}"), reason: "not an X.509 certificate" })
        };
        self.certificates.iter().enumerate().map(read).collect()
    }
}

/// How a signature of two numbers is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// R ‖ S, each as long as the curve.
    Fixed,
    /// DER sequence.
    Asn1,
}

/// A signature scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    EcdsaSha256(Form),
    EcdsaSha384(Form),
    RsaSha256,
    RsaSha384,
    RsaPssSha256,
    Ed25519,
}

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    P256,
    P384,
    Ed25519,
    Rsa,
}

/// A public key of a known kind.
#[derive(Clone, Debug)]
pub(crate) struct PublicKey {
    pub kind: Kind,
    /// EC point, raw Ed25519 key, or RSAPublicKey in DER.
    bits: Vec<u8>,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo, PEM or DER.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let der = der_of(bytes, "PUBLIC KEY")?;
        Self::from_spki(&SubjectPublicKeyInfoRef::from_der(&der).ok()?)
    }

    /// The key of a parsed SubjectPublicKeyInfo.
    pub fn from_spki(spki: &SubjectPublicKeyInfoRef<'_>) -> Option<Self> {
        let curve = || spki.algorithm.parameters_oid().ok();
        let kind = match spki.algorithm.oid {
            EC if curve() == Some(P256) => Kind::P256,
            EC if curve() == Some(P384) => Kind::P384,
            ED25519 => Kind::Ed25519,
            RSA => Kind::Rsa,
            _ => return None,
        };
        Some(PublicKey { kind, bits: spki.subject_public_key.as_bytes()?.to_vec() })
    }

    /// Whether the signature over the message is this key's; `false` too where key and scheme do not fit.
    pub fn verifies(&self, scheme: Scheme, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match (self.kind, scheme) {
            (Kind::P256, Scheme::EcdsaSha256(Form::Fixed)) => &sig::ECDSA_P256_SHA256_FIXED,
            (Kind::P256, Scheme::EcdsaSha256(Form::Asn1)) => &sig::ECDSA_P256_SHA256_ASN1,
            (Kind::P256, Scheme::EcdsaSha384(Form::Asn1)) => &sig::ECDSA_P256_SHA384_ASN1,
            (Kind::P384, Scheme::EcdsaSha384(Form::Fixed)) => &sig::ECDSA_P384_SHA384_FIXED,
            (Kind::P384, Scheme::EcdsaSha384(Form::Asn1)) => &sig::ECDSA_P384_SHA384_ASN1,
            (Kind::P384, Scheme::EcdsaSha256(Form::Asn1)) => &sig::ECDSA_P384_SHA256_ASN1,
            (Kind::Rsa, Scheme::RsaSha256) => &sig::RSA_PKCS1_2048_8192_SHA256,
            (Kind::Rsa, Scheme::RsaSha384) => &sig::RSA_PKCS1_2048_8192_SHA384,
            (Kind::Rsa, Scheme::RsaPssSha256) => &sig::RSA_PSS_2048_8192_SHA256,
            (Kind::Ed25519, Scheme::Ed25519) => &sig::ED25519,
            _ => return false,
        };
        UnparsedPublicKey::new(algorithm, &self.bits).verify(message, signature).is_ok()
    }
}

/// DER, from DER or from PEM with this label.
fn der_of(bytes: &[u8], label: &str) -> Option<Vec<u8>> {
    if bytes.len() > MAX_KEY {
        return None;
    }
    let text = bytes.trim_ascii();
    if !text.starts_with(b"-----BEGIN") {
        return Some(bytes.to_vec());
    }
    let (found, document) = Document::from_pem(std::str::from_utf8(text).ok()?).ok()?;
    (found == label).then(|| document.into_vec())
}
