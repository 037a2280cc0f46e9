//! `WWW-Authenticate` (RFC 9110 §11.6.1) and the token service it may name (distribution's "token" scheme).

use serde::Deserialize;
use zeroize::Zeroize;

/// How the registry wants to be addressed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User and password.
    Basic,
    /// A token from the service at `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The answer of a token service.
#[derive(Deserialize)]
pub(crate) struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    /// Seconds from now.
    #[serde(default)]
    pub(crate) expires_in: Option<u64>,
}

impl TokenAnswer {
    pub(crate) fn into_token(mut self) -> Option<String> {
        let token = self.token.take().filter(|t| !t.is_empty());
        token.or_else(|| self.access_token.take()).filter(|t| !t.is_empty() && t.is_ascii())
    }
}

impl Drop for TokenAnswer {
    fn drop(&mut self) {
        self.token.zeroize();
        self.access_token.zeroize();
    }
}

impl Challenge {
    /// Reads the first challenge of the field that we know; `Bearer` without a realm is none.
    pub(crate) fn parse(field: &str) -> Option<Challenge> {
        let field = field.get(..field.len().min(4096)).unwrap_or_default().trim();
        let (scheme, rest) = field.split_once(' ').unwrap_or((field, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        let mut rest = rest;
        while let Some((key, value, after)) = parameter(rest) {
            match key.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                "scope" => scope = Some(value),
                _ => {}
            }
            rest = after;
        }
        Some(Challenge::Bearer { realm: realm?, service, scope })
    }
}

/// `key=value` or `key="value"`, and what follows the comma.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let (key, rest) = text.trim_start_matches([' ', ',']).split_once('=')?;
    let Some(quoted) = rest.strip_prefix('"') else {
        let (value, after) = rest.split_once(',').unwrap_or((rest, ""));
        return Some((key.trim(), value.trim().to_owned(), after));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((key.trim(), value, quoted.get(at + 1..).unwrap_or_default())),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

/// Percent-encodes a query value (RFC 3986 §2.3).
pub(crate) fn query_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b',' => {
                out.push(char::from(b));
            }
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_registries_send() {
        let c = Challenge::parse(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
        );
        let text = |t: &str| Some(t.to_owned());
        assert_eq!(
            c,
            Some(Challenge::Bearer {
                realm: "https://auth.docker.io/token".into(),
                service: text("registry.docker.io"),
                scope: text("repository:a/b:pull,push"),
            })
        );
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(
            Challenge::parse(r#"bearer Realm=https://x, scope="a\"b""#),
            Some(Challenge::Bearer { realm: "https://x".into(), service: None, scope: text("a\"b") })
        );
        for bad in ["", "Bearer", "Bearer service=\"x\"", "Digest realm=\"x\"", "Bearer realm=\"x"] {
            assert_eq!(Challenge::parse(bad), None, "{bad}");
        }
        assert_eq!(query_value("a b&c=ü"), "a%20b%26c%3D%C3%BC");
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,200}") {
            let _ = Challenge::parse(&text);
            let _ = Challenge::parse(&format!("Bearer {text}"));
        }
    }
}
