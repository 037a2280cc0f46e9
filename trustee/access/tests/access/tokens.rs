//! JWTs: every algorithm, and everything that must not pass for one.

use aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING;
use cocoon_access::{AccessConfig, Admin, Caller, How, IdentityProvider, KeySource, MAX_TOKEN};
use cocoon_protocol::b64;
use serde_json::json;

use crate::support::{
    NOW, Pair, access, ask, ask_at, caller, claims, config, is_unverified, jwks, provider, with_keys,
};

#[tokio::test]
async fn every_algorithm_verifies_from_a_key_set_and_from_pem() {
    let p384 = Pair::ec(&ECDSA_P384_SHA384_FIXED_SIGNING);
    let rsa = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
    for (pair, algs) in [
        (Pair::p256(), &["ES256"][..]),
        (p384, &["ES384"]),
        (Pair::rsa(), &rsa),
        (Pair::ed25519(), &["EdDSA", "Ed25519"]),
    ] {
        let from_set = with_keys(KeySource::Jwks(jwks(&[pair.jwk(Some("k"))])));
        let from_pem = with_keys(KeySource::PublicKeyPem(pair.pem().into_bytes()));
        for alg in algs {
            for header in [json!({"alg": alg}), json!({"alg": alg, "typ": "JWT", "kid": "k"})] {
                let token = pair.token(&header, &claims());
                for access in [&from_set, &from_pem] {
                    let admin = ask(access, &token).await.unwrap();
                    let expected =
                        Admin { name: "ann".into(), role: "tester".into(), tenant: None, how: How::Jwt };
                    assert_eq!(admin, expected, "{alg}");
                }
                let (signed, signature) = token.rsplit_once('.').unwrap();
                let mut bytes = b64::url_decode(signature).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                let forged = format!("{signed}.{}", b64::url_encode(&bytes));
                assert!(
                    is_unverified(ask(&from_set, &forged).await, "the signature does not verify"),
                    "{alg}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_key_is_used_for_its_own_type_only() {
    let (p256, rsa) = (Pair::p256(), Pair::rsa());
    let mut pinned = rsa.jwk(Some("rsa"));
    pinned["alg"] = "RS256".into();
    let access = with_keys(KeySource::Jwks(jwks(&[p256.jwk(Some("ec")), pinned])));
    for alg in ["none", "None", "HS256", "HS384", "HS512", "ES512", "ES256K"] {
        let token = p256.token(&json!({"alg": alg}), &claims());
        assert!(is_unverified(ask(&access, &token).await, "the algorithm is not supported"), "{alg}");
    }
    // An RSA key's text as the secret of a symmetric algorithm is the classic; here a key's type decides.
    for (alg, kid) in [("RS256", "ec"), ("ES384", "ec"), ("EdDSA", "ec"), ("ES256", "rsa"), ("PS256", "rsa")]
    {
        let pair = if kid == "ec" { &p256 } else { &rsa };
        let token = pair.token(&json!({"alg": alg, "kid": kid}), &claims());
        assert!(is_unverified(ask(&access, &token).await, "there is no key for it"), "{alg} {kid}");
    }
    assert!(ask(&access, &rsa.token(&json!({"alg": "RS256", "kid": "rsa"}), &claims())).await.is_ok());
    // A signature of nothing at all.
    let token = p256.token(&json!({"alg": "ES256"}), &claims());
    let (signed, _) = token.rsplit_once('.').unwrap();
    for signature in [String::new(), b64::url_encode(&[0; 64]), b64::url_encode(&[0; 96])] {
        let token = format!("{signed}.{signature}");
        assert!(is_unverified(ask(&access, &token).await, "the signature does not verify"));
    }
}

#[tokio::test]
async fn a_key_that_the_token_brings_is_not_believed() {
    let (ours, theirs) = (Pair::p256(), Pair::p256());
    let access = with_keys(KeySource::Jwks(jwks(&[ours.jwk(Some("k"))])));
    let header = json!({"alg": "ES256", "kid": "k", "jwk": theirs.jwk(Some("k")), "jku": "https://theirs/"});
    assert!(is_unverified(
        ask(&access, &theirs.token(&header, &claims())).await,
        "the signature does not verify"
    ));
    let header = json!({"alg": "ES256", "kid": "other"});
    assert!(is_unverified(ask(&access, &ours.token(&header, &claims())).await, "there is no key for it"));
}

#[tokio::test]
async fn claims_that_do_not_fit_are_refused() {
    let pair = Pair::p256();
    let access = with_keys(KeySource::PublicKeyPem(pair.pem().into_bytes()));
    for (name, value, why) in [
        ("exp", json!(NOW), "the token has expired"),
        ("exp", json!(null), "a time is missing or not a whole number of seconds"),
        ("nbf", json!(NOW + 61), "the token is not valid yet"),
        ("iat", json!(NOW + 61), "the token is not valid yet"),
        ("iss", json!("other"), "the issuer is another"),
        ("iss", json!(null), "the issuer is another"),
        ("aud", json!("other"), "the audience is another"),
        ("aud", json!(["other", "third"]), "the audience is another"),
        ("role", json!(null), "the token has no usable role, sub or tenant"),
        ("role", json!(["tester"]), "the token has no usable role, sub or tenant"),
        ("tenant", json!(1), "the token has no usable role, sub or tenant"),
    ] {
        let mut claims = claims();
        claims[name] = value;
        assert!(
            is_unverified(ask(&access, &pair.token(&json!({"alg": "ES256"}), &claims)).await, why),
            "{claims}"
        );
    }
    for name in ["exp", "iss", "aud", "role"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        assert!(ask(&access, &pair.token(&json!({"alg": "ES256"}), &claims)).await.is_err(), "{name}");
    }
    let good = pair.token(&json!({"alg": "ES256"}), &claims());
    assert!(ask_at(&access, &good, NOW + 299).await.is_ok());
    assert!(ask_at(&access, &good, NOW + 300).await.is_err());
    let mut several = claims();
    several["aud"] = json!(["other", "trustee"]);
    several["nbf"] = json!(NOW + 60);
    assert!(ask(&access, &pair.token(&json!({"alg": "ES256"}), &several)).await.is_ok());
}

#[tokio::test]
async fn malformed_tokens_are_refused() {
    let pair = Pair::p256();
    let access = with_keys(KeySource::PublicKeyPem(pair.pem().into_bytes()));
    let crit = json!({"alg": "ES256", "crit": ["x"], "x": 1});
    let why = "the header has an extension that is not understood";
    assert!(is_unverified(ask(&access, &pair.token(&crit, &claims())).await, why));
    let mut long = claims();
    long["pad"] = "x".repeat(MAX_TOKEN).into();
    let long = pair.token(&json!({"alg": "ES256"}), &long);
    assert!(is_unverified(ask(&access, &long).await, "the token is too long"));
    for bad in ["", "x", "a.b", "a.b.c", "....", "é"] {
        assert!(is_unverified(ask(&access, bad).await, "the token is malformed"), "{bad}");
    }
}

#[tokio::test]
async fn two_issuers_do_not_speak_for_each_other() {
    let (a, b) = (Pair::p256(), Pair::ed25519());
    let of = |issuer: &str, pair: &Pair| IdentityProvider {
        issuer: Some(issuer.into()),
        ..provider(KeySource::PublicKeyPem(pair.pem().into_bytes()))
    };
    let access = access(AccessConfig { identity_providers: vec![of("a", &a), of("b", &b)], ..config() });
    let claims = |issuer: &str| {
        let mut claims = claims();
        claims["iss"] = issuer.into();
        claims
    };
    let (es256, eddsa) = (json!({"alg": "ES256"}), json!({"alg": "EdDSA"}));
    assert!(ask(&access, &a.token(&es256, &claims("a"))).await.is_ok());
    assert!(ask(&access, &b.token(&eddsa, &claims("b"))).await.is_ok());
    assert!(is_unverified(ask(&access, &b.token(&eddsa, &claims("a"))).await, "there is no key for it"));
    assert!(is_unverified(ask(&access, &a.token(&es256, &claims("b"))).await, "there is no key for it"));
    assert!(is_unverified(ask(&access, &a.token(&es256, &claims("c"))).await, "the issuer is another"));
}

#[tokio::test]
async fn rules_and_tenants_bind_a_jwt() {
    let pair = Pair::p256();
    let keys = KeySource::PublicKeyPem(pair.pem().into_bytes());
    let access = with_keys(keys.clone());
    let header = json!({"alg": "ES256"});
    let mut other = claims();
    for role in ["other", "admin"] {
        other["role"] = role.into();
        let denied = ask(&access, &pair.token(&header, &other)).await.unwrap_err();
        assert_eq!(denied.status(), 403);
        assert!(denied.reason().starts_with(&format!("Role {role} not allowed")));
    }
    let token = pair.token(&header, &claims());
    for path in ["/kbs/v0/resource-policy", "/cocoon/v0/workloads", "/kbs/v0/resource/../attestation-policy"]
    {
        let denied = access.authorize(&Caller { path, ..caller(Some(&token)) }, NOW).await.unwrap_err();
        assert!(denied.status() == 403 && denied.reason().starts_with("Role tester not allowed"), "{path}");
    }
    let without = crate::support::access(AccessConfig {
        identity_providers: vec![provider(keys)],
        ..AccessConfig::default()
    });
    assert_eq!(ask(&without, &token).await.unwrap_err().status(), 403);

    let mut bound = claims();
    bound["tenant"] = "blue".into();
    let token = pair.token(&header, &bound);
    for (tenant, allowed) in [(Some("blue"), true), (Some("green"), false), (Some(""), false), (None, false)]
    {
        let answer = access.authorize(&Caller { tenant, ..caller(Some(&token)) }, NOW).await;
        match answer {
            Ok(admin) => assert!(allowed && admin.tenant.as_deref() == Some("blue")),
            Err(denied) => assert!(!allowed && denied.status() == 403, "{tenant:?}"),
        }
    }
}
