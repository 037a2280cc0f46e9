//! Keys as JSON Web Keys (RFC 7517, RFC 7518 §6).

use aws_lc_rs::agreement::PrivateKey;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use der::Encode;
use der::asn1::UintRef;
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use super::der::{RsaPrivateKey, pkcs8_of_pkcs1, rsa_components};
use super::{Private, Public, ec_public, refuse, rsa_private};
use crate::Error;
use crate::encryption::ecdh::Curve;

/// The members that keys of both kinds have. What else a JWK says (`use`, `kid`, `alg`) is not looked at.
#[derive(Deserialize)]
pub(super) struct Jwk {
    #[serde(default)]
    kty: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    d: String,
    #[serde(default)]
    p: String,
    #[serde(default)]
    q: String,
    #[serde(default)]
    dp: String,
    #[serde(default)]
    dq: String,
    #[serde(default)]
    qi: String,
}

impl Drop for Jwk {
    fn drop(&mut self) {
        for secret in [&mut self.d, &mut self.p, &mut self.q, &mut self.dp, &mut self.dq, &mut self.qi] {
            secret.zeroize();
        }
    }
}

/// Reads a file that is JSON; `None` where it is not.
pub(super) fn read(file: &[u8]) -> Result<Option<Jwk>, Error> {
    if file.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
        return Ok(None);
    }
    serde_json::from_slice(file).map(Some).map_err(|_| refuse("it is a malformed JWK"))
}

fn decode(text: &str, what: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    match URL_SAFE_NO_PAD.decode(text) {
        Ok(bytes) if !bytes.is_empty() => Ok(Zeroizing::new(bytes)),
        _ => Err(refuse(format!("the JWK's {what} is missing or not base64url"))),
    }
}

fn curve(jwk: &Jwk) -> Result<Curve, Error> {
    Curve::by_name(&jwk.crv).ok_or_else(|| refuse("its curve is not P-256, P-384 or P-521"))
}

pub(super) fn public(jwk: &Jwk) -> Result<Public, Error> {
    match jwk.kty.as_str() {
        "RSA" => rsa_components(&decode(&jwk.n, "n")?, &decode(&jwk.e, "e")?),
        "EC" => {
            let curve = curve(jwk)?;
            let (x, y) = (decode(&jwk.x, "x")?, decode(&jwk.y, "y")?);
            ec_public(curve, &[&[4], x.as_slice(), y.as_slice()].concat())
        }
        _ => Err(refuse("the JWK is neither an RSA nor an EC key")),
    }
}

pub(super) fn private(jwk: &Jwk) -> Result<Private, Error> {
    if jwk.d.is_empty() {
        return Err(refuse("the JWK holds no private key"));
    }
    match jwk.kty.as_str() {
        "RSA" => rsa(jwk),
        "EC" => {
            let curve = curve(jwk)?;
            let key = PrivateKey::from_private_key(curve.agreement(), &decode(&jwk.d, "d")?)
                .map_err(|_| refuse("the JWK's d is no key of its curve"))?;
            Ok(Private::Ec { curve, key })
        }
        _ => Err(refuse("the JWK is neither an RSA nor an EC key")),
    }
}

fn rsa(jwk: &Jwk) -> Result<Private, Error> {
    let wrong = |_| refuse("the JWK's numbers form no RSA key");
    let part = |text: &str, what| decode(text, what);
    let (n, e, d) = (part(&jwk.n, "n")?, part(&jwk.e, "e")?, part(&jwk.d, "d")?);
    let (p, q) = (part(&jwk.p, "p")?, part(&jwk.q, "q")?);
    let (dp, dq, qi) = (part(&jwk.dp, "dp")?, part(&jwk.dq, "dq")?, part(&jwk.qi, "qi")?);
    let key = RsaPrivateKey {
        version: 0,
        n: UintRef::new(&n).map_err(wrong)?,
        e: UintRef::new(&e).map_err(wrong)?,
        d: UintRef::new(&d).map_err(wrong)?,
        p: UintRef::new(&p).map_err(wrong)?,
        q: UintRef::new(&q).map_err(wrong)?,
        dp: UintRef::new(&dp).map_err(wrong)?,
        dq: UintRef::new(&dq).map_err(wrong)?,
        qi: UintRef::new(&qi).map_err(wrong)?,
    };
    let pkcs1 = Zeroizing::new(key.to_der().map_err(wrong)?);
    rsa_private(&pkcs8_of_pkcs1(&pkcs1)?)
}
