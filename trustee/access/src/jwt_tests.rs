use proptest::prelude::*;
use serde_json::json;

use super::*;

fn raw(header: &str, claims: &str) -> String {
    format!("{}.{}.AAAA", b64::url_encode(header.as_bytes()), b64::url_encode(claims.as_bytes()))
}

fn claims(claims: Value) -> String {
    raw(r#"{"alg":"ES256"}"#, &claims.to_string())
}

fn flaw<T>(result: Result<T, Flaw>) -> Flaw {
    result.err().unwrap()
}

#[test]
fn malformed_tokens_are_refused() {
    let good = raw(r#"{"alg":"ES256"}"#, "{}");
    assert!(Jwt::parse(&good).is_ok());
    let five = format!("{good}.AAAA.AAAA");
    let padded = format!("{good}=");
    let spaced = format!(" {good}");
    for bad in ["", ".", "..", "a.b.c", &five, &padded, &spaced, &good.replace('.', "")] {
        assert_eq!(flaw(Jwt::parse(bad)), Flaw::Malformed, "{bad}");
    }
    for (header, body) in [
        (r#"{"alg":"ES256","alg":"ES256"}"#, "{}"),
        (r#"{"alg":"ES256","kid":1}"#, "{}"),
        (r#"{"alg":"ES256"}"#, r#"{"role":"a","role":"b"}"#),
        (r#"{"alg":"ES256"}"#, r#"{"x":{"a":1,"\u0061":1}}"#),
        (r#"{"alg":"ES256"}"#, "[]"),
        ("[]", "{}"),
        ("{", "{}"),
    ] {
        assert_eq!(flaw(Jwt::parse(&raw(header, body))), Flaw::Malformed, "{header} {body}");
    }
    assert_eq!(flaw(Jwt::parse(&"a".repeat(MAX_TOKEN + 1))), Flaw::TooLong);
}

#[test]
fn headers_that_ask_for_more_are_refused() {
    for alg in ["none", "nOnE", "HS256", "HS384", "HS512", "ES512", "RSA-OAEP", ""] {
        assert_eq!(flaw(Jwt::parse(&raw(&json!({"alg": alg}).to_string(), "{}"))), Flaw::Algorithm, "{alg}");
    }
    assert_eq!(flaw(Jwt::parse(&raw("{}", "{}"))), Flaw::Algorithm);
    assert_eq!(flaw(Jwt::parse(&raw(r#"{"alg":["ES256"]}"#, "{}"))), Flaw::Algorithm);
    for crit in [r#"["exp"]"#, "[]", "null"] {
        let header = format!(r#"{{"alg":"ES256","crit":{crit}}}"#);
        assert_eq!(flaw(Jwt::parse(&raw(&header, "{}"))), Flaw::Critical);
    }
    for typ in [json!("dpop+jwt"), json!("JWE"), json!(1)] {
        assert_eq!(flaw(Jwt::parse(&raw(&json!({"alg":"ES256","typ":typ}).to_string(), "{}"))), Flaw::Type);
    }
    for typ in ["JWT", "jwt", "at+jwt"] {
        assert!(Jwt::parse(&raw(&json!({"alg":"ES256","typ":typ}).to_string(), "{}")).is_ok(), "{typ}");
    }
}

#[test]
fn times_are_kept() {
    let at = |claim: Value, now| Jwt::parse(&claims(claim)).unwrap().check_times(now);
    assert_eq!(at(json!({"exp": 100}), 99), Ok(()));
    assert_eq!(at(json!({"exp": 100}), 100), Err(Flaw::Expired));
    assert_eq!(at(json!({}), 0), Err(Flaw::Times));
    for bad in [json!("100"), json!(-1), json!(1e3), json!(null), json!([100])] {
        assert_eq!(at(json!({"exp": bad}), 0), Err(Flaw::Times), "{bad}");
    }
    for name in ["nbf", "iat"] {
        assert_eq!(at(json!({"exp": 1000, name: 160}), 100), Ok(()));
        assert_eq!(at(json!({"exp": 1000, name: 161}), 100), Err(Flaw::NotYet));
        assert_eq!(at(json!({"exp": 1000, name: "1"}), 100), Err(Flaw::Times));
    }
    assert_eq!(at(json!({"exp": u64::MAX, "nbf": u64::MAX}), u64::MAX - 1), Ok(()));
}

#[test]
fn identities_need_a_role() {
    let of = |claim: Value| Jwt::parse(&claims(claim)).unwrap().identity();
    let full = of(json!({"role": "tester", "sub": "ann", "tenant": "blue"})).unwrap();
    assert_eq!(full, Identity { name: "ann".into(), role: "tester".into(), tenant: Some("blue".into()) });
    assert_eq!(of(json!({"role": "r"})).unwrap().name, "r");
    for bad in
        [json!(null), json!(""), json!(1), json!(["r"]), json!("a\nb"), json!("r".repeat(MAX_NAME + 1))]
    {
        assert_eq!(of(json!({"role": bad})), Err(Flaw::Claims), "{bad}");
        assert_eq!(of(json!({"role": "r", "tenant": bad})), Err(Flaw::Claims), "{bad}");
    }
    assert_eq!(of(json!({})), Err(Flaw::Claims));
    assert_eq!(of(json!({"role": "r", "sub": 1})), Err(Flaw::Claims));
    assert_eq!(of(json!({"role": "r", "sub": "s".repeat(MAX_SUBJECT + 1)})), Err(Flaw::Claims));
}

#[test]
fn issuer_and_audience_must_be_ours() {
    let check = |claim: Value| Jwt::parse(&claims(claim)).unwrap().check_names(Some("i"), Some("a"));
    assert_eq!(check(json!({"iss": "i", "aud": "a"})), Ok(()));
    assert_eq!(check(json!({"iss": "i", "aud": ["b", "a"]})), Ok(()));
    for iss in [json!(null), json!("I"), json!("i/"), json!(["i"]), json!(1)] {
        assert_eq!(check(json!({"iss": iss, "aud": "a"})), Err(Flaw::Issuer), "{iss}");
    }
    assert_eq!(check(json!({"aud": "a"})), Err(Flaw::Issuer));
    for aud in
        [json!(null), json!("b"), json!([]), json!(["b"]), json!(["a", 1]), json!({"a": "a"}), json!("a b")]
    {
        assert_eq!(check(json!({"iss": "i", "aud": aud})), Err(Flaw::Audience), "{aud}");
    }
    assert_eq!(check(json!({"iss": "i"})), Err(Flaw::Audience));
    assert_eq!(Jwt::parse(&claims(json!({}))).unwrap().check_names(None, None), Ok(()));
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,200}", header in "\\PC{0,60}", body in "\\PC{0,60}", now: u64) {
        for token in [text.clone(), raw(&header, &body), raw(r#"{"alg":"EdDSA"}"#, &body)] {
            if let Ok(jwt) = Jwt::parse(&token) {
                let _ = jwt.check_times(now);
                let _ = jwt.identity();
                let _ = jwt.check_names(Some(&text), Some(&text));
                prop_assert!(jwt.is_signed_by(&[]).is_err());
            }
        }
    }

    #[test]
    fn claims_of_any_shape_do_not_panic(
        exp in "(-?[0-9]{0,25}|[0-9]e[0-9]{1,3}|\"x\"|null|\\[\\]|true)", now: u64,
    ) {
        let body = format!(r#"{{"exp":{exp},"nbf":{exp},"role":{exp},"aud":{exp}}}"#);
        if let Ok(jwt) = Jwt::parse(&raw(r#"{"alg":"RS256"}"#, &body)) {
            if jwt.check_times(now).is_ok() {
                prop_assert!(exp.parse::<u64>().is_ok_and(|exp| exp > now));
            }
            prop_assert!(jwt.identity().is_err() || exp == "\"x\"");
        }
    }
}
