//! Access rules and paths. Two parts between a NUL byte: a regular expression and a request's path.
#![no_main]

use std::sync::{Arc, LazyLock};

use cocoon_access::{Access, AccessConfig, AclRule, Caller, IdentityProvider, KeySource};
use cocoon_fuzz::signed::IDENTITY;
use cocoon_fuzz::{NOW, block_on};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

static TOKEN: LazyLock<String> = LazyLock::new(|| {
    let payload = json!({ "role": "r", "exp": NOW + 3600 }).to_string();
    IDENTITY.token(br#"{"alg":"ES256"}"#, payload.as_bytes())
});

fuzz_target!(|text: &str| {
    let Some((regex, path)) = text.split_once('\0') else { return };
    let keys = KeySource::Jwks(json!({ "keys": [IDENTITY.plain_jwk()] }));
    let config = AccessConfig {
        identity_providers: vec![IdentityProvider { issuer: None, audience: None, keys }],
        acl: vec![AclRule { role: "r".into(), allowed_endpoints: vec![regex.to_owned()] }],
        ..AccessConfig::default()
    };
    let Ok(access) = Access::new(config, Arc::new(|| NOW)) else { return };
    let caller = Caller { method: "GET", path, bearer: Some(&TOKEN), client_certificate: None, tenant: None };
    if block_on(access.authorize(&caller, NOW)).is_ok() {
        let lower = path.to_ascii_lowercase();
        let hidden = ["/../", "/./", "//", "%2f", "%25", "\\", "?", "#"];
        assert!(!hidden.iter().any(|word| lower.contains(word)), "{regex} allows {path}");
        assert!(!path.ends_with("/..") && path.starts_with(['/', '%']), "{regex} allows {path}");
    }
});
