//! A JSON Web Key Set (RFC 7517 §5) as a list of keys.

use cocoon_protocol::b64;
use serde_json::{Map, Value};

use crate::key::{Algorithm, Key, Kind};

/// Most keys in a set.
pub(crate) const MAX_KEYS: usize = 64;
/// Longest key id, in bytes.
const MAX_KID: usize = 256;
/// Longest base64url number: a modulus of 8192 bits.
const MAX_NUMBER: usize = 1366;
/// Members that only private and symmetric keys have (RFC 7518 §6.2.2, §6.3.2, §6.4.1).
const SECRET: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Reads a key set. Keys of other types, for other uses, or malformed are passed over, as RFC 7517 asks; an empty
/// set is a set.
///
/// The error says what is wrong with the set: not one, too long, holding secret keys, or without any usable key.
pub(crate) fn parse(set: &Value) -> Result<Vec<Key>, String> {
    let Some(entries) = set.get("keys").and_then(Value::as_array) else {
        return Err("not a JSON Web Key Set".to_owned());
    };
    if entries.len() > MAX_KEYS {
        return Err(format!("more than {MAX_KEYS} keys"));
    }
    let mut keys = Vec::new();
    let mut problem = None;
    for entry in entries {
        let Value::Object(members) = entry else { return Err("a key is not an object".to_owned()) };
        if SECRET.iter().any(|name| members.contains_key(*name)) {
            return Err("a private or symmetric key; only public keys belong here".to_owned());
        }
        match key(members) {
            Ok(key) => keys.push(key),
            Err(reason) => {
                tracing::debug!(reason, "passed over a key of a key set");
                problem = Some(reason);
            }
        }
    }
    match problem {
        Some(reason) if keys.is_empty() => Err(format!("no usable key: {reason}")),
        _ => Ok(keys),
    }
}

fn key(members: &Map<String, Value>) -> Result<Key, &'static str> {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let number = |name: &str| {
        let text = text(name).filter(|t| t.len() <= MAX_NUMBER).ok_or("a member is missing or too long")?;
        b64::url_decode(text).map_err(|_| "a member is not base64url")
    };
    if members.get("use").is_some_and(|v| v != "sig") {
        return Err("not for signatures");
    }
    let verifies = |ops: &Value| ops.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify"));
    if members.get("key_ops").is_some_and(|ops| !verifies(ops)) {
        return Err("not for verifying");
    }
    let kid = match members.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= MAX_KID => Some(kid.clone()),
        Some(_) => return Err("kid is not a string of 256 bytes at most"),
    };
    let only = match members.get("alg") {
        None => None,
        Some(alg) => {
            let known = alg.as_str().and_then(Algorithm::from_name);
            Some(known.ok_or("an algorithm that is not supported")?)
        }
    };
    let key = match (text("kty"), text("crv")) {
        (Some("EC"), Some("P-256")) => Key::ec(Kind::P256, &number("x")?, &number("y")?),
        (Some("EC"), Some("P-384")) => Key::ec(Kind::P384, &number("x")?, &number("y")?),
        (Some("OKP"), Some("Ed25519")) => Key::ed25519(&number("x")?),
        (Some("RSA"), _) => Key::rsa(&number("n")?, &number("e")?),
        _ => Err("a kind of key that is not supported"),
    }?;
    key.named(kid, only)
}

#[cfg(test)]
mod tests {
    use cocoon_protocol::token::Signer;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn jwk() -> Value {
        Signer::generate().unwrap().public_jwk()
    }

    fn with(name: &str, value: Value) -> Value {
        let mut key = jwk();
        key[name] = value;
        json!({"keys": [key]})
    }

    #[test]
    fn usable_keys_are_found_among_others() {
        let good = jwk();
        let set = json!({"keys": [
            {"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"},
            {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
            {"kty": "OKP", "crv": "X25519", "x": "A".repeat(43)},
            {},
            good,
        ]});
        let keys = parse(&set).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].kid.as_deref(), good["kid"].as_str());
        assert_eq!(parse(&json!({"keys": []})), Ok(vec![]));
    }

    #[test]
    fn secret_keys_spoil_the_set() {
        for name in SECRET {
            assert!(parse(&with(name, json!("AA"))).unwrap_err().contains("private"), "{name}");
        }
        let oct = json!({"keys": [jwk(), {"kty": "oct", "k": "AAAA"}]});
        assert!(parse(&oct).unwrap_err().contains("symmetric"));
    }

    #[test]
    fn keys_for_something_else_are_not_used() {
        for (name, value) in [
            ("use", json!("enc")),
            ("use", json!(1)),
            ("key_ops", json!(["sign"])),
            ("key_ops", json!("verify")),
            ("alg", json!("HS256")),
            ("alg", json!("ES384")),
            ("alg", json!(null)),
            ("kid", json!(7)),
            ("kid", json!("k".repeat(257))),
            ("kty", json!("RSA")),
            ("crv", json!("P-384")),
            ("x", json!("A".repeat(43))),
            ("x", json!("=")),
        ] {
            assert!(
                parse(&with(name, value.clone())).unwrap_err().contains("no usable key"),
                "{name} {value}"
            );
        }
        assert!(parse(&with("use", json!("sig"))).is_ok());
        assert!(parse(&with("key_ops", json!(["verify"]))).is_ok());
    }

    #[test]
    fn what_is_not_a_set_is_refused() {
        for bad in [json!(null), json!([]), json!({}), json!({"keys": {}}), json!({"keys": [1]}), jwk()] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
        assert!(parse(&json!({"keys": vec![jwk(); MAX_KEYS]})).is_ok());
        assert!(parse(&json!({"keys": vec![jwk(); MAX_KEYS + 1]})).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(
            kty in "(EC|RSA|OKP|oct|.{0,4})",
            crv in "(P-256|P-384|Ed25519|.{0,4})",
            a in "[A-Za-z0-9_-]{0,90}",
            b in "([A-Za-z0-9_-]{43}|.{0,20})",
            text in "\\PC{0,80}",
        ) {
            let key = json!({"kty": kty, "crv": crv, "x": a, "y": b, "n": a, "e": b, "kid": text});
            let _ = parse(&json!({"keys": [key]}));
            let _ = crate::strict::parse(text.as_bytes()).map(|set| parse(&set));
        }
    }
}
