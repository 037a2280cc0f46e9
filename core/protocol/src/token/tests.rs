use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::{Error, TeeKeyPair, b64};

const NOW: u64 = 1_800_000_000;

fn claims() -> Value {
    json!({"iss": "test", "iat": NOW, "exp": NOW + 300, "n": 1})
}

fn part(token: &str, i: usize) -> Vec<u8> {
    b64::url_decode(token.split('.').nth(i).unwrap()).unwrap()
}

/// A token with another header, signed by `signer` over that header.
fn with_header(signer: &Signer, header: &Value, claims: &str) -> String {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &signer.to_pkcs8_der()).unwrap();
    let signed =
        format!("{}.{}", b64::url_encode(header.to_string().as_bytes()), b64::url_encode(claims.as_bytes()));
    let sig = pair.sign(&aws_lc_rs::rand::SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", b64::url_encode(sig.as_ref()))
}

#[test]
fn round_trip() {
    let signer = Signer::generate().unwrap();
    let again = Signer::from_pkcs8_der(&signer.to_pkcs8_der()).unwrap();
    assert_eq!(again.jwks(), signer.jwks());
    let token = again.sign(&claims()).unwrap();
    assert_eq!(verify(&token, &signer.jwks(), NOW).unwrap(), claims());
    let jwk = signer.public_jwk();
    let header = String::from_utf8(part(&token, 0)).unwrap();
    let (x, y) = (jwk["x"].as_str().unwrap(), jwk["y"].as_str().unwrap());
    assert_eq!(
        header,
        format!(
            r#"{{"typ":"JWT","alg":"ES256","jwk":{{"alg":"ES256","kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}}}"#
        )
    );
    assert!(signer.sign(&json!([])).is_err());
    assert!(Signer::from_pkcs8_der(b"no key").is_err());
}

#[test]
fn debug_shows_no_key() {
    let signer = Signer::generate().unwrap();
    assert_eq!(format!("{signer:?}"), format!("Signer {{ kid: {:?}, .. }}", signer.kid()));
}

/// RFC 7515 appendix A.3: an ES256 signature somebody else made (its payload's `exp` is 1300819380, no `kid`).
#[test]
fn rfc_7515_a3_signature() {
    let key = json!({"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    let signed = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let sig = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    // Its header names no key, which verify() refuses: the signature itself is checked.
    let point = crate::jwk::ec_point(
        crate::jwk::EcCurve::P256,
        key["x"].as_str().unwrap(),
        key["y"].as_str().unwrap(),
    )
    .unwrap();
    aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED, point)
        .verify(signed.as_bytes(), &b64::url_decode(sig).unwrap())
        .unwrap();
    let e = verify(&format!("{signed}.{sig}"), &json!({"keys": [key]}), 0).unwrap_err();
    assert!(matches!(e, Error::Token("header names no key")));
}

#[test]
fn every_part_is_protected() {
    let signer = Signer::generate().unwrap();
    let jwks = signer.jwks();
    let token = signer.sign(&claims()).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let build = |h: &str, c: &str, s: &str| format!("{h}.{c}.{s}");
    let header = String::from_utf8(part(&token, 0)).unwrap();
    let spaced = b64::url_encode(header.replace(',', ", ").as_bytes());
    assert!(matches!(verify(&build(&spaced, parts[1], parts[2]), &jwks, NOW), Err(Error::Signature(_))));
    let mut other = claims();
    other["n"] = json!(2);
    let changed = b64::url_encode(other.to_string().as_bytes());
    assert!(matches!(verify(&build(parts[0], &changed, parts[2]), &jwks, NOW), Err(Error::Signature(_))));
    for at in [0, 31, 32, 63] {
        let mut sig = part(&token, 2);
        sig[at] ^= 1;
        let bad = build(parts[0], parts[1], &b64::url_encode(&sig));
        assert!(matches!(verify(&bad, &jwks, NOW), Err(Error::Signature(_))), "{at}");
    }
    for bad in [
        build(parts[0], parts[1], ""),
        build(parts[0], parts[1], &b64::url_encode(&[0; 64])),
        build(parts[0], parts[1], &b64::url_encode(&[0; 63])),
        build(parts[0], "", parts[2]),
        build("", parts[1], parts[2]),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}.{}", parts[2]),
        format!("{token}="),
        format!("{token}\n"),
        parts[..2].join("."),
        parts[0].to_owned(),
        String::new(),
    ] {
        assert!(verify(&bad, &jwks, NOW).is_err(), "{bad}");
    }
    assert!(matches!(verify(&"A".repeat(MAX_TOKEN + 1), &jwks, NOW), Err(Error::TooLarge { .. })));
}

#[test]
fn other_algorithms_are_refused() {
    let signer = Signer::generate().unwrap();
    let jwks = signer.jwks();
    for alg in ["none", "None", "HS256", "RS256", "ES384", "es256", ""] {
        let header = json!({"typ": "JWT", "alg": alg, "kid": signer.kid()});
        let token = with_header(&signer, &header, &claims().to_string());
        assert!(matches!(verify(&token, &jwks, NOW), Err(Error::Algorithm(_))), "{alg}");
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        assert!(matches!(verify(&unsigned, &jwks, NOW), Err(Error::Algorithm(_))), "{alg}");
    }
}

#[test]
fn a_key_in_the_header_is_not_trusted() {
    let (trusted, attacker) = (Signer::generate().unwrap(), Signer::generate().unwrap());
    let token = attacker.sign(&claims()).unwrap();
    assert!(verify(&token, &attacker.jwks(), NOW).is_ok());
    assert!(matches!(verify(&token, &trusted.jwks(), NOW), Err(Error::Signature("not by a trusted key"))));
    // The attacker's key under the trusted key's id, and the other way round.
    let mut key = attacker.public_jwk();
    for kid in [trusted.kid(), attacker.kid()] {
        key["kid"] = json!(kid);
        for header in [
            json!({"alg": "ES256", "kid": kid, "jwk": key}),
            json!({"alg": "ES256", "kid": kid, "jwk": trusted.public_jwk()}),
            json!({"alg": "ES256", "kid": kid}),
            json!({"alg": "ES256", "jwk": trusted.public_jwk()}),
        ] {
            let token = with_header(&attacker, &header, &claims().to_string());
            assert!(matches!(verify(&token, &trusted.jwks(), NOW), Err(Error::Signature(_))), "{header}");
        }
    }
    for jwks in [json!({}), json!({"keys": []}), json!(null), json!({"keys": {}}), json!({"keys": [{}, 1]})] {
        assert!(matches!(verify(&token, &jwks, NOW), Err(Error::Signature(_))), "{jwks}");
    }
}

#[test]
fn keys_are_found_by_id_or_by_equality() {
    let (a, b) = (Signer::generate().unwrap(), Signer::generate().unwrap());
    let text = claims().to_string();
    let jwks = json!({"keys": [{"kty": "RSA"}, b.public_jwk(), a.public_jwk()]});
    let by_kid = with_header(&a, &json!({"alg": "ES256", "kid": a.kid()}), &text);
    assert!(verify(&by_kid, &jwks, NOW).is_ok());
    assert!(verify(&a.sign(&claims()).unwrap(), &jwks, NOW).is_ok());
    // A published key without an id is known by its thumbprint.
    let mut bare = a.public_jwk();
    bare.as_object_mut().unwrap().remove("kid");
    assert!(verify(&by_kid, &json!({"keys": [bare]}), NOW).is_ok());
    // Two different keys of one id: which one is meant is not guessed.
    let mut clash = b.public_jwk();
    clash["kid"] = json!(a.kid());
    assert!(verify(&by_kid, &json!({"keys": [a.public_jwk(), clash]}), NOW).is_err());
    // A key for another use is not for signatures.
    for (name, value) in [("use", "enc"), ("alg", "ECDH-ES+A256KW"), ("kty", "RSA"), ("crv", "P-384")] {
        let mut wrong = a.public_jwk();
        wrong[name] = json!(value);
        assert!(verify(&by_kid, &json!({"keys": [wrong]}), NOW).is_err(), "{name}");
    }
}

#[test]
fn odd_headers_and_claims_are_refused() {
    let signer = Signer::generate().unwrap();
    let text = claims().to_string();
    let refused = |header: Value, claims: &str| {
        verify(&with_header(&signer, &header, claims), &signer.jwks(), NOW).unwrap_err()
    };
    let header = json!({"alg": "ES256", "kid": signer.kid()});
    for (name, value) in
        [("crit", json!(["b64"])), ("typ", json!("JOSE")), ("kid", json!(7)), ("jwk", json!({}))]
    {
        let mut h = header.clone();
        h[name] = value;
        assert!(matches!(refused(h, &text), Error::Token(_)), "{name}");
    }
    assert!(matches!(refused(json!({"kid": signer.kid()}), &text), Error::Token(_)));
    assert!(matches!(refused(json!([]), &text), Error::Token(_)));
    for bad in ["[]", "", "{", "null", &text.replace("\"n\":1", "\"iss\":\"x\"")] {
        assert!(matches!(refused(header.clone(), bad), Error::Token(_)), "{bad}");
    }
}

#[test]
fn times_are_checked() {
    let signer = Signer::generate().unwrap();
    let check = |claims: Value, now| verify(&signer.sign(&claims).unwrap(), &signer.jwks(), now);
    assert!(check(json!({"exp": NOW + 1}), NOW).is_ok());
    assert!(matches!(check(json!({"exp": NOW}), NOW), Err(Error::Expired)));
    assert!(matches!(check(json!({"exp": NOW - 1}), NOW), Err(Error::Expired)));
    assert!(matches!(check(json!({"iat": NOW}), NOW), Err(Error::Token(_))));
    for exp in [json!("9999999999"), json!(-1), json!(null), json!(1e300)] {
        assert!(matches!(check(json!({"exp": exp}), NOW), Err(Error::Token(_))), "{exp}");
    }
    for name in ["nbf", "iat"] {
        assert!(check(json!({"exp": u64::MAX, name: NOW + LEEWAY_SECONDS}), NOW).is_ok());
        let late = json!({"exp": u64::MAX, name: NOW + LEEWAY_SECONDS + 1});
        assert!(matches!(check(late, NOW), Err(Error::Expired)));
        assert!(matches!(check(json!({"exp": u64::MAX, name: "x"}), NOW), Err(Error::Token(_))));
    }
}

#[test]
fn the_public_key_is_found_in_order() {
    let keys: Vec<_> = (0..5).map(|_| TeeKeyPair::generate().unwrap().public()).collect();
    let mut claims = json!({});
    for (pointer, key) in TEE_PUBLIC_KEY_POINTERS.iter().zip(&keys).rev() {
        let mut at = &mut claims;
        for name in pointer.split('/').skip(1) {
            let members = at.as_object_mut().unwrap();
            at = members.entry(name).or_insert_with(|| Value::Object(Map::new()));
        }
        *at = serde_json::to_value(key).unwrap();
        assert_eq!(tee_public_key(&claims).as_ref(), Some(key), "{pointer}");
    }
    *claims.pointer_mut(TEE_PUBLIC_KEY_POINTERS[0]).unwrap() = json!("no key");
    assert_eq!(tee_public_key(&claims), None);
    assert_eq!(tee_public_key(&json!({})), None);
}

#[test]
fn tiers() {
    let of = |hardware, executables| TrustVector { hardware, executables, ..TrustVector::default() }.status();
    assert_eq!(of(0, 0), Status::None);
    assert_eq!(of(1, -1), Status::None);
    assert_eq!(of(2, 0), Status::Affirming);
    assert_eq!(of(31, -32), Status::Affirming);
    assert_eq!(of(2, 32), Status::Warning);
    assert_eq!(of(95, -96), Status::Warning);
    assert_eq!(of(-33, 0), Status::Warning);
    assert_eq!(of(2, 96), Status::Contraindicated);
    assert_eq!(of(127, 2), Status::Contraindicated);
    assert_eq!(of(-97, 2), Status::Contraindicated);
    assert_eq!(of(i8::MIN, 2), Status::Contraindicated);
    for s in [Status::None, Status::Affirming, Status::Warning, Status::Contraindicated] {
        assert_eq!(s.to_string().parse::<Status>().unwrap(), s);
        assert_eq!(serde_json::to_value(s).unwrap(), json!(s.name()));
    }
    assert!("Affirming".parse::<Status>().is_err());
}

#[test]
fn ear_claims() {
    let vector = TrustVector { executables: 3, hardware: 2, configuration: 2, ..TrustVector::default() };
    let read: TrustVector = serde_json::from_value(serde_json::to_value(vector).unwrap()).unwrap();
    assert_eq!(read, vector);
    assert!(serde_json::from_str::<TrustVector>(r#"{"hardware":300}"#).is_err());
    assert!(serde_json::from_str::<TrustVector>(r#"{"hardwear":2}"#).is_err());
    let mut submod = Submod::new(vector, "default", json!({"snp": {"measurement": "00"}}));
    submod.extensions.insert("ear.trustee.identifiers".into(), json!({"validated": {}}));
    submod.extensions.insert("ear.status".into(), json!("affirming, really"));
    let ear = Ear {
        iss: "trustee".into(),
        iat: 1,
        exp: 2,
        developer: "dev".into(),
        build: "1".into(),
        profile: EAR_PROFILE.into(),
        submods: [("cpu0".to_owned(), submod)].into(),
    };
    assert_eq!(
        ear.into_claims().to_string(),
        concat!(
            r#"{"eat_profile":"tag:github.com,2024:confidential-containers/Trustee","iat":1,"exp":2,"iss":"trustee","#,
            r#""ear.verifier-id":{"developer":"dev","build":"1"},"submods":{"cpu0":{"ear.status":"affirming","#,
            r#""ear.trustworthiness-vector":{"instance-identity":0,"configuration":2,"executables":3,"#,
            r#""file-system":0,"hardware":2,"runtime-opaque":0,"storage-opaque":0,"sourced-data":0},"#,
            r#""ear.appraisal-policy-id":"default","#,
            r#""ear.veraison.annotated-evidence":{"snp":{"measurement":"00"}},"#,
            r#""ear.trustee.identifiers":{"validated":{}}}}}"#
        )
    );
}

/// The shared vector: a signing key and the key set that must be published for it.
#[test]
fn jwk_vector() {
    let dir = std::env::var_os("COCOON_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
        PathBuf::from,
    );
    let (Ok(pem), Ok(jwks)) = (
        std::fs::read_to_string(dir.join("jwk/signing-key.pem")),
        std::fs::read_to_string(dir.join("jwk/expected-jwks.json")),
    ) else {
        println!("skipped: no jwk vectors in {}", dir.display());
        return;
    };
    let body: String = pem.lines().filter(|l| !l.starts_with('-')).collect();
    let signer = Signer::from_pkcs8_der(&b64::std_decode(&body).unwrap()).unwrap();
    let jwks: Value = serde_json::from_str(&jwks).unwrap();
    let own = signer.public_jwk();
    for name in ["kty", "crv", "alg", "x", "y"] {
        assert_eq!(own[name], jwks["keys"][0][name], "{name}");
    }
    assert!(verify(&signer.sign(&claims()).unwrap(), &jwks, NOW).is_ok());
}

proptest! {
    #[test]
    fn never_panics(token in ".{0,200}", a in ".{0,60}", b in ".{0,60}", sig in proptest::collection::vec(any::<u8>(), 64)) {
        let signer = Signer::generate().unwrap();
        let jwks = signer.jwks();
        prop_assert!(verify(&token, &jwks, NOW).is_err());
        let header = json!({"alg": "ES256", "kid": signer.kid(), "x": a}).to_string();
        let e = b64::url_encode;
        let forged = format!("{}.{}.{}", e(header.as_bytes()), e(b.as_bytes()), e(&sig));
        prop_assert!(verify(&forged, &jwks, NOW).is_err());
        let odd = format!("{}.{}.{}", e(a.as_bytes()), e(b.as_bytes()), e(&sig));
        prop_assert!(verify(&odd, &jwks, NOW).is_err());
    }
}
