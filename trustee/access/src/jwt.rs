//! A compact JWT (RFC 7519, RFC 7515 §7.1) of an administrator: what it says, and when that counts.

use cocoon_protocol::b64;
use serde_json::{Map, Value};

use crate::key::{Algorithm, Key};
use crate::strict;

/// Longest bearer token, in bytes.
pub const MAX_TOKEN: usize = 16 * 1024;
/// How far an issuer's clock may run ahead of ours, in seconds; for `iat` and `nbf`, not for `exp`.
pub const LEEWAY_SECONDS: u64 = 60;
/// Longest role and tenant, in bytes.
pub(crate) const MAX_NAME: usize = 128;
/// Longest subject, in bytes.
const MAX_SUBJECT: usize = 256;

/// Why a token is refused, in the order in which the checks are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("the token is too long")]
    TooLong,
    #[error("the token is malformed")]
    Malformed,
    #[error("the algorithm is not supported")]
    Algorithm,
    #[error("the header has an extension that is not understood")]
    Critical,
    #[error("the token is of another type")]
    Type,
    #[error("a time is missing or not a whole number of seconds")]
    Times,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the token has no usable role, sub or tenant")]
    Claims,
    #[error("the issuer is another")]
    Issuer,
    #[error("the audience is another")]
    Audience,
    #[error("there is no key for it")]
    NoKey,
    #[error("the signature does not verify")]
    Signature,
}

/// A token that is well formed. Nothing it says counts before [`Jwt::is_signed_by`] says so.
pub(crate) struct Jwt<'a> {
    algorithm: Algorithm,
    pub(crate) kid: Option<String>,
    signed: &'a str,
    signature: Vec<u8>,
    claims: Map<String, Value>,
}

/// Whom a token speaks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) tenant: Option<String>,
}

impl<'a> Jwt<'a> {
    pub(crate) fn parse(token: &'a str) -> Result<Self, Flaw> {
        if token.len() > MAX_TOKEN {
            return Err(Flaw::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Flaw::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Flaw::Malformed)?;
        let decode = |part: &str| b64::url_decode(part).map_err(|_| Flaw::Malformed);
        let object = |part: &str| strict::object(&decode(part)?).ok_or(Flaw::Malformed);
        let header = object(header)?;
        let algorithm = match header.get("alg") {
            Some(Value::String(name)) => Algorithm::from_name(name).ok_or(Flaw::Algorithm)?,
            _ => return Err(Flaw::Algorithm),
        };
        // RFC 7515 §4.1.11: what must be understood and is not.
        if header.contains_key("crit") {
            return Err(Flaw::Critical);
        }
        let of_type = |typ: &Value| {
            let typ = typ.as_str().map(str::to_ascii_lowercase);
            matches!(typ.as_deref(), Some("jwt" | "at+jwt" | "application/at+jwt"))
        };
        if header.get("typ").is_some_and(|typ| !of_type(typ)) {
            return Err(Flaw::Type);
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(Flaw::Malformed),
        };
        let (signature, claims) = (decode(signature)?, object(claims)?);
        Ok(Jwt { algorithm, kid, signed, signature, claims })
    }

    /// Checks `exp` (required), `nbf` and `iat` against the clock, Unix seconds.
    pub(crate) fn check_times(&self, now: u64) -> Result<(), Flaw> {
        let seconds = |name: &str| match self.claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or(Flaw::Times),
        };
        let (exp, nbf, iat) = (seconds("exp")?.ok_or(Flaw::Times)?, seconds("nbf")?, seconds("iat")?);
        if now >= exp {
            return Err(Flaw::Expired);
        }
        let latest = now.saturating_add(LEEWAY_SECONDS);
        if [nbf, iat].into_iter().flatten().any(|begin| begin > latest) {
            return Err(Flaw::NotYet);
        }
        Ok(())
    }

    /// The claims `role` (required), `sub` (without it the role is the name) and `tenant`.
    pub(crate) fn identity(&self) -> Result<Identity, Flaw> {
        let text = |claim: &str, longest: usize| match self.claims.get(claim) {
            None => Ok(None),
            Some(Value::String(text)) if is_name(text, longest) => Ok(Some(text.clone())),
            Some(_) => Err(Flaw::Claims),
        };
        let role = text("role", MAX_NAME)?.ok_or(Flaw::Claims)?;
        let name = text("sub", MAX_SUBJECT)?.unwrap_or_else(|| role.clone());
        Ok(Identity { name, role, tenant: text("tenant", MAX_NAME)? })
    }

    /// Checks `iss` and `aud` against what is expected of them, where something is.
    pub(crate) fn check_names(&self, issuer: Option<&str>, audience: Option<&str>) -> Result<(), Flaw> {
        let claim = |name: &str| self.claims.get(name);
        if issuer.is_some_and(|expected| claim("iss").is_none_or(|iss| iss != expected)) {
            return Err(Flaw::Issuer);
        }
        let meant = |expected: &str| match claim("aud") {
            Some(Value::String(aud)) => aud == expected,
            Some(Value::Array(all)) => {
                all.iter().all(Value::is_string) && all.iter().any(|aud| aud == expected)
            }
            _ => false,
        };
        if audience.is_some_and(|expected| !meant(expected)) {
            return Err(Flaw::Audience);
        }
        Ok(())
    }

    /// Whether one of the keys signed the token: those with its `kid` and those without any, or all where it names
    /// none.
    pub(crate) fn is_signed_by(&self, keys: &[Key]) -> Result<(), Flaw> {
        let named = |key: &Key| match (&self.kid, &key.kid) {
            (Some(wanted), Some(kid)) => wanted == kid,
            _ => true,
        };
        let mut candidates = keys.iter().filter(|key| named(key) && key.allows(self.algorithm)).peekable();
        if candidates.peek().is_none() {
            return Err(Flaw::NoKey);
        }
        if candidates.any(|key| key.verifies(self.algorithm, self.signed.as_bytes(), &self.signature)) {
            Ok(())
        } else {
            Err(Flaw::Signature)
        }
    }
}

/// Text that may stand in a log line: not empty, not longer than that many bytes, without control characters.
pub(crate) fn is_name(text: &str, longest: usize) -> bool {
    !text.is_empty() && text.len() <= longest && !text.chars().any(char::is_control)
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
