//! Keys in files and behind URLs: rotation, outage, and servers that lie.

use std::sync::Arc;

use cocoon_access::{Access, Error, KeySource};
use serde_json::{Value, json};

use crate::support::{NOW, Pair, Server, ask, ask_at, claims, is_unverified, jwks, with_keys};

const NO_KEY: &str = "there is no key for it";

/// A token that outlives every test.
fn token(pair: &Pair, kid: Option<&str>) -> String {
    let mut header = json!({"alg": "ES256"});
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    let mut claims = claims();
    claims["exp"] = json!(NOW + 1_000_000);
    pair.token(&header, &claims)
}

fn by_url(url: impl Into<String>) -> Access {
    with_keys(KeySource::JwksUrl(url.into()))
}

async fn serving(path: &str, body: Value) -> Server {
    let server = Server::start().await;
    server.set(path, body);
    server
}

#[tokio::test]
async fn keys_are_fetched_when_needed_and_kept() {
    let pair = Pair::p256();
    let server = serving("/keys", jwks(&[pair.jwk(Some("a"))])).await;
    let access = by_url(format!("{}/keys", server.url));
    assert_eq!(server.hits(), 0);
    // What cannot be an administrator's does not cause a fetch.
    assert!(ask(&access, "x").await.is_err());
    assert!(ask_at(&access, &token(&pair, None), NOW + 2_000_000).await.is_err());
    assert_eq!(server.hits(), 0);
    for _ in 0..3 {
        assert!(ask(&access, &token(&pair, Some("a"))).await.is_ok());
        assert!(ask(&access, &token(&pair, None)).await.is_ok());
    }
    assert_eq!(server.hits(), 1);
    assert!(ask_at(&access, &token(&pair, Some("a")), NOW + 599).await.is_ok());
    assert_eq!(server.hits(), 1);
    assert!(ask_at(&access, &token(&pair, Some("a")), NOW + 600).await.is_ok());
    assert_eq!(server.hits(), 2);
}

#[tokio::test]
async fn a_new_key_is_found_by_its_id_and_an_old_one_forgotten() {
    let (old, new) = (Pair::p256(), Pair::p256());
    let server = serving("/keys", jwks(&[old.jwk(Some("old"))])).await;
    let access = by_url(format!("{}/keys", server.url));
    assert!(ask(&access, &token(&old, Some("old"))).await.is_ok());
    server.set("/keys", jwks(&[new.jwk(Some("new"))]));
    // Not at once: unknown ids must not make us knock at the provider for every request.
    assert!(is_unverified(ask_at(&access, &token(&new, Some("new")), NOW + 9).await, NO_KEY));
    assert_eq!(server.hits(), 1);
    assert!(ask_at(&access, &token(&new, Some("new")), NOW + 10).await.is_ok());
    assert_eq!(server.hits(), 2);
    assert!(is_unverified(ask_at(&access, &token(&old, Some("old")), NOW + 11).await, NO_KEY));
    for i in 0..50 {
        let unknown = token(&new, Some(&format!("unknown{i}")));
        assert!(is_unverified(ask_at(&access, &unknown, NOW + 12).await, NO_KEY));
    }
    assert_eq!(server.hits(), 2);
}

#[tokio::test]
async fn old_keys_outlive_an_outage_for_a_day() {
    let pair = Pair::p256();
    let server = serving("/keys", jwks(&[pair.jwk(Some("a"))])).await;
    let access = by_url(format!("{}/keys", server.url));
    let token = token(&pair, Some("a"));
    assert!(ask(&access, &token).await.is_ok());
    server.break_down(true);
    let day = 24 * 60 * 60;
    assert!(ask_at(&access, &token, NOW + 600).await.is_ok());
    let hits = server.hits();
    assert!(ask_at(&access, &token, NOW + 609).await.is_ok());
    assert_eq!(server.hits(), hits, "attempts during an outage are ten seconds apart");
    assert!(matches!(access.refresh().await, Err(Error::Keys { .. })));
    assert!(ask_at(&access, &token, NOW + day).await.is_ok());
    assert!(is_unverified(ask_at(&access, &token, NOW + day + 1).await, NO_KEY));
    server.break_down(false);
    assert!(ask_at(&access, &token, NOW + day + 20).await.is_ok());
}

#[tokio::test]
async fn without_a_server_nobody_comes_in() {
    let pair = Pair::p256();
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let access = by_url(format!("http://{gone}/keys"));
    assert!(is_unverified(ask(&access, &token(&pair, None)).await, NO_KEY));
    assert!(access.refresh().await.is_err());
}

#[tokio::test]
async fn one_fetch_serves_all_who_wait() {
    let pair = Pair::p256();
    let server = serving("/keys", jwks(&[pair.jwk(Some("a"))])).await;
    server.slow_down();
    let access = Arc::new(by_url(format!("{}/keys", server.url)));
    // Goes away while it waits; the others get what its fetch brings.
    let first = tokio::spawn({
        let (access, token) = (access.clone(), token(&pair, Some("a")));
        async move { ask(&access, &token).await }
    });
    while server.hits() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    first.abort();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (access, token) = (access.clone(), token(&pair, Some("a")));
            tokio::spawn(async move { ask(&access, &token).await })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap().is_ok());
    }
    assert_eq!(server.hits(), 1);
}

#[tokio::test]
async fn a_key_that_was_taken_away_does_not_pass_while_the_keys_are_fetched() {
    let (old, new) = (Pair::p256(), Pair::p256());
    let server = serving("/keys", jwks(&[old.jwk(Some("old"))])).await;
    let access = by_url(format!("{}/keys", server.url));
    let token = token(&old, Some("old"));
    assert!(ask(&access, &token).await.is_ok());
    server.set("/keys", jwks(&[new.jwk(Some("new"))]));
    server.slow_down();
    let later = NOW + 700;
    let (a, b) = tokio::join!(ask_at(&access, &token, later), ask_at(&access, &token, later));
    assert!(is_unverified(a, NO_KEY) && is_unverified(b, NO_KEY));
    assert_eq!(server.hits(), 2);
}

#[tokio::test]
async fn discovery_leads_to_the_keys() {
    let pair = Pair::p256();
    let token = token(&pair, Some("a"));
    let server = serving("/realm/keys", jwks(&[pair.jwk(Some("a"))])).await;
    let document = |issuer: &str, uri: &str| json!({"issuer": issuer, "jwks_uri": uri});
    let keys = format!("{}/realm/keys", server.url);
    server.set("/realm/.well-known/openid-configuration", document("idp", &keys));
    for url in ["/realm", "/realm/", "/realm/.well-known/openid-configuration"] {
        assert!(ask(&by_url(format!("{}{url}", server.url)), &token).await.is_ok(), "{url}");
    }
    for (path, page) in [
        ("/issuer", document("other", &keys)),
        ("/away", document("idp", "http://idp.example.org/keys")),
        ("/file", document("idp", "file:///etc/keys")),
        ("/loop", document("idp", &format!("{}/loop", server.url))),
        ("/none", json!({"issuer": "idp"})),
    ] {
        server.set(&format!("{path}/.well-known/openid-configuration"), page);
        assert!(is_unverified(ask(&by_url(format!("{}{path}", server.url)), &token).await, NO_KEY), "{path}");
    }
}

#[tokio::test]
async fn sets_that_are_not_right_bring_no_keys() {
    let pair = Pair::p256();
    let token = token(&pair, Some("a"));
    let server = Server::start().await;
    let mut private = pair.jwk(Some("b"));
    private["d"] = "AA".into();
    let good = pair.jwk(Some("a")).to_string();
    for (path, page) in [
        ("/private", jwks(&[pair.jwk(Some("a")), private]).to_string()),
        ("/many", jwks(&vec![pair.jwk(Some("a")); 65]).to_string()),
        ("/twice", format!(r#"{{"keys":[],"keys":[{good}]}}"#)),
        ("/list", format!("[{good}]")),
        ("/text", "keys".into()),
        ("/large", format!(r#"{{"keys":[{good}],"pad":"{}"}}"#, "x".repeat(256 * 1024))),
    ] {
        server.set(path, page);
        assert!(is_unverified(ask(&by_url(format!("{}{path}", server.url)), &token).await, NO_KEY), "{path}");
    }
}

#[tokio::test]
async fn files_are_read_again_on_request() {
    let (old, new) = (Pair::p256(), Pair::p256());
    let folder = tempfile::tempdir().unwrap();
    let (set, pem) = (folder.path().join("jwks.json"), folder.path().join("key.pem"));
    let write = |pair: &Pair| {
        std::fs::write(&set, jwks(&[pair.jwk(None)]).to_string()).unwrap();
        std::fs::write(&pem, pair.pem()).unwrap();
    };
    write(&old);
    for access in
        [with_keys(KeySource::JwksFile(set.clone())), with_keys(KeySource::PublicKeyFile(pem.clone()))]
    {
        write(&old);
        access.refresh().await.unwrap();
        assert!(ask(&access, &token(&old, None)).await.is_ok());
        write(&new);
        assert!(ask(&access, &token(&new, None)).await.is_err());
        access.refresh().await.unwrap();
        assert!(ask(&access, &token(&new, None)).await.is_ok());
        assert!(ask(&access, &token(&old, None)).await.is_err());
        // A broken file changes nothing but is told.
        for path in [&set, &pem] {
            std::fs::write(path, "x").unwrap();
        }
        assert!(matches!(access.refresh().await, Err(Error::Keys { .. })));
        assert!(ask(&access, &token(&new, None)).await.is_ok());
    }
    // A key set without keys takes all away.
    write(&old);
    let access = with_keys(KeySource::JwksFile(set.clone()));
    std::fs::write(&set, r#"{"keys":[]}"#).unwrap();
    access.refresh().await.unwrap();
    assert!(is_unverified(ask(&access, &token(&old, None)).await, NO_KEY));
}
