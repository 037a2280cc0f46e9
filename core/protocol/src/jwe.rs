//! JSON Web Encryption (RFC 7516), flattened JSON form, as the KBS answers a guest with it.
//!
//! Content is always A256GCM under a fresh random key and IV; that key is encrypted to the guest's ephemeral public
//! key. Existing guests decode the protected header and encode it again to get the AAD, so the header's spelling is
//! part of the format: compact JSON, `alg`, `enc`, then other members sorted.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::PrivateKey;
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, Pkcs1PublicEncryptingKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::jwk::{self, EcCurve, RsaAlg, TeePublicKey};
use crate::{Error, b64};

pub(crate) mod kdf;

use kdf::KEY_LEN;

/// Largest plaintext in bytes, when encrypting and when decrypting.
pub const MAX_PLAINTEXT: usize = 4 * 1024 * 1024;
/// Length of the GCM tag in bytes.
pub const TAG_LEN: usize = 16;
/// Length of the GCM IV in bytes.
pub const IV_LEN: usize = NONCE_LEN;

pub(crate) const ALG_ECDH: &str = "ECDH-ES+A256KW";
pub(crate) const ENC: &str = "A256GCM";

/// The flattened JSON serialization; every member is base64url without padding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JweFlattened {
    /// The protected header: compact JSON.
    pub protected: String,
    /// The encrypted content key: 40 bytes for ECDH-ES+A256KW, one modulus length for RSA.
    pub encrypted_key: String,
    /// The IV, 12 bytes.
    pub iv: String,
    /// The ciphertext, as long as the plaintext.
    pub ciphertext: String,
    /// The tag, 16 bytes.
    pub tag: String,
    /// Additional authenticated data; never written, and refused when decrypting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aad: Option<String>,
}

/// The protected header; field order is wire order.
#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    enc: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    epk: Option<EphemeralKey<'a>>,
}

#[derive(Serialize)]
struct EphemeralKey<'a> {
    crv: &'a str,
    kty: &'a str,
    x: &'a str,
    y: &'a str,
}

/// Encrypts `plaintext` (at most [`MAX_PLAINTEXT`] bytes) so that only the holder of `key`'s private half reads it.
///
/// # Errors
/// [`Error::Invalid`], [`Error::Base64`] or [`Error::TooLarge`] for a key that is none; [`Error::TooLarge`] for the
/// plaintext; [`Error::Crypto`].
pub fn encrypt(key: &TeePublicKey, plaintext: &[u8]) -> Result<JweFlattened, Error> {
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(Error::TooLarge { what: "plaintext", size: plaintext.len(), limit: MAX_PLAINTEXT });
    }
    let mut cek = Zeroizing::new([0; KEY_LEN]);
    fill(cek.as_mut_slice())?;
    let (protected, encrypted_key) = match key {
        TeePublicKey::Ec { crv, x, y } => encrypt_key_ecdh(*crv, x, y, &cek)?,
        TeePublicKey::Rsa { alg, n, e } => {
            let header = protected_header(&Header { alg: alg.name(), enc: ENC, epk: None })?;
            (header, encrypt_key_rsa(*alg, n, e, &cek)?)
        }
    };
    let mut iv = [0; IV_LEN];
    fill(&mut iv)?;
    // Encrypted in place: the copy of the plaintext becomes the ciphertext.
    let mut content = Zeroizing::new(plaintext.to_vec());
    let tag = content_key(&cek)?
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(iv),
            Aad::from(protected.as_bytes()),
            content.as_mut_slice(),
        )
        .map_err(|_| Error::Crypto("AES-256-GCM"))?;
    Ok(JweFlattened {
        encrypted_key: b64::url_encode(&encrypted_key),
        iv: b64::url_encode(&iv),
        ciphertext: b64::url_encode(&content),
        tag: b64::url_encode(tag.as_ref()),
        protected,
        aad: None,
    })
}

/// The form of protocol 0.1.1, for RSA1_5 keys only: `protected` is the header's JSON itself, the GCM tag follows the
/// ciphertext, `tag` is empty and there is no AAD. Otherwise as [`encrypt`].
///
/// The header is not authenticated; it says nothing that the guest does not check against its own key.
///
/// # Errors
/// [`Error::Algorithm`] for another key than RSA1_5; else as [`encrypt`].
pub fn encrypt_0_1_1(key: &TeePublicKey, plaintext: &[u8]) -> Result<JweFlattened, Error> {
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(Error::TooLarge { what: "plaintext", size: plaintext.len(), limit: MAX_PLAINTEXT });
    }
    let TeePublicKey::Rsa { alg: RsaAlg::Pkcs1v15, n, e } = key else {
        return Err(Error::Algorithm("protocol 0.1.1 knows RSA1_5 only".into()));
    };
    let mut cek = Zeroizing::new([0; KEY_LEN]);
    fill(cek.as_mut_slice())?;
    let encrypted_key = encrypt_key_rsa(RsaAlg::Pkcs1v15, n, e, &cek)?;
    let mut iv = [0; IV_LEN];
    fill(&mut iv)?;
    let mut content = Zeroizing::new(plaintext.to_vec());
    let tag = content_key(&cek)?
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(iv), Aad::empty(), content.as_mut_slice())
        .map_err(|_| Error::Crypto("AES-256-GCM"))?;
    content.extend_from_slice(tag.as_ref());
    Ok(JweFlattened {
        protected: format!(r#"{{"alg":"{}","enc":"{ENC}"}}"#, RsaAlg::Pkcs1v15.name()),
        encrypted_key: b64::url_encode(&encrypted_key),
        iv: b64::url_encode(&iv),
        ciphertext: b64::url_encode(&content),
        tag: String::new(),
        aad: None,
    })
}

/// The AES-256-GCM key for a content key.
pub(crate) fn content_key(cek: &[u8; KEY_LEN]) -> Result<LessSafeKey, Error> {
    UnboundKey::new(&AES_256_GCM, cek).map(LessSafeKey::new).map_err(|_| Error::Crypto("AES-256-GCM key"))
}

fn encrypt_key_ecdh(crv: EcCurve, x: &str, y: &str, cek: &[u8; KEY_LEN]) -> Result<(String, Vec<u8>), Error> {
    const FAILED: Error = Error::Crypto("ECDH key generation");
    let peer = jwk::ec_point(crv, x, y)?;
    // Ephemeral: made for this message and dropped with it.
    let own = PrivateKey::generate(crv.agreement()).map_err(|_| FAILED)?;
    let public = own.compute_public_key().map_err(|_| FAILED)?;
    let (x, y) = jwk::point_coordinates(crv, public.as_ref())?;
    let kek = kdf::agree_kek(crv, &own, &peer)?;
    let epk = EphemeralKey { crv: crv.name(), kty: "EC", x: &x, y: &y };
    let header = protected_header(&Header { alg: ALG_ECDH, enc: ENC, epk: Some(epk) })?;
    Ok((header, kdf::wrap(&kek, cek)?.to_vec()))
}

fn encrypt_key_rsa(alg: RsaAlg, n: &str, e: &str, cek: &[u8; KEY_LEN]) -> Result<Vec<u8>, Error> {
    const FAILED: Error = Error::Crypto("RSA encryption");
    let key = jwk::rsa_key(n, e)?;
    let mut out = vec![0; key.key_size_bytes()];
    let len = match alg {
        RsaAlg::Oaep256 => OaepPublicEncryptingKey::new(key)
            .and_then(|k| k.encrypt(&OAEP_SHA256_MGF1SHA256, cek, &mut out, None).map(|c| c.len())),
        RsaAlg::Pkcs1v15 => {
            Pkcs1PublicEncryptingKey::new(key).and_then(|k| k.encrypt(cek, &mut out).map(|c| c.len()))
        }
    }
    .map_err(|_| FAILED)?;
    if len != out.len() {
        return Err(FAILED);
    }
    Ok(out)
}

fn protected_header(header: &Header<'_>) -> Result<String, Error> {
    let json = serde_json::to_vec(header)
        .map_err(|e| Error::Json { what: "JWE protected header", problem: e.to_string() })?;
    Ok(b64::url_encode(&json))
}

fn fill(buffer: &mut [u8]) -> Result<(), Error> {
    rand::fill(buffer).map_err(|_| Error::Crypto("random numbers"))
}

#[cfg(test)]
#[path = "jwe/tests.rs"]
mod tests;
