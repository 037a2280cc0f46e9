//! The log's key: what signs tree heads and what verifies them.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    UnparsedPublicKey, VerificationAlgorithm,
};
use zeroize::Zeroizing;

use crate::Error;

/// What signs tree heads: a [`LogKey`], or a key that is kept elsewhere, e.g. in a hardware module.
pub trait HeadSigner: Send + Sync {
    /// Signs `bytes`. Ed25519: 64 bytes (RFC 8032); P-256: ECDSA with SHA-256, `r ‖ s` of 32 bytes each.
    ///
    /// # Errors
    /// [`Error::Signer`]; nothing is then appended that would have to be signed.
    fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, Error>;

    /// The key that verifies.
    fn public_key(&self) -> PublicKey;

    /// [`PublicKey::key_id`] of it.
    fn key_id(&self) -> String {
        self.public_key().key_id()
    }
}

/// A public log key. Text: `ed25519:` and 64 hex digits, or `p256:` and the 130 of the uncompressed point.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Ed25519,
    P256,
}

impl PublicKey {
    /// An Ed25519 key (RFC 8032 §5.1.5).
    pub fn ed25519(bytes: &[u8; 32]) -> Self {
        PublicKey { algorithm: Algorithm::Ed25519, bytes: bytes.to_vec() }
    }

    /// A P-256 key: uncompressed point (SEC 1 §2.3.3). Whether it is on the curve shows when it verifies nothing.
    ///
    /// # Errors
    /// [`Error::Key`] if the form is another.
    pub fn p256(point: &[u8]) -> Result<Self, Error> {
        if point.len() != 65 || point.first() != Some(&4) {
            return Err(Error::Key("not an uncompressed point of P-256"));
        }
        Ok(PublicKey { algorithm: Algorithm::P256, bytes: point.to_vec() })
    }

    /// The key's id: SHA-256 of its text, 64 hex digits.
    pub fn key_id(&self) -> String {
        hex::encode(digest(&SHA256, self.to_string().as_bytes()).as_ref())
    }

    /// Whether `signature` is this key's over `bytes`.
    pub fn verify(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match self.algorithm {
            Algorithm::Ed25519 => &ED25519,
            Algorithm::P256 => &ECDSA_P256_SHA256_FIXED,
        };
        UnparsedPublicKey::new(algorithm, &self.bytes).verify(bytes, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.algorithm {
            Algorithm::Ed25519 => "ed25519",
            Algorithm::P256 => "p256",
        };
        write!(f, "{name}:{}", hex::encode(&self.bytes))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let malformed = || Error::Key("not `ed25519:` or `p256:` and hex digits");
        let (name, digits) = text.trim().split_once(':').ok_or_else(malformed)?;
        if digits.len() > 130 {
            return Err(malformed());
        }
        let bytes = hex::decode(digits).map_err(|_| malformed())?;
        match name {
            "ed25519" => Ok(Self::ed25519(bytes.as_slice().try_into().map_err(|_| malformed())?)),
            "p256" => Self::p256(&bytes),
            _ => Err(malformed()),
        }
    }
}

/// A log key in this process's memory: Ed25519 if made here, or a P-256 key made elsewhere.
pub struct LogKey(Pair);

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl LogKey {
    /// Makes a new random Ed25519 key.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn generate() -> Result<Self, Error> {
        let pair = Ed25519KeyPair::generate().map_err(|_| Error::System("no key could be generated"))?;
        Ok(LogKey(Pair::Ed25519(pair)))
    }

    /// Reads a PKCS #8 DER private key (RFC 5958), Ed25519 or P-256.
    ///
    /// # Errors
    /// [`Error::Key`] if it is neither.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(der) {
            return Ok(LogKey(Pair::Ed25519(pair)));
        }
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
            .map(|pair| LogKey(Pair::P256(pair)))
            .map_err(|_| Error::Key("not a PKCS #8 key of Ed25519 or P-256"))
    }

    /// The private key as PKCS #8 v1 DER, to be stored sealed.
    ///
    /// # Errors
    /// [`Error::System`] if the library cannot encode it.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let document = match &self.0 {
            Pair::Ed25519(pair) => pair.to_pkcs8v1(),
            Pair::P256(pair) => pair.to_pkcs8v1(),
        };
        let document = document.map_err(|_| Error::System("the log key could not be encoded"))?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }
}

impl HeadSigner for LogKey {
    fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        match &self.0 {
            Pair::Ed25519(pair) => Ok(pair.sign(bytes).as_ref().to_vec()),
            Pair::P256(pair) => pair
                .sign(&SystemRandom::new(), bytes)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| Error::Signer("ECDSA failed".into())),
        }
    }

    fn public_key(&self) -> PublicKey {
        match &self.0 {
            Pair::Ed25519(pair) => {
                PublicKey { algorithm: Algorithm::Ed25519, bytes: pair.public_key().as_ref().to_vec() }
            }
            Pair::P256(pair) => {
                PublicKey { algorithm: Algorithm::P256, bytes: pair.public_key().as_ref().to_vec() }
            }
        }
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogKey").field(&self.public_key()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p256() -> LogKey {
        LogKey(Pair::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()))
    }

    #[test]
    fn both_kinds_sign_and_survive_storage() {
        for key in [LogKey::generate().unwrap(), p256()] {
            let again = LogKey::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
            let public: PublicKey = again.public_key().to_string().parse().unwrap();
            assert_eq!(public, key.public_key());
            let mut signature = again.sign(b"head").unwrap();
            assert!(public.verify(b"head", &signature));
            assert!(!public.verify(b"hear", &signature));
            signature[9] ^= 1;
            assert!(!public.verify(b"head", &signature));
            assert!(!LogKey::generate().unwrap().public_key().verify(b"head", &key.sign(b"head").unwrap()));
        }
    }

    #[test]
    fn other_keys_are_refused() {
        for bad in ["", "ed25519:", "ed25519:00", "p256:00", "rsa:00", "ed25519", &"0".repeat(9999)] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad}");
        }
        assert!(PublicKey::p256(&[2; 65]).is_err());
        assert!(matches!(LogKey::from_pkcs8(b"nonsense"), Err(Error::Key(_))));
    }

    #[test]
    fn debug_shows_the_public_half_only() {
        let key = LogKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("LogKey({})", key.public_key()));
    }
}
