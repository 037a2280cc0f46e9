//! Administrators' JWTs. Two parts between a NUL byte: header and payload, signed with the identity provider's key. One
//! part: the token itself.
#![no_main]

use std::sync::{Arc, LazyLock};

use cocoon_access::{Access, AccessConfig, AclRule, Caller, IdentityProvider, KeySource};
use cocoon_fuzz::signed::IDENTITY;
use cocoon_fuzz::{NOW, block_on, parts};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

static ACCESS: LazyLock<Access> = LazyLock::new(|| {
    let provider = IdentityProvider {
        issuer: Some("https://idp.example".into()),
        audience: Some("trustee".into()),
        keys: KeySource::Jwks(json!({ "keys": [IDENTITY.plain_jwk()] })),
    };
    let endpoints = vec!["^/cocoon/v0/.*$".into(), "^/t/a/.*$".into()];
    let rule = AclRule { role: "operator".into(), allowed_endpoints: endpoints };
    let config =
        AccessConfig { identity_providers: vec![provider], acl: vec![rule], ..AccessConfig::default() };
    Access::new(config, Arc::new(|| NOW)).expect("good settings")
});

/// That a good token is taken, so that this target cannot pass by never getting anywhere.
static CHECKED: LazyLock<()> = LazyLock::new(|| {
    let claims =
        json!({ "role": "operator", "iss": "https://idp.example", "aud": "trustee", "exp": NOW + 60 });
    let token = IDENTITY.token(br#"{"alg":"ES256","kid":"k"}"#, claims.to_string().as_bytes());
    let path = "/cocoon/v0/status";
    let caller = Caller { method: "GET", path, bearer: Some(&token), client_certificate: None, tenant: None };
    block_on(ACCESS.authorize(&caller, NOW)).expect("a good token is taken");
});

fuzz_target!(|bytes: &[u8]| {
    *CHECKED;
    let parts = parts(bytes, 2);
    let (token, payload) = match parts.as_slice() {
        [header, payload] => (IDENTITY.token(header, payload), *payload),
        _ => (String::from_utf8_lossy(bytes).into_owned(), &b""[..]),
    };
    for (path, tenant) in [("/cocoon/v0/status", None), ("/t/a/cocoon/v0/status", Some("a"))] {
        let caller = Caller { method: "GET", path, bearer: Some(&token), client_certificate: None, tenant };
        let Ok(admin) = block_on(ACCESS.authorize(&caller, NOW)) else { continue };
        let claims: Value = serde_json::from_slice(payload).expect("only what is signed is believed");
        assert_eq!(claims["role"], "operator");
        assert_eq!(claims["iss"], "https://idp.example");
        assert!(claims["exp"].as_u64().is_some_and(|end| end > NOW));
        assert!(admin.tenant.is_none() || admin.tenant.as_deref() == tenant);
    }
});
