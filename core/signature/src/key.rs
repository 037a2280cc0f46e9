//! Signature keys in PEM: an ECDSA P-256 private key to sign with; P-256, P-384, P-521, RSA and Ed25519 public keys to
//! verify with (the kinds cosign makes and imports).

use std::fmt;

use aws_lc_rs::digest::{Digest, SHA256, digest};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self as sig, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use spki::der::Decode as _;
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};
use zeroize::Zeroizing;

use cocoon_image::Error;

use crate::sealed;

const MAX_PEM: usize = 16 * 1024;
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A fresh ECDSA P-256 key pair in PEM.
pub struct KeyPair {
    /// PKCS#8, `PRIVATE KEY`, unencrypted. Secret.
    pub private_pem: Zeroizing<String>,
    /// SubjectPublicKeyInfo, `PUBLIC KEY`.
    pub public_pem: String,
}

impl KeyPair {
    /// A new random key pair.
    ///
    /// # Errors
    /// [`Error::Key`] where there is no randomness.
    pub fn generate() -> Result<Self, Error> {
        let fail = || Error::Key("no key could be generated".to_owned());
        let document =
            EcdsaKeyPair::generate_pkcs8(&sig::ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
        let private_pem = to_pem("PRIVATE KEY", document.map_err(|_| fail())?.as_ref());
        let public_pem = SigningKey::from_pem(&private_pem)?.public_pem()?;
        Ok(KeyPair { private_pem, public_pem })
    }
}

/// A private key that signs.
pub struct SigningKey(EcdsaKeyPair);

impl SigningKey {
    /// Reads an unencrypted PKCS#8 ECDSA P-256 key.
    ///
    /// # Errors
    /// [`Error::Key`]; the message never quotes the input.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        if pem.contains("ENCRYPTED") {
            return Err(Error::Key("it is encrypted, and no password is given".to_owned()));
        }
        let der = from_pem(pem, "PRIVATE KEY")?;
        SigningKey::from_der(&der)
    }

    /// Reads a key that cosign sealed with a password (`ENCRYPTED SIGSTORE PRIVATE KEY`), or an unencrypted one as
    /// [`SigningKey::from_pem`] does, for which the password is not used. Takes about half a second.
    ///
    /// # Errors
    /// [`Error::Key`]; the message never quotes the input.
    pub fn from_pem_with_password(pem: &str, password: &[u8]) -> Result<Self, Error> {
        let Some(label) = sealed::LABELS.iter().find(|label| pem.contains(**label)) else {
            return SigningKey::from_pem(pem);
        };
        let content = from_pem(pem, label)?;
        let der = sealed::open(&content, password).map_err(|why| Error::Key(why.to_owned()))?;
        SigningKey::from_der(&der)
    }

    fn from_der(der: &[u8]) -> Result<Self, Error> {
        EcdsaKeyPair::from_pkcs8(&sig::ECDSA_P256_SHA256_ASN1_SIGNING, der)
            .map(SigningKey)
            .map_err(|_| Error::Key("it is not an ECDSA P-256 key in PKCS#8".to_owned()))
    }

    /// The ASN.1 signature over a message (SHA-256).
    ///
    /// # Errors
    /// [`Error::Key`] where signing fails.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.0.sign(&SystemRandom::new(), message);
        signature.map(|s| s.as_ref().to_vec()).map_err(|_| Error::Key("signing failed".to_owned()))
    }

    /// SHA-256 of the public half's SubjectPublicKeyInfo, standard base64: how bundles hint at a key.
    ///
    /// # Errors
    /// [`Error::Key`] where it cannot be encoded.
    pub fn hint(&self) -> Result<String, Error> {
        let public = VerifyingKey::from_pem(&self.public_pem()?)?;
        Ok(STANDARD.encode(digest(&SHA256, public.der())))
    }

    /// The public half, SubjectPublicKeyInfo PEM.
    ///
    /// # Errors
    /// [`Error::Key`] where it cannot be encoded.
    pub fn public_pem(&self) -> Result<String, Error> {
        let der: Result<PublicKeyX509Der, _> = self.0.public_key().as_der();
        let der = der.map_err(|_| Error::Key("the public key cannot be encoded".to_owned()))?;
        Ok(to_pem("PUBLIC KEY", der.as_ref()).to_string())
    }
}

/// A public key and the signature schemes that cosign uses with its kind.
#[derive(Clone)]
pub struct VerifyingKey {
    der: Vec<u8>,
    schemes: &'static [&'static dyn VerificationAlgorithm],
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.fingerprint())
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl VerifyingKey {
    /// Reads a SubjectPublicKeyInfo, PEM.
    ///
    /// # Errors
    /// [`Error::Key`] where it is malformed or of another kind.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        VerifyingKey::from_der(&from_pem(pem, "PUBLIC KEY")?)
    }

    /// Reads a SubjectPublicKeyInfo, DER.
    ///
    /// # Errors
    /// [`Error::Key`] where it is malformed or of another kind.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let der = der.to_vec();
        let spki = SubjectPublicKeyInfoRef::from_der(&der)
            .map_err(|_| Error::Key("it is not a SubjectPublicKeyInfo".to_owned()))?;
        let curve = || spki.algorithm.parameters_oid().ok();
        let schemes: &'static [&'static dyn VerificationAlgorithm] = match spki.algorithm.oid {
            EC if curve() == Some(P256) => &[&sig::ECDSA_P256_SHA256_ASN1],
            // Older cosign hashes with SHA-256 whatever the curve.
            EC if curve() == Some(P384) => &[&sig::ECDSA_P384_SHA384_ASN1, &sig::ECDSA_P384_SHA256_ASN1],
            EC if curve() == Some(P521) => &[&sig::ECDSA_P521_SHA512_ASN1, &sig::ECDSA_P521_SHA256_ASN1],
            RSA => &[&sig::RSA_PKCS1_2048_8192_SHA256, &sig::RSA_PSS_2048_8192_SHA256],
            ED25519 => &[&sig::ED25519],
            _ => return Err(Error::Key("it is none of ECDSA P-256, P-384, P-521, RSA, Ed25519".to_owned())),
        };
        Ok(VerifyingKey { der, schemes })
    }

    /// The SubjectPublicKeyInfo, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// `SHA256:` and the hex of the SubjectPublicKeyInfo's hash: a name for people.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", hex::encode(digest(&SHA256, &self.der)))
    }

    /// Whether the signature over a message with this SHA-256 is this key's. Never for Ed25519, which signs the message
    /// itself.
    pub fn verifies_sha256(&self, hash: &[u8; 32], signature: &[u8]) -> bool {
        let Ok(hash) = Digest::import_less_safe(hash, &SHA256) else { return false };
        self.schemes
            .iter()
            .any(|s| UnparsedPublicKey::new(*s, &self.der).verify_digest(&hash, signature).is_ok())
    }

    /// Whether the signature over the message is this key's.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.schemes.iter().any(|s| UnparsedPublicKey::new(*s, &self.der).verify(message, signature).is_ok())
    }
}

fn to_pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let text = Zeroizing::new(STANDARD.encode(der));
    let mut pem = Zeroizing::new(String::with_capacity(text.len() * 2 + 80));
    pem.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(64).unwrap_or((rest, ""));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

fn from_pem(pem: &str, label: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let refuse = || Error::Key(format!("it is not PEM with the label {label:?}"));
    if pem.len() > MAX_PEM {
        return Err(refuse());
    }
    let (_, rest) = pem.split_once(&format!("-----BEGIN {label}-----")).ok_or_else(refuse)?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----")).ok_or_else(refuse)?;
    let body: Zeroizing<String> = Zeroizing::new(body.chars().filter(|c| !c.is_ascii_whitespace()).collect());
    STANDARD.decode(body.as_bytes()).map(Zeroizing::new).map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    use aws_lc_rs::signature::Ed25519KeyPair;

    #[test]
    fn generated_keys_sign_and_verify() {
        let pair = KeyPair::generate().unwrap();
        let key = SigningKey::from_pem(&pair.private_pem).unwrap();
        let public = VerifyingKey::from_pem(&pair.public_pem).unwrap();
        let signature = key.sign(b"m").unwrap();
        assert!(public.verifies(b"m", &signature) && !public.verifies(b"n", &signature));
    }

    #[test]
    fn other_kinds_verify() {
        let rng = SystemRandom::new();
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: PublicKeyX509Der = rsa.public_key().as_der().unwrap();
        let public = VerifyingKey::from_pem(&to_pem("PUBLIC KEY", der.as_ref())).unwrap();
        for scheme in [&sig::RSA_PKCS1_SHA256, &sig::RSA_PSS_SHA256] {
            let mut out = vec![0; rsa.public_modulus_len()];
            rsa.sign(scheme, &rng, b"m", &mut out).unwrap();
            assert!(public.verifies(b"m", &out) && !public.verifies(b"n", &out));
        }

        let ed = Ed25519KeyPair::generate().unwrap();
        let der: PublicKeyX509Der = ed.public_key().as_der().unwrap();
        let public = VerifyingKey::from_pem(&to_pem("PUBLIC KEY", der.as_ref())).unwrap();
        assert!(public.verifies(b"m", ed.sign(b"m").as_ref()));

        let p384 = EcdsaKeyPair::generate(&sig::ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
        let der: PublicKeyX509Der = p384.public_key().as_der().unwrap();
        let public = VerifyingKey::from_pem(&to_pem("PUBLIC KEY", der.as_ref())).unwrap();
        assert!(public.verifies(b"m", p384.sign(&rng, b"m").unwrap().as_ref()));
    }

    #[test]
    fn cosigns_own_keys_are_read() {
        let dir = std::env::var("COCOON_VECTORS")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into());
        for name in ["cosign1.pub", "cosign2.pub", "cosign3.pub", "nv.pub"] {
            let Ok(pem) = std::fs::read_to_string(format!("{dir}/image/signature/cosign/{name}")) else {
                println!("skipped: no vectors in {dir}");
                return;
            };
            assert!(VerifyingKey::from_pem(&pem).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let encrypted = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----";
        assert!(SigningKey::from_pem(encrypted).err().unwrap().to_string().contains("password"));
        let junk = to_pem("PUBLIC KEY", &[0x30, 3, 1, 2, 3]);
        for bad in ["", "AAAA", "-----BEGIN PUBLIC KEY-----", junk.as_str()] {
            assert!(matches!(VerifyingKey::from_pem(bad), Err(Error::Key(_))));
        }
    }
}
