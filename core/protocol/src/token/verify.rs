//! Is this token signed by a key I trust, and valid now?

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Map, Value};

use super::{signer, strict};
use crate::jwk::{self, EcCurve};
use crate::{Error, b64};

/// Longest token, in bytes.
pub const MAX_TOKEN: usize = 256 * 1024;
/// How far another machine's clock may run ahead of ours, in seconds; for `iat` and `nbf`, not for `exp`.
pub const LEEWAY_SECONDS: u64 = 60;
/// Most keys looked at in a key set.
const MAX_KEYS: usize = 64;
/// Length of an ES256 signature (R ‖ S), in bytes.
const SIGNATURE_LEN: usize = 64;

/// Checks a compact JWT against a *trusted* key set and the clock, and gives its claims.
///
/// The key is the one of `jwks` that the header's `kid` names (a trusted key without `kid` is known by its RFC 7638
/// thumbprint) and that equals the header's `jwk`; one of the two members must be there, and what is there must
/// agree. Certificates in the header are not looked at. `exp` is required and must lie after `now_unix` (seconds);
/// `nbf` and `iat`, where present, may lie at most [`LEEWAY_SECONDS`] ahead.
///
/// # Errors
/// [`Error::TooLarge`]; [`Error::Token`] for a malformed token; [`Error::Algorithm`] for any algorithm but ES256;
/// [`Error::Signature`] for an untrusted key or a signature that does not verify; [`Error::Expired`].
pub fn verify(token: &str, jwks: &Value, now_unix: u64) -> Result<Value, Error> {
    if token.len() > MAX_TOKEN {
        return Err(Error::TooLarge { what: "token", size: token.len(), limit: MAX_TOKEN });
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Error::Token("not three parts"))?;
    let (header, claims) = signed.split_once('.').ok_or(Error::Token("not three parts"))?;
    if claims.contains('.') {
        return Err(Error::Token("not three parts"));
    }
    let point = find_key(&object(header, "header is not a JSON object")?, jwks)?;
    let signature = b64::url_decode(signature).map_err(|_| Error::Token("signature is not base64url"))?;
    if signature.len() != SIGNATURE_LEN {
        return Err(Error::Signature("not 64 bytes"));
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(signed.as_bytes(), &signature)
        .map_err(|_| Error::Signature("does not verify"))?;
    // Only from here on are the claims anybody's word.
    let claims = object(claims, "claims are not a JSON object")?;
    check_times(&claims, now_unix)?;
    Ok(Value::Object(claims))
}

fn object(part: &str, problem: &'static str) -> Result<Map<String, Value>, Error> {
    match b64::url_decode(part).ok().and_then(|json| strict::from_slice(&json)) {
        Some(Value::Object(members)) => Ok(members),
        _ => Err(Error::Token(problem)),
    }
}

/// The uncompressed point of the one trusted key the header speaks of.
fn find_key(header: &Map<String, Value>, jwks: &Value) -> Result<Vec<u8>, Error> {
    match header.get("alg").and_then(Value::as_str) {
        Some("ES256") => {}
        Some(other) => return Err(Error::Algorithm(other.chars().take(32).collect())),
        None => return Err(Error::Token("header has no alg")),
    }
    // RFC 7515 §4.1.11: an extension that must be understood and is not.
    if header.contains_key("crit") {
        return Err(Error::Token("header has crit"));
    }
    if header.get("typ").is_some_and(|typ| typ != "JWT") {
        return Err(Error::Token("typ is not JWT"));
    }
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.as_str()),
        Some(_) => return Err(Error::Token("kid is not a string")),
    };
    let own = match header.get("jwk") {
        None => None,
        Some(jwk) => Some(es256_point(jwk).ok_or(Error::Token("jwk is not an ES256 key"))?.point),
    };
    if kid.is_none() && own.is_none() {
        return Err(Error::Token("header names no key"));
    }
    let keys = jwks.get("keys").and_then(Value::as_array).ok_or(Error::Signature("no trusted keys"))?;
    let mut found: Option<Vec<u8>> = None;
    for key in keys.iter().take(MAX_KEYS).filter_map(es256_point) {
        let named = kid.is_none_or(|kid| kid == key.kid);
        let same = own.as_ref().is_none_or(|point| *point == key.point);
        if !named || !same {
            continue;
        }
        if found.as_ref().is_some_and(|other| *other != key.point) {
            return Err(Error::Signature("two trusted keys have the same id"));
        }
        found = Some(key.point);
    }
    found.ok_or(Error::Signature("not by a trusted key"))
}

struct Key {
    point: Vec<u8>,
    kid: String,
}

/// Reads a P-256 key meant for ES256 signatures; anything else in a key set is passed over.
fn es256_point(jwk: &Value) -> Option<Key> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let absent_or = |name: &str, value: &str| jwk.get(name).is_none_or(|v| v == value);
    if text("kty") != Some("EC") || text("crv") != Some("P-256") {
        return None;
    }
    if !absent_or("alg", "ES256") || !absent_or("use", "sig") {
        return None;
    }
    let (x, y) = (text("x")?, text("y")?);
    let point = jwk::ec_point(EcCurve::P256, x, y).ok()?;
    let kid = text("kid").map_or_else(|| signer::thumbprint(x, y), str::to_owned);
    Some(Key { point, kid })
}

fn check_times(claims: &Map<String, Value>, now: u64) -> Result<(), Error> {
    let seconds = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(v) => v.as_u64().map(Some).ok_or(Error::Token("a time is not a whole number of seconds")),
    };
    let exp = seconds("exp")?.ok_or(Error::Token("has no exp"))?;
    if now >= exp {
        return Err(Error::Expired);
    }
    let latest = now.saturating_add(LEEWAY_SECONDS);
    for name in ["nbf", "iat"] {
        if seconds(name)?.is_some_and(|t| t > latest) {
            return Err(Error::Expired);
        }
    }
    Ok(())
}
