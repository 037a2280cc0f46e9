//! Keys of JWE recipients: public ones to encrypt to, private ones to decrypt with. From the owner's files: PEM, DER or
//! JWK, told apart by their content.

mod der;
mod jwk;
mod pbes2;

use aws_lc_rs::agreement::PrivateKey;
use aws_lc_rs::rsa::{
    OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use zeroize::Zeroizing;

use super::ecdh::Curve;
use crate::Error;

/// Largest key file, in bytes.
const MAX_FILE: usize = 64 * 1024;
/// Sizes of RSA keys, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

fn refuse(why: impl Into<String>) -> Error {
    Error::Key(why.into())
}

/// A public key that layer keys are encrypted to.
pub struct RecipientKey(pub(super) Public);

pub(super) enum Public {
    Rsa(OaepPublicEncryptingKey),
    Ec { curve: Curve, point: Vec<u8> },
}

impl RecipientKey {
    /// Reads an RSA key of 2048 to 8192 bits or a P-256, P-384 or P-521 key: `PUBLIC KEY` (SPKI), `RSA PUBLIC KEY`
    /// (PKCS #1) or `CERTIFICATE`, each as PEM or DER, or a JWK. A certificate is a container here: neither its time
    /// nor its issuer is looked at, as the owner chose the file.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn parse(file: &[u8]) -> Result<Self, Error> {
        if file.len() > MAX_FILE {
            return Err(refuse("the file is too large for a key"));
        }
        if let Some(json) = jwk::read(file)? {
            return jwk::public(&json).map(RecipientKey);
        }
        let (label, bytes) = der::unarmour(file)?;
        der::public(label.as_deref(), &bytes).map(RecipientKey)
    }

    /// What it is, for people: `RSA 2048` or `EC P-256`.
    pub fn describe(&self) -> String {
        match &self.0 {
            Public::Rsa(key) => format!("RSA {}", key.key_size_bits()),
            Public::Ec { curve, .. } => format!("EC {}", curve.name()),
        }
    }
}

/// A private key that layer keys are decrypted with.
pub struct OpeningKey(pub(super) Private);

pub(super) enum Private {
    Rsa(OaepPrivateDecryptingKey),
    Ec { curve: Curve, key: PrivateKey },
}

impl OpeningKey {
    /// Reads the private half of what [`RecipientKey::parse`] reads: `PRIVATE KEY` (PKCS #8), `RSA PRIVATE KEY`
    /// (PKCS #1), `EC PRIVATE KEY` (SEC 1), `ENCRYPTED PRIVATE KEY` (PKCS #8 under PBES2 with PBKDF2 and AES-CBC, which
    /// takes the password), each as PEM or DER, or a JWK.
    ///
    /// # Errors
    /// [`Error::Key`]; the message quotes nothing of the file.
    pub fn parse(file: &[u8], password: Option<&[u8]>) -> Result<Self, Error> {
        if file.len() > MAX_FILE {
            return Err(refuse("the file is too large for a key"));
        }
        if let Some(json) = jwk::read(file)? {
            return jwk::private(&json).map(OpeningKey);
        }
        let (label, bytes) = der::unarmour(file)?;
        let bytes = Zeroizing::new(bytes);
        let encrypted = label.as_deref() == Some("ENCRYPTED PRIVATE KEY");
        if encrypted || (label.is_none() && pbes2::looks_like(&bytes)) {
            let password = password.ok_or_else(|| refuse("it is encrypted; give its password"))?;
            return der::private(None, &pbes2::decrypt(&bytes, password)?).map(OpeningKey);
        }
        der::private(label.as_deref(), &bytes).map(OpeningKey)
    }
}

fn rsa_public(key: PublicEncryptingKey) -> Result<Public, Error> {
    if !RSA_BITS.contains(&key.key_size_bits()) {
        return Err(refuse("an RSA key has 2048 to 8192 bits"));
    }
    OaepPublicEncryptingKey::new(key).map(Public::Rsa).map_err(|_| refuse("the RSA key is not usable"))
}

fn rsa_private(pkcs8: &[u8]) -> Result<Private, Error> {
    let wrong = |_| refuse("it is no usable RSA key");
    let key = PrivateDecryptingKey::from_pkcs8(pkcs8).map_err(wrong)?;
    if !RSA_BITS.contains(&key.key_size_bits()) {
        return Err(refuse("an RSA key has 2048 to 8192 bits"));
    }
    OaepPrivateDecryptingKey::new(key).map(Private::Rsa).map_err(|_| refuse("the RSA key is not usable"))
}

fn ec_public(curve: Curve, point: &[u8]) -> Result<Public, Error> {
    if !curve.has_point(point) {
        return Err(refuse("the EC key is not an uncompressed point on its curve"));
    }
    Ok(Public::Ec { curve, point: point.to_vec() })
}

#[cfg(test)]
mod tests;
