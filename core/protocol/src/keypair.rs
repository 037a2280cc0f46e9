//! The guest's ephemeral key: made inside the TEE, bound into the evidence, used to read what the KBS answers.
//!
//! Runs inside the guest. The private half never leaves except through [`TeeKeyPair::to_pkcs8_pem`], for hand-over
//! between two processes of the same guest. Everything in a JWE is the network's and is checked before use.

use std::fmt;

use aws_lc_rs::aead::{Aad, Nonce};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::jwe::{self, JweFlattened, kdf};
use crate::jwk::{self, EcCurve, TeePublicKey};
use crate::{Error, b64};

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";
/// Largest PEM text read, in bytes; a P-256 key needs about 240.
const MAX_PEM: usize = 4096;
/// Largest protected header, in base64url characters; ours has about 240.
const MAX_PROTECTED: usize = 4096;

/// An EC P-256 key pair for ECDH-ES+A256KW.
pub struct TeeKeyPair {
    private: PrivateKey,
    x: String,
    y: String,
}

/// The protected header as received. A member not named here changes the meaning of the message (`apu`, `apv`,
/// `zip`, `crit`) and is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    enc: String,
    epk: EphemeralKey,
}

#[derive(Deserialize)]
struct EphemeralKey {
    crv: String,
    kty: String,
    x: String,
    y: String,
}

impl TeeKeyPair {
    /// Makes a new random key.
    ///
    /// # Errors
    /// [`Error::Crypto`] if the library cannot.
    pub fn generate() -> Result<Self, Error> {
        Self::of(PrivateKey::generate(&ECDH_P256).map_err(|_| Error::Crypto("P-256 key generation"))?)
    }

    /// The public half, as sent in `tee-pubkey`.
    pub fn public(&self) -> TeePublicKey {
        TeePublicKey::Ec { crv: EcCurve::P256, x: self.x.clone(), y: self.y.clone() }
    }

    /// Decrypts a KBS answer made for [`TeeKeyPair::public`].
    ///
    /// The AAD is the `protected` string as received.
    ///
    /// # Errors
    /// [`Error::Undecryptable`] for a message for another key or changed on the way; [`Error::Algorithm`],
    /// [`Error::Invalid`], [`Error::Json`], [`Error::Base64`], [`Error::TooLarge`] for a malformed one.
    pub fn decrypt(&self, jwe: &JweFlattened) -> Result<Zeroizing<Vec<u8>>, Error> {
        if jwe.aad.is_some() {
            return Err(Error::invalid("JWE", "has an aad member"));
        }
        let header = read_header(&jwe.protected)?;
        let wrapped = sized("JWE encrypted_key", &jwe.encrypted_key)?;
        let iv: [u8; jwe::IV_LEN] = sized("JWE iv", &jwe.iv)?;
        let tag: [u8; jwe::TAG_LEN] = sized("JWE tag", &jwe.tag)?;
        check_text_len("JWE ciphertext", &jwe.ciphertext, jwe::MAX_PLAINTEXT)?;
        let ciphertext = b64::url_decode(&jwe.ciphertext)?;

        let peer = jwk::ec_point(EcCurve::P256, &header.epk.x, &header.epk.y)?;
        let kek = kdf::agree_kek(EcCurve::P256, &self.private, &peer)?;
        let cek = kdf::unwrap(&kek, &wrapped)?;
        // One allocation, so that no piece of plaintext is left behind by growing.
        let mut buffer = Zeroizing::new(Vec::with_capacity(ciphertext.len().saturating_add(tag.len())));
        buffer.extend_from_slice(&ciphertext);
        buffer.extend_from_slice(&tag);
        let len = jwe::content_key(&cek)?
            .open_in_place(
                Nonce::assume_unique_for_key(iv),
                Aad::from(jwe.protected.as_bytes()),
                buffer.as_mut_slice(),
            )
            .map_err(|_| Error::Undecryptable)?
            .len();
        buffer.truncate(len);
        Ok(buffer)
    }

    /// The private key as PKCS #8 v1 PEM (`BEGIN PRIVATE KEY`). Empty only if the library cannot encode its own key.
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        let encoded: Result<Pkcs8V1Der<'_>, _> = self.private.as_der();
        encoded.map(|der| pem_encode(der.as_ref())).unwrap_or_default()
    }

    /// Reads what [`TeeKeyPair::to_pkcs8_pem`] wrote.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the text is not one PKCS #8 key of curve P-256; [`Error::TooLarge`].
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, Error> {
        let der = pem_decode(pem)?;
        let private = PrivateKey::from_private_key_der(&ECDH_P256, &der)
            .map_err(|_| Error::invalid("private key", "not a PKCS #8 key of curve P-256"))?;
        Self::of(private)
    }

    fn of(private: PrivateKey) -> Result<Self, Error> {
        let public = private.compute_public_key().map_err(|_| Error::Crypto("P-256 public key"))?;
        let (x, y) = jwk::point_coordinates(EcCurve::P256, public.as_ref())?;
        Ok(Self { private, x, y })
    }
}

impl fmt::Debug for TeeKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TeeKeyPair").field("x", &self.x).field("y", &self.y).finish_non_exhaustive()
    }
}

fn read_header(protected: &str) -> Result<Header, Error> {
    const WHAT: &str = "JWE protected header";
    if protected.len() > MAX_PROTECTED {
        return Err(Error::TooLarge { what: WHAT, size: protected.len(), limit: MAX_PROTECTED });
    }
    let json = b64::url_decode(protected)?;
    let header: Header =
        serde_json::from_slice(&json).map_err(|e| Error::Json { what: WHAT, problem: e.to_string() })?;
    if header.alg != jwe::ALG_ECDH {
        return Err(Error::Algorithm(header.alg));
    }
    if header.enc != jwe::ENC {
        return Err(Error::Algorithm(header.enc));
    }
    if header.epk.kty != "EC" || header.epk.crv != EcCurve::P256.name() {
        return Err(Error::invalid(WHAT, "epk is not of curve P-256"));
    }
    Ok(header)
}

fn check_text_len(what: &'static str, text: &str, limit: usize) -> Result<(), Error> {
    if text.len() > limit.saturating_mul(4).div_ceil(3) {
        return Err(Error::TooLarge { what, size: text.len().saturating_mul(3) / 4, limit });
    }
    Ok(())
}

/// Decodes a member that has exactly `N` bytes.
fn sized<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], Error> {
    check_text_len(what, text, N)?;
    b64::url_decode(text)?.try_into().map_err(|_| Error::invalid(what, format!("is not {N} bytes")))
}

/// PKCS #8 DER as PEM (RFC 7468), lines of 64 characters.
fn pem_encode(der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(b64::std_encode(der));
    let mut pem = Zeroizing::new(String::with_capacity(body.len().saturating_mul(2).saturating_add(128)));
    pem.push_str(PEM_BEGIN);
    for (i, c) in body.chars().enumerate() {
        if i % 64 == 0 {
            pem.push('\n');
        }
        pem.push(c);
    }
    pem.push('\n');
    pem.push_str(PEM_END);
    pem.push('\n');
    pem
}

/// The DER of the one `PRIVATE KEY` block of `pem`.
fn pem_decode(pem: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    if pem.len() > MAX_PEM {
        return Err(Error::TooLarge { what: "private key", size: pem.len(), limit: MAX_PEM });
    }
    let body = pem
        .trim()
        .strip_prefix(PEM_BEGIN)
        .and_then(|rest| rest.strip_suffix(PEM_END))
        .ok_or_else(|| Error::invalid("private key", "not one PKCS #8 PEM block"))?;
    let mut text = Zeroizing::new(String::with_capacity(body.len()));
    text.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
    Ok(Zeroizing::new(b64::std_decode(&text)?))
}

#[cfg(test)]
#[path = "keypair_tests.rs"]
mod tests;
