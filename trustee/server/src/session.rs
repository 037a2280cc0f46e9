//! The handshake's state, carried by the client in a sealed cookie.

use cocoon_protocol::{Tee, b64};
use cocoon_store::Sealer;
use http::HeaderMap;
use http::header::COOKIE;
use serde::{Deserialize, Serialize};

/// The cookie's name, as upstream's clients know it.
const NAME: &str = "kbs-session-id";
/// Place of sealed cookies; the key tells the two kinds apart, so that one never opens as the other.
const PLACE: &str = "cookie";
/// Longest cookie header looked at.
const MAX_HEADER: usize = 64 * 1024;

/// A challenge that waits for its answer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Challenged {
    /// The nonce's bytes; the guest sees their standard base64.
    pub nonce: [u8; 32],
    /// TEE kind the guest named.
    pub tee: Tee,
    /// Protocol version the guest named.
    pub version: String,
    /// Until when it may be answered.
    pub end_unix: u64,
}

/// What a cookie says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Session {
    /// No cookie, or none of ours, or altered.
    None,
    /// Between `/auth` and `/attest`.
    Challenged(Challenged),
    /// After `/attest`: the token, for clients that keep cookies instead of tokens.
    Attested(String),
}

impl Session {
    /// Reads the request's cookie. Expiry is the caller's to check.
    pub fn read(headers: &HeaderMap, sealer: &Sealer) -> Session {
        let values = headers.get_all(COOKIE).into_iter().filter_map(|v| v.to_str().ok());
        let pairs = values.filter(|v| v.len() <= MAX_HEADER).flat_map(|v| v.split(';'));
        for pair in pairs {
            if let Some(value) = pair.trim().strip_prefix(NAME).and_then(|rest| rest.strip_prefix('=')) {
                return Self::open(value, sealer).unwrap_or(Session::None);
            }
        }
        Session::None
    }

    fn open(value: &str, sealer: &Sealer) -> Option<Session> {
        let (kind, sealed) = value.split_once('.')?;
        let plain = sealer.open(PLACE, kind, &b64::url_decode(sealed).ok()?).ok()?;
        match kind {
            "c" => serde_json::from_slice(&plain).ok().map(Session::Challenged),
            "t" => String::from_utf8(plain.to_vec()).ok().map(Session::Attested),
            _ => None,
        }
    }

    /// The `Set-Cookie` value for a challenge.
    pub fn challenge_cookie(
        challenged: &Challenged,
        sealer: &Sealer,
        attributes: Attributes,
    ) -> Option<String> {
        cookie("c", &serde_json::to_vec(challenged).ok()?, sealer, attributes)
    }

    /// The `Set-Cookie` value for a token.
    pub fn token_cookie(token: &str, sealer: &Sealer, attributes: Attributes) -> Option<String> {
        cookie("t", token.as_bytes(), sealer, attributes)
    }
}

/// How a cookie is to be kept.
#[derive(Clone)]
pub(crate) struct Attributes {
    /// Path prefix under which it is sent back.
    pub path: String,
    /// Sent back over TLS only.
    pub secure: bool,
    /// Seconds.
    pub max_age: u64,
}

fn cookie(kind: &str, plain: &[u8], sealer: &Sealer, attributes: Attributes) -> Option<String> {
    let sealed = b64::url_encode(&sealer.seal(PLACE, kind, plain).ok()?);
    let secure = if attributes.secure { "; Secure" } else { "" };
    let Attributes { path, max_age, .. } = attributes;
    Some(format!("{NAME}={kind}.{sealed}; Path={path}; HttpOnly; SameSite=Strict; Max-Age={max_age}{secure}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(set_cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let pair = set_cookie.split(';').next().unwrap();
        headers.insert(COOKIE, format!("other=1; {pair}; z=2").parse().unwrap());
        headers
    }

    #[test]
    fn cookies_come_back_as_they_went_or_not_at_all() {
        let sealer = Sealer::ephemeral().unwrap();
        let attributes = Attributes { path: "/kbs/v0".into(), secure: true, max_age: 300 };
        let challenged = Challenged { nonce: [7; 32], tee: Tee::Snp, version: "0.4.0".into(), end_unix: 9 };
        let cookie = Session::challenge_cookie(&challenged, &sealer, attributes).unwrap();
        assert!(
            cookie.contains("HttpOnly") && cookie.contains("; Secure") && cookie.contains("Path=/kbs/v0")
        );
        assert_eq!(Session::read(&headers(&cookie), &sealer), Session::Challenged(challenged));
        assert_eq!(Session::read(&headers(&cookie), &Sealer::ephemeral().unwrap()), Session::None);
        // A challenge must not be passed off as a token, nor the other way round.
        assert_eq!(Session::read(&headers(&cookie.replacen("=c.", "=t.", 1)), &sealer), Session::None);
        let plain = Attributes { path: "/kbs/v0".into(), secure: false, max_age: 1 };
        let token = Session::token_cookie("abc", &sealer, plain).unwrap();
        assert!(!token.contains("Secure"));
        assert_eq!(Session::read(&headers(&token), &sealer), Session::Attested("abc".into()));
        assert_eq!(Session::read(&headers(&token.replacen("=t.", "=c.", 1)), &sealer), Session::None);
        for bad in
            ["kbs-session-id=", "kbs-session-id=c.", "kbs-session-id=c.AAAA", "kbs-session-id=x.é", "x"]
        {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, http::HeaderValue::from_bytes(bad.as_bytes()).unwrap());
            assert_eq!(Session::read(&headers, &sealer), Session::None, "{bad}");
        }
        assert_eq!(Session::read(&HeaderMap::new(), &sealer), Session::None);
    }
}
