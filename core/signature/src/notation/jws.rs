//! The JWS envelope: JSON serialisation, flattened (RFC 7515, section 7.2.2).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::headers::{Algorithm, Headers};
use super::{Envelope, PAYLOAD_TYPE, time};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    payload: String,
    protected: String,
    header: Unprotected,
    signature: String,
}

/// What is not signed: certificates, which prove themselves, and remarks.
#[derive(Deserialize)]
struct Unprotected {
    x5c: Vec<String>,
}

#[derive(Deserialize)]
struct Protected {
    alg: String,
    cty: String,
    crit: Vec<String>,
    #[serde(rename = "io.cncf.notary.signingScheme")]
    scheme: String,
    #[serde(rename = "io.cncf.notary.signingTime")]
    signing_time: Option<String>,
    #[serde(rename = "io.cncf.notary.authenticSigningTime")]
    authentic_time: Option<String>,
    #[serde(rename = "io.cncf.notary.expiry")]
    expiry: Option<String>,
    /// Other headers change what is signed or may not be: `b64` (RFC 7797).
    b64: Option<serde::de::IgnoredAny>,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Envelope, String> {
    let malformed = |e: serde_json::Error| format!("has a malformed JWS envelope: {e}");
    let url = |text: &str| {
        URL_SAFE_NO_PAD.decode(text).map_err(|_| "has a malformed JWS envelope: not base64url".to_owned())
    };
    let wire: Wire = serde_json::from_slice(bytes).map_err(malformed)?;
    let protected: Protected = serde_json::from_slice(&url(&wire.protected)?).map_err(malformed)?;
    let algorithm = match protected.alg.as_str() {
        "PS256" => Algorithm::Ps256,
        "PS384" => Algorithm::Ps384,
        "PS512" => Algorithm::Ps512,
        "ES256" => Algorithm::Es256,
        "ES384" => Algorithm::Es384,
        "ES512" => Algorithm::Es512,
        _ => return Err("has an algorithm that is not supported".to_owned()),
    };
    if protected.cty != PAYLOAD_TYPE || protected.b64.is_some() {
        return Err("is not over a payload of Notation".to_owned());
    }
    let time = |text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => time::parse(text).map(Some).ok_or("has a malformed time".to_owned()),
    };
    let headers = Headers::new(
        &protected.scheme,
        time(&protected.signing_time)?,
        time(&protected.authentic_time)?,
        time(&protected.expiry)?,
        &protected.crit,
    )?;
    let chain = wire.header.x5c.iter().map(|text| STANDARD.decode(text));
    let chain: Result<_, _> = chain.collect();
    Ok(Envelope {
        algorithm,
        headers,
        chain: chain.map_err(|_| "has a malformed certificate".to_owned())?,
        payload: url(&wire.payload)?,
        message: format!("{}.{}", wire.protected, wire.payload).into_bytes(),
        signature: url(&wire.signature)?,
    })
}
