//! The guest's ephemeral public key as a JSON Web Key (RFC 7517, RFC 7518 §6), the `tee-pubkey` of the KBS protocol.
//!
//! Only the members below exist in the type: what else a guest sends is dropped, because the evidence binds the hash
//! of exactly these members. All values are base64url without padding.

use aws_lc_rs::agreement::{self, UnparsedPublicKey};
use aws_lc_rs::rsa::PublicKeyComponents;
use serde::{Deserialize, Serialize};

use crate::{Error, b64};

/// Smallest RSA modulus, in bits.
pub const RSA_MIN_BITS: usize = 2048;
/// Largest RSA modulus, in bits.
pub const RSA_MAX_BITS: usize = 8192;
/// Largest RSA public exponent, in bytes (what the crypto library accepts is below this).
const RSA_MAX_EXPONENT: usize = 8;

/// Curve of an EC key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EcCurve {
    /// NIST P-256; coordinates of 32 bytes.
    #[serde(rename = "P-256")]
    P256,
    /// NIST P-521; coordinates of 66 bytes.
    #[serde(rename = "P-521")]
    P521,
}

impl EcCurve {
    /// Length of one coordinate in bytes.
    pub const fn coordinate_len(self) -> usize {
        match self {
            EcCurve::P256 => 32,
            EcCurve::P521 => 66,
        }
    }

    /// The `crv` name of RFC 7518 §6.2.1.1.
    pub const fn name(self) -> &'static str {
        match self {
            EcCurve::P256 => "P-256",
            EcCurve::P521 => "P-521",
        }
    }

    pub(crate) fn agreement(self) -> &'static agreement::Algorithm {
        match self {
            EcCurve::P256 => &agreement::ECDH_P256,
            EcCurve::P521 => &agreement::ECDH_P521,
        }
    }
}

/// Key encryption with an RSA key (RFC 7518 §4.2, §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RsaAlg {
    /// RSAES-OAEP with SHA-256 and MGF1 with SHA-256.
    #[serde(rename = "RSA-OAEP-256")]
    Oaep256,
    /// RSAES-PKCS1-v1_5; old guests only.
    #[serde(rename = "RSA1_5")]
    Pkcs1v15,
}

impl RsaAlg {
    /// The `alg` name.
    pub const fn name(self) -> &'static str {
        match self {
            RsaAlg::Oaep256 => "RSA-OAEP-256",
            RsaAlg::Pkcs1v15 => "RSA1_5",
        }
    }
}

/// The public half of the guest's ephemeral key.
///
/// JSON: `{"kty":"EC","crv":"P-256"|"P-521","alg":"ECDH-ES+A256KW","x","y"}` or
/// `{"kty":"RSA","alg":"RSA-OAEP-256"|"RSA1_5","n","e"}`.
///
/// Reading checks kinds and lengths (and the RSA sizes); that the value is a key at all (a point on the curve) is
/// checked when it is used, see [`TeePublicKey::validate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub enum TeePublicKey {
    /// Elliptic curve key for ECDH-ES+A256KW.
    Ec {
        /// The curve.
        crv: EcCurve,
        /// X coordinate, base64url, full length.
        x: String,
        /// Y coordinate, base64url, full length.
        y: String,
    },
    /// RSA key.
    Rsa {
        /// Key encryption algorithm.
        alg: RsaAlg,
        /// Modulus, big endian, base64url, no leading zero byte.
        n: String,
        /// Public exponent, big endian, base64url, no leading zero byte.
        e: String,
    },
}

/// The one algorithm of EC keys.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum EcAlg {
    #[serde(rename = "ECDH-ES+A256KW")]
    EcdhEsA256Kw,
}

/// The JSON form; serde writes `kty` first and refuses a member given twice.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kty")]
enum Wire {
    #[serde(rename = "EC")]
    Ec { crv: EcCurve, alg: EcAlg, x: String, y: String },
    #[serde(rename = "RSA")]
    Rsa { alg: RsaAlg, n: String, e: String },
}

impl From<TeePublicKey> for Wire {
    fn from(key: TeePublicKey) -> Self {
        match key {
            TeePublicKey::Ec { crv, x, y } => Wire::Ec { crv, alg: EcAlg::EcdhEsA256Kw, x, y },
            TeePublicKey::Rsa { alg, n, e } => Wire::Rsa { alg, n, e },
        }
    }
}

impl TryFrom<Wire> for TeePublicKey {
    type Error = Error;

    fn try_from(wire: Wire) -> Result<Self, Error> {
        match wire {
            Wire::Ec { crv, alg: EcAlg::EcdhEsA256Kw, x, y } => {
                check_coordinate_text(crv, &x)?;
                check_coordinate_text(crv, &y)?;
                Ok(TeePublicKey::Ec { crv, x, y })
            }
            Wire::Rsa { alg, n, e } => {
                rsa_parts(&n, &e)?;
                Ok(TeePublicKey::Rsa { alg, n, e })
            }
        }
    }
}

impl TeePublicKey {
    /// Checks everything a use of the key would check: the point lies on its curve, the RSA numbers form a key.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Base64`] or [`Error::TooLarge`].
    pub fn validate(&self) -> Result<(), Error> {
        match self {
            TeePublicKey::Ec { crv, x, y } => {
                let point = ec_point(*crv, x, y)?;
                agreement::ParsedPublicKey::try_from(UnparsedPublicKey::new(crv.agreement(), point))
                    .ok()
                    .filter(|parsed| parsed.alg() == crv.agreement())
                    .map(|_| ())
                    .ok_or_else(|| Error::invalid("EC key", "not a point on its curve"))
            }
            TeePublicKey::Rsa { n, e, .. } => rsa_key(n, e).map(|_| ()),
        }
    }
}

/// SEC 1 uncompressed point `04 ‖ X ‖ Y` of the two coordinates. Whether it is on the curve is not checked here.
pub(crate) fn ec_point(crv: EcCurve, x: &str, y: &str) -> Result<Vec<u8>, Error> {
    let mut point = Vec::with_capacity(crv.coordinate_len().saturating_mul(2).saturating_add(1));
    point.push(4);
    for text in [x, y] {
        check_coordinate_text(crv, text)?;
        point.extend_from_slice(&b64::url_decode(text)?);
    }
    Ok(point)
}

/// The two coordinates, base64url, of a SEC 1 uncompressed point.
pub(crate) fn point_coordinates(crv: EcCurve, point: &[u8]) -> Result<(String, String), Error> {
    let (tag, rest) = point.split_first().ok_or(Error::Crypto("empty public key"))?;
    let (x, y) = rest.split_at_checked(crv.coordinate_len()).ok_or(Error::Crypto("short public key"))?;
    if *tag != 4 || x.len() != y.len() {
        return Err(Error::Crypto("public key is not an uncompressed point"));
    }
    Ok((b64::url_encode(x), b64::url_encode(y)))
}

/// An RSA public key the crypto library accepts.
pub(crate) fn rsa_key(n: &str, e: &str) -> Result<aws_lc_rs::rsa::PublicEncryptingKey, Error> {
    let (n, e) = rsa_parts(n, e)?;
    PublicKeyComponents { n, e }
        .try_into()
        .map_err(|_| Error::invalid("RSA key", "modulus and exponent do not form a usable key"))
}

/// The text has the one length its curve's coordinates have (RFC 7518 §6.2.1.2: leading zeros are kept) and only
/// letters of the alphabet. Trailing bits are checked when it is decoded.
fn check_coordinate_text(crv: EcCurve, text: &str) -> Result<(), Error> {
    let expected = crv.coordinate_len().saturating_mul(4).div_ceil(3);
    if text.len() != expected {
        let problem = format!("{} characters, {} needs {expected}", text.len(), crv.name());
        return Err(Error::invalid("EC coordinate", problem));
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Err(Error::Base64("EC coordinate"));
    }
    Ok(())
}

/// Decodes modulus and exponent and checks their sizes and form.
fn rsa_parts(n: &str, e: &str) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let n = rsa_number("RSA modulus", n, RSA_MAX_BITS.div_ceil(8))?;
    let e = rsa_number("RSA exponent", e, RSA_MAX_EXPONENT)?;
    let top = n.first().map_or(0, |b| b.leading_zeros());
    let bits = n.len().saturating_mul(8).saturating_sub(usize::try_from(top).unwrap_or(0));
    if !(RSA_MIN_BITS..=RSA_MAX_BITS).contains(&bits) {
        return Err(Error::invalid(
            "RSA modulus",
            format!("{bits} bits; {RSA_MIN_BITS} to {RSA_MAX_BITS} allowed"),
        ));
    }
    if e.last().is_none_or(|b| b & 1 == 0) || e.as_slice() == [1] {
        return Err(Error::invalid("RSA exponent", "must be odd and at least 3"));
    }
    Ok((n, e))
}

fn rsa_number(what: &'static str, text: &str, limit: usize) -> Result<Vec<u8>, Error> {
    // Bounded before decoding: the text is the guest's.
    if text.len() > limit.saturating_mul(4).div_ceil(3) {
        return Err(Error::TooLarge { what, size: text.len().saturating_mul(3) / 4, limit });
    }
    let bytes = b64::url_decode(text)?;
    match bytes.first() {
        None => Err(Error::invalid(what, "is empty")),
        Some(0) => Err(Error::invalid(what, "has a leading zero byte")),
        Some(_) => Ok(bytes),
    }
}

#[cfg(test)]
#[path = "jwk_tests.rs"]
mod tests;
