//! Who may administer: nobody by default, then those whom the owner names, and only what their role allows.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod administration;
mod support;

use std::sync::Arc;

use administration::*;
use cocoon_protocol::token::Signer;
use cocoon_trustee::access::{AccessConfig, AclRule, IdentityProvider, KeySource};
use cocoon_trustee::{Config, Limits, Trustee, system_clock};
use serde_json::{Value, json};
use support::*;

async fn with_access(change: impl FnOnce(&mut AccessConfig)) -> World {
    World::with(|config| change(&mut config.live.access), Limits::default()).await
}

/// The status, code and words of a refusal.
fn words(reply: &Reply) -> (u16, String, String) {
    let (code, words) = reply.refusal();
    assert!(reply.json()["type"].as_str().unwrap().ends_with("/AdminAuthAccess"), "{}", reply.text());
    (reply.status, code.to_owned(), words.unwrap_or_default())
}

const SET: &str = "/kbs/v0/resource/team/key/one";

#[tokio::test]
async fn by_default_nobody_administers() {
    let world = with_access(|access| access.token_sha256 = None).await;
    let mut client = world.client().await;
    for path in [SET, "/kbs/v0/resource-policy", "/kbs/v0/attestation-policy", "/kbs/v0/reference-value"] {
        for headers in [&[][..], &[("authorization", "Bearer x")], &[("authorization", "Basic eDp5")]] {
            let reply = client.request("POST", path, headers, b"{}").await;
            let (status, code, said) = words(&reply);
            assert_eq!((status, code.as_str()), (403, "ACCESS-DENIED"), "{path}");
            assert!(said.contains("DenyAll authorization_mode is enabled"), "{said}");
        }
    }
    let reply = client.request("GET", "/cocoon/v0/status", &[], b"").await;
    assert_eq!(words(&reply).0, 403);
    assert!(world.trustee.secrets().unwrap().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn the_local_token_may_do_everything_and_nothing_like_it_may() {
    let world = World::new().await;
    let mut client = world.client().await;
    assert_eq!(client.admin("POST", SET, b"v").await.status, 200);
    let (upper, long) = (ADMIN.to_uppercase(), format!("{ADMIN}x"));
    for token in ["", "x", upper.as_str(), long.as_str(), &ADMIN[..ADMIN.len() - 1], &"y".repeat(40_000)] {
        let bearer = format!("Bearer {token}");
        let reply = client.request("DELETE", SET, &[("authorization", &bearer)], b"").await;
        let (status, code, said) = words(&reply);
        assert_eq!((status, code.as_str()), (401, "ACCESS-DENIED"), "{said}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        assert!(!said.contains(ADMIN));
    }
    let hash = hex::encode(sha256(ADMIN.as_bytes()));
    let reply = with_token(&mut client, &hash, "DELETE", SET, &Value::Null).await;
    assert_eq!(words(&reply).0, 401, "its digest is not the token");
    for (name, value) in [("cookie", format!("kbs-session-id={ADMIN}")), ("x-admin", ADMIN.into())] {
        let reply = client.request("DELETE", SET, &[(name, &value)], b"").await;
        assert_eq!(words(&reply).0, 401);
    }
    assert_eq!(world.trustee.secrets().unwrap(), ["team/key/one"]);
    world.stop().await;
}

fn provider(signer: &Signer) -> IdentityProvider {
    IdentityProvider {
        issuer: Some("https://idp".into()),
        audience: Some("trustee".into()),
        keys: KeySource::Jwks(signer.jwks()),
    }
}

fn claims_of(role: &str) -> Value {
    json!({"iss": "https://idp", "aud": "trustee", "sub": "ann", "role": role, "exp": system_clock()() + 300})
}

fn rule(role: &str, endpoints: &[&str]) -> AclRule {
    AclRule { role: role.into(), allowed_endpoints: endpoints.iter().map(|e| (*e).to_owned()).collect() }
}

#[tokio::test]
async fn a_role_in_a_jwt_may_do_what_its_rules_name() {
    let signer = Signer::generate().unwrap();
    let world = with_access(|access| {
        access.identity_providers = vec![provider(&signer)];
        access.acl = vec![
            rule("deployer", &["^/kbs/v0/resource/team/[a-z]+/[a-z]+$", "^/cocoon/v0/secrets$"]),
            rule("auditor", &["^/cocoon/v0/audit/.*$", "^/cocoon/v0/explain(/.*)?$"]),
        ];
    })
    .await;
    let mut client = world.client().await;
    let token = |claims: &Value| signer.sign(claims).unwrap();
    let deployer = token(&claims_of("deployer"));
    let reply = with_token(&mut client, &deployer, "POST", SET, &json!("v")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let entries = read(&mut client, "/cocoon/v0/audit/entries").await.to_string();
    assert!(entries.contains("ann (deployer)"), "{entries}");
    assert_eq!(
        with_token(&mut client, &deployer, "GET", "/cocoon/v0/secrets", &Value::Null).await.status,
        200
    );
    for path in [
        "/kbs/v0/resource/other/key/one",
        "/kbs/v0/resource/team/../other/key",
        "/kbs/v0/resource/team/key/one/more",
        "/kbs/v0/resource-policy",
        "/kbs/v0/resource-policy?/kbs/v0/resource/team/key/one",
        "/kbs/v0/resource/other/key/one?x=/kbs/v0/resource/team/key/one",
        "/kbs/v0/resource/team/key%2fone",
        "/kbs/v0/resource/team//one",
        "//kbs/v0/resource/team/key/one",
    ] {
        let reply = with_token(&mut client, &deployer, "POST", path, &json!({})).await;
        let code = reply.refusal().0.to_owned();
        assert!(
            matches!((reply.status, code.as_str()), (403, "ACCESS-DENIED") | (404, "USAGE-INVALID")),
            "{path}: {}",
            reply.text()
        );
    }
    for (method, path) in [
        ("GET", "/cocoon/v0/status"),
        ("PUT", "/cocoon/v0/rules/x"),
        ("GET", "/cocoon/v0/audit/head"),
        ("DELETE", "/cocoon/v0/secrets/team/key/one"),
    ] {
        let reply = with_token(&mut client, &deployer, method, path, &Value::Null).await;
        let (status, _, said) = words(&reply);
        assert_eq!(status, 403, "{path}");
        assert!(said.contains("Role deployer not allowed"), "{said}");
    }
    let auditor = token(&claims_of("auditor"));
    for path in ["/cocoon/v0/audit/entries", "/cocoon/v0/explain"] {
        assert_eq!(with_token(&mut client, &auditor, "GET", path, &Value::Null).await.status, 200);
    }
    // Upstream's words for a role that no rule names; `admin` in a JWT is one like any other.
    for role in ["tester", "admin"] {
        let reply = with_token(&mut client, &token(&claims_of(role)), "POST", SET, &json!("v")).await;
        let (status, _, said) = words(&reply);
        assert_eq!(status, 403);
        assert!(said.contains(&format!("Role {role} not allowed")), "{said}");
    }
    assert_eq!(world.trustee.secrets().unwrap(), ["team/key/one"]);
    world.stop().await;
}

#[tokio::test]
async fn a_jwt_of_nobody_known_is_refused_in_upstreams_words() {
    let (signer, stranger) = (Signer::generate().unwrap(), Signer::generate().unwrap());
    let world = with_access(|access| {
        access.identity_providers = vec![provider(&signer)];
        access.acl = vec![rule("deployer", &["^/kbs/.*$", "^/cocoon/.*$"])];
    })
    .await;
    let mut client = world.client().await;
    let good = claims_of("deployer");
    let mut tokens = vec![stranger.sign(&good).unwrap()];
    for (member, value) in [
        ("iss", json!("https://other")),
        ("aud", json!("other")),
        ("aud", json!(["other"])),
        ("exp", json!(system_clock()() - 1)),
        ("exp", Value::Null),
        ("exp", json!("9999999999")),
        ("nbf", json!(system_clock()() + 3600)),
        ("role", json!(["deployer"])),
        ("role", json!("")),
        ("tenant", json!(7)),
    ] {
        let mut claims = good.clone();
        claims[member] = value;
        tokens.push(signer.sign(&claims).unwrap());
    }
    for missing in ["iss", "aud", "exp", "role"] {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(missing);
        tokens.push(signer.sign(&claims).unwrap());
    }
    let fine = signer.sign(&good).unwrap();
    let parts: Vec<&str> = fine.split('.').collect();
    let none = cocoon_protocol::b64::url_encode(br#"{"typ":"JWT","alg":"none"}"#);
    tokens.push(format!("{none}.{}.", parts[1]));
    tokens.push(format!("{}.{}.", parts[0], parts[1]));
    tokens.push(format!("{}.{}.{}", parts[0], cocoon_protocol::b64::url_encode(b"{}"), parts[2]));
    tokens.push("a.b.c".into());
    // A guest's own token is signed by this Trustee, which is no identity provider.
    let mut guest = world.guest(None).await;
    tokens.push(guest.attest(&world).await.unwrap());
    for token in tokens {
        let reply = with_token(&mut client, &token, "POST", SET, &json!("v")).await;
        let (status, code, said) = words(&reply);
        assert_eq!((status, code.as_str()), (401, "ACCESS-DENIED"), "{token}");
        assert!(said.contains("Cannot verify token with any of the issuers"), "{said}");
    }
    assert!(world.trustee.secrets().unwrap().is_empty());
    assert_eq!(with_token(&mut client, &fine, "POST", SET, &json!("v")).await.status, 200);
    world.ahead.store(301, std::sync::atomic::Ordering::SeqCst);
    let late = with_token(&mut client, &fine, "POST", SET, &json!("v")).await;
    assert_eq!(words(&late).0, 401, "it has ended");
    world.stop().await;
}

#[tokio::test]
async fn a_tenant_claim_binds_to_that_tenant() {
    let signer = Signer::generate().unwrap();
    // Rules that could match more than they say are refused at the start.
    for endpoint in [
        "^/(t/[a-z]+/)?cocoon/v0/.*$",
        "/cocoon/.*$",
        "^/cocoon/.*",
        "^/cocoon/a|.*$",
        "^/$",
        "^/cocoon/(.*$",
    ] {
        let store = Arc::new(cocoon_store::MemoryStore::new());
        let mut config = Config::new(store, Arc::new(cocoon_store::Sealer::ephemeral().unwrap()));
        config.live.access.acl = vec![rule("owner", &[endpoint])];
        assert!(Trustee::new(config).is_err(), "{endpoint}");
    }
    let world = with_access(|access| {
        access.identity_providers = vec![provider(&signer)];
        access.acl = vec![rule("owner", &["^/t/[a-z]+/cocoon/v0/.*$", "^/cocoon/v0/.*$"])];
    })
    .await;
    let mut client = world.client().await;
    for name in ["red", "blue"] {
        done(&mut client, "PUT", &format!("/cocoon/v0/tenants/{name}"), Value::Null).await;
    }
    let mut claims = claims_of("owner");
    let everywhere = signer.sign(&claims).unwrap();
    claims["tenant"] = "red".into();
    let reds = signer.sign(&claims).unwrap();
    for path in
        ["/t/red/cocoon/v0/secrets", "/t/blue/cocoon/v0/secrets", "/cocoon/v0/secrets", "/cocoon/v0/tenants"]
    {
        assert_eq!(
            with_token(&mut client, &everywhere, "GET", path, &Value::Null).await.status,
            200,
            "{path}"
        );
    }
    let own = with_token(&mut client, &reds, "GET", "/t/red/cocoon/v0/secrets", &Value::Null).await;
    assert_eq!(own.status, 200, "{}", own.text());
    for path in
        ["/t/blue/cocoon/v0/secrets", "/cocoon/v0/secrets", "/cocoon/v0/tenants", "/t/blue/cocoon/v0/status"]
    {
        let reply = with_token(&mut client, &reds, "GET", path, &Value::Null).await;
        let (status, _, said) = words(&reply);
        assert_eq!(status, 403, "{path}");
        assert!(said.contains("Role owner not allowed"), "{said}");
    }
    assert_eq!(
        with_token(&mut client, &reds, "GET", "/t/red/cocoon/v0/tenants", &Value::Null).await.status,
        404
    );
    for method in ["DELETE", "PUT"] {
        let reply = with_token(&mut client, &reds, method, "/cocoon/v0/tenants/red", &Value::Null).await;
        assert_eq!(words(&reply).0, 403);
    }
    world.stop().await;
}
