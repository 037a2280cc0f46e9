use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::TeeKeyPair;

fn read(v: Value) -> Result<TeePublicKey, serde_json::Error> {
    serde_json::from_value(v)
}

fn ec(crv: &str, alg: &str, x: &str, y: &str) -> Value {
    json!({"kty":"EC","crv":crv,"alg":alg,"x":x,"y":y})
}

fn rsa(bits: usize, e: &[u8]) -> Value {
    let mut n = vec![0xff; bits.div_ceil(8)];
    if !bits.is_multiple_of(8) {
        n[0] = 0xff >> (8 - bits % 8);
    }
    json!({"kty":"RSA","alg":"RSA-OAEP-256","n":b64::url_encode(&n),"e":b64::url_encode(e)})
}

#[test]
fn the_json_has_exactly_the_members_in_order() {
    let (x, y) = ("A".repeat(43), "B".repeat(43));
    let key = TeePublicKey::Ec { crv: EcCurve::P256, x: x.clone(), y: y.clone() };
    let text = serde_json::to_string(&key).unwrap();
    assert_eq!(text, format!(r#"{{"kty":"EC","crv":"P-256","alg":"ECDH-ES+A256KW","x":"{x}","y":"{y}"}}"#));
    let key = TeePublicKey::Rsa { alg: RsaAlg::Pkcs1v15, n: "bg".into(), e: "AQAB".into() };
    assert_eq!(serde_json::to_string(&key).unwrap(), r#"{"kty":"RSA","alg":"RSA1_5","n":"bg","e":"AQAB"}"#);
}

#[test]
fn unknown_members_are_dropped() {
    let public = TeeKeyPair::generate().unwrap().public();
    let mut v = serde_json::to_value(&public).unwrap();
    v["kid"] = json!("x");
    v["d"] = json!("secret");
    assert_eq!(read(v).unwrap(), public);
    public.validate().unwrap();
}

#[test]
fn other_curves_algorithms_and_lengths_are_refused() {
    let (a, alg) = ("A".repeat(43), "ECDH-ES+A256KW");
    assert!(read(ec("P-256", alg, &a, &a)).is_ok());
    assert!(read(ec("P-384", alg, &"A".repeat(64), &"A".repeat(64))).is_err());
    assert!(read(ec("P-521", alg, &a, &a)).is_err());
    assert!(read(ec("P-521", alg, &"A".repeat(88), &"A".repeat(88))).is_ok());
    assert!(read(ec("P-256", "ECDH-ES", &a, &a)).is_err());
    assert!(read(ec("P-256", alg, &a[1..], &a)).is_err());
    assert!(read(ec("P-256", alg, &a, &"A".repeat(44))).is_err());
    assert!(read(ec("P-256", alg, &a, &"=".repeat(43))).is_err());
    assert!(read(json!({"kty":"EC","crv":"P-256","x":a,"y":a})).is_err());
    assert!(read(json!({"kty":"oct","k":a})).is_err());
    let twice = format!(r#"{{"kty":"EC","crv":"P-256","alg":"{alg}","x":"{a}","y":"{a}","x":"{a}"}}"#);
    assert!(serde_json::from_str::<TeePublicKey>(&twice).is_err());
}

#[test]
fn a_point_off_the_curve_is_refused_when_used() {
    let a = "A".repeat(43);
    let key = read(ec("P-256", "ECDH-ES+A256KW", &a, &a)).unwrap();
    assert!(key.validate().is_err());
    assert!(crate::jwe::encrypt(&key, b"x").is_err());
}

#[test]
fn rsa_sizes_are_bounded() {
    let e = [1, 0, 1];
    assert!(read(rsa(2048, &e)).is_ok());
    assert!(read(rsa(8192, &e)).is_ok());
    assert!(read(rsa(2047, &e)).is_err());
    assert!(read(rsa(1024, &e)).is_err());
    assert!(read(rsa(8193, &e)).is_err());
    assert!(read(rsa(1 << 20, &e)).is_err());
    for e in [&[][..], &[1], &[2], &[0, 3], &[0xff; 9]] {
        assert!(read(rsa(2048, e)).is_err(), "{e:?}");
    }
    let mut v = rsa(2048, &e);
    v["alg"] = json!("RSA-OAEP");
    assert!(read(v).is_err());
}

proptest! {
    #[test]
    fn never_panics(text in ".{0,300}", x in ".{0,100}", y in ".{0,100}") {
        let _ = serde_json::from_str::<TeePublicKey>(&text);
        for crv in [EcCurve::P256, EcCurve::P521] {
            let _ = TeePublicKey::Ec { crv, x: x.clone(), y: y.clone() }.validate();
        }
        let _ = TeePublicKey::Rsa { alg: RsaAlg::Oaep256, n: x, e: y }.validate();
    }
}
