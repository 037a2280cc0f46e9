//! The service's tokens (JWS, RFC 7515, compact, ES384) and its keys (JWKS, RFC 7517).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::Error;
use crate::x509::{Curve, Hash, PublicKey, Scheme};

/// Longest token; real ones have about 3 kB.
const MAX_TOKEN: usize = 64 * 1024;
/// Longest list of keys.
const MAX_JWKS: usize = 256 * 1024;
/// Most keys.
const MAX_KEYS: usize = 64;
/// Longest id of a key.
const MAX_KID: usize = 256;

fn malformed(reason: &str) -> Error {
    Error::Malformed { what: "NRAS token", reason: reason.to_owned() }
}

/// A parsed token, not verified.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// As it came.
    pub text: String,
    pub kid: String,
    pub claims: Map<String, Value>,
    signed: usize,
    signature: Vec<u8>,
}

impl Token {
    /// Reads a compact JWS that says it is ES384.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_TOKEN {
            return Err(malformed("longer than 64 KiB"));
        }
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("not three parts"));
        };
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed("not base64url"));
        let object = |part: &str| -> Result<Map<String, Value>, Error> {
            serde_json::from_slice(&bytes(part)?).map_err(|_| malformed("not a JSON object"))
        };
        let header_claims = object(header)?;
        if header_claims.get("alg").and_then(Value::as_str) != Some("ES384") {
            return Err(Error::Unsupported { what: "NRAS token's algorithm", got: "not ES384".to_owned() });
        }
        if header_claims.contains_key("crit") {
            return Err(malformed("a critical header"));
        }
        let kid = header_claims.get("kid").and_then(Value::as_str).filter(|kid| kid.len() <= MAX_KID);
        Ok(Token {
            text: text.to_owned(),
            kid: kid.ok_or_else(|| malformed("no key id"))?.to_owned(),
            claims: object(payload)?,
            signed: header.len() + 1 + payload.len(),
            signature: bytes(signature)?,
        })
    }

    /// A claim that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }

    /// A claim that is a whole number, e.g. a time.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.claims.get(name).and_then(Value::as_u64)
    }
}

/// The service's public keys, by id. The caller got them from the service's own address, through TLS.
#[derive(Clone, Debug)]
pub struct Jwks(BTreeMap<String, PublicKey>);

impl Jwks {
    /// Reads `{"keys": [{"kty": "EC", "crv": "P-384", "kid", "x", "y", …}]}` of at most 256 KiB and 64 keys. Keys of other
    /// kinds or for other uses are passed over.
    ///
    /// # Errors
    /// [`Error::Malformed`], also for two keys of one id and for a list without any key.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let malformed = |reason: &str| Error::Malformed { what: "NRAS JWKS", reason: reason.to_owned() };
        if text.len() > MAX_JWKS {
            return Err(malformed("longer than 256 KiB"));
        }
        let value: Value = serde_json::from_slice(text).map_err(|_| malformed("not JSON"))?;
        let list = value.get("keys").and_then(Value::as_array).ok_or_else(|| malformed("no keys"))?;
        if list.len() > MAX_KEYS {
            return Err(malformed("more than 64 keys"));
        }
        let mut keys = BTreeMap::new();
        for jwk in list {
            let text = |name: &str| jwk.get(name).and_then(Value::as_str);
            let signing = text("use").is_none_or(|usage| usage == "sig")
                && text("alg").is_none_or(|algorithm| algorithm == "ES384");
            if (text("kty"), text("crv")) != (Some("EC"), Some("P-384")) || !signing {
                continue;
            }
            let kid = text("kid").filter(|kid| kid.len() <= MAX_KID);
            let kid = kid.ok_or_else(|| malformed("a key without id"))?;
            let coordinate = |name| {
                let bytes = text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
                bytes.ok_or_else(|| malformed("a coordinate is not base64url"))
            };
            let key = PublicKey::ec(Curve::P384, &coordinate("x")?, &coordinate("y")?)?;
            if keys.insert(kid.to_owned(), key).is_some() {
                return Err(malformed("two keys of one id"));
            }
        }
        if keys.is_empty() {
            return Err(malformed("no P-384 key"));
        }
        Ok(Jwks(keys))
    }

    /// Whether there is a key of that id.
    pub fn knows(&self, kid: &str) -> bool {
        self.0.contains_key(kid)
    }

    /// Whether the token is signed by the key it names.
    pub(super) fn verifies(&self, token: &Token) -> bool {
        let message = token.text.as_bytes().get(..token.signed).unwrap_or_default();
        let good =
            |key: &PublicKey| key.verifies(Scheme::EcdsaFixed(Hash::Sha384), message, &token.signature);
        self.0.get(&token.kid).is_some_and(good)
    }
}
