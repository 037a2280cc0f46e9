//! Token keys: rotation, restarts, replicas on one shared store, and where relying parties look them up.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cocoon_protocol::b64;
use cocoon_store::{RedbStore, Sealer, Store};
use cocoon_trustee::Limits;
use serde_json::{Value, json};
use support::*;

const OWN: &str = "default/secret/own";

fn kids(jwks: &Value) -> Vec<String> {
    jwks["keys"].as_array().unwrap().iter().map(|k| k["kid"].as_str().unwrap().to_owned()).collect()
}

/// The id of the key in a token's header: its thumbprint (RFC 7638).
fn kid(token: &str) -> String {
    let header = b64::url_decode(token.split('.').next().unwrap()).unwrap();
    let jwk = &serde_json::from_slice::<Value>(&header).unwrap()["jwk"];
    let text = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]);
    b64::url_encode(&sha256(text.as_bytes()))
}

async fn published(client: &mut Client) -> Value {
    let reply = client.request("GET", "/.well-known/jwks.json", &[], b"").await;
    assert_eq!(reply.status, 200);
    assert!(!reply.text().contains("\"d\""), "no private half");
    reply.json()
}

async fn rotate(client: &mut Client) -> String {
    let reply = client.admin("POST", "/cocoon/v0/token-key/rotate", b"").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["kid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn tokens_from_before_a_rotation_are_good_until_they_expire() {
    let world = World::new().await;
    let plan = init_data("a");
    world.register(&registration(&plan));
    let mut admin = world.client().await;
    let mut guest = world.guest(Some(plan)).await;
    let old = guest.attest(&world).await.unwrap();
    let first = published(&mut admin).await;
    let new_kid = rotate(&mut admin).await;
    assert_eq!(kids(&first), [kid(&old)]);
    let both = published(&mut admin).await;
    assert_eq!(kids(&both), [new_kid.clone(), kid(&old)]);

    let reply = guest.get(&old, OWN).await;
    assert_eq!(guest.decrypt(&reply), b"s3cret");
    let new = guest.attest(&world).await.unwrap();
    assert_eq!(kid(&new), new_kid);
    assert_eq!(guest.get(&new, OWN).await.status, 200);
    let now = cocoon_trustee::system_clock()();
    for token in [&old, &new] {
        cocoon_protocol::token::verify(token, &both, now).unwrap();
    }
    assert!(cocoon_protocol::token::verify(&new, &first, now).is_err());

    world.ahead.store(300, Ordering::SeqCst);
    for token in [&old, &new] {
        assert_eq!(guest.get(token, OWN).await.code(), "RELEASE-TOKEN-INVALID");
    }
    // Published a while longer, for relying parties whose clocks are behind; then no more.
    assert_eq!(kids(&published(&mut admin).await).len(), 2);
    world.ahead.store(86_400, Ordering::SeqCst);
    assert_eq!(kids(&published(&mut admin).await), [new_kid]);
    world.stop().await;
}

#[tokio::test]
async fn a_retired_key_stays_published_as_long_as_a_token_of_it_lives() {
    let day = std::time::Duration::from_secs(86_400);
    let world = World::with(|config| config.live.token_lifetime = day, Limits::default()).await;
    let mut guest = world.guest(None).await;
    let token = guest.attest(&world).await.unwrap();
    world.trustee.rotate_token_key().unwrap();
    world.ahead.store(86_000, Ordering::SeqCst);
    assert_ne!(guest.get(&token, OWN).await.code(), "RELEASE-TOKEN-INVALID");
    assert!(kids(&published(&mut guest.client).await).contains(&kid(&token)));
    world.stop().await;
}

/// A Trustee with its state in this folder.
async fn on_disk(folder: &tempfile::TempDir) -> World {
    let store: Arc<dyn Store> = Arc::new(RedbStore::open_exclusive(&folder.path().join("s.redb")).unwrap());
    let sealer = Arc::new(Sealer::open_or_create(&folder.path().join("key")).unwrap());
    World::with(|config| (config.store, config.sealer) = (store, sealer), Limits::default()).await
}

#[tokio::test]
async fn a_restart_keeps_all_keys() {
    let folder = tempfile::tempdir().unwrap();
    let plan = init_data("a");
    let first = on_disk(&folder).await;
    first.register(&registration(&plan));
    let mut guest = first.guest(Some(plan)).await;
    let old = guest.attest(&first).await.unwrap();
    rotate(&mut guest.client).await;
    let new = guest.attest(&first).await.unwrap();
    let (keys, log_key) = (published(&mut guest.client).await, first.trustee.audit_key());
    let Guest { key, client, .. } = guest;
    drop(client);
    first.stop().await;

    let second = on_disk(&folder).await;
    let mut guest = second.guest(None).await;
    guest.key = key;
    assert_eq!(published(&mut guest.client).await, keys);
    assert_eq!(second.trustee.audit_key(), log_key);
    for token in [&old, &new] {
        let reply = guest.get(token, OWN).await;
        assert_eq!(guest.decrypt(&reply), b"s3cret");
    }
    second.stop().await;
    // At rest the keys are sealed.
    let file = std::fs::read(folder.path().join("s.redb")).unwrap();
    assert!(!file.windows(5).any(|w| w == b"pkcs8"));
}

#[tokio::test]
async fn a_restart_keeps_tokens_and_registrations_and_ends_open_handshakes() {
    let folder = tempfile::tempdir().unwrap();
    let plan = init_data("a");
    let first = on_disk(&folder).await;
    first.register(&registration(&plan));
    let mut guest = first.guest(Some(plan.clone())).await;
    let token = guest.attest(&first).await.unwrap();
    guest.auth().await;
    let (key, cookie) = (guest.key, guest.cookie);
    drop(guest.client);
    first.stop().await;

    let second = on_disk(&folder).await;
    let mut guest = second.guest(Some(plan)).await;
    (guest.key, guest.cookie) = (key, cookie);
    let reply = guest.get(&token, "default/secret/own").await;
    assert_eq!(guest.decrypt(&reply), b"s3cret");
    // Used nonces were only in the first process's memory, so none of its cookies may open any more.
    assert_eq!(guest.post("/kbs/v0/attest", &json!({})).await.code(), "ATTEST-PROTOCOL");
    second.stop().await;
}

async fn replicas(folder: &tempfile::TempDir) -> [World; 2] {
    let sealer = Arc::new(Sealer::open_or_create(&folder.path().join("key")).unwrap());
    let one =
        || World::with(|c| (c.store, c.sealer) = (shared_store(folder), sealer.clone()), Limits::default());
    [one().await, one().await]
}

#[tokio::test]
async fn replicas_notice_each_others_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = replicas(&folder).await;
    let plan = init_data("a");
    first.register(&registration(&plan));
    let mut admin = [first.client().await, second.client().await];
    let before = published(&mut admin[0]).await;
    assert_eq!(published(&mut admin[1]).await, before);
    let mut guest = first.guest(Some(plan.clone())).await;
    let old = guest.attest(&first).await.unwrap();

    // A token of the new key is good at the other replica at once, although that has not looked for a rotation.
    let new_kid = rotate(&mut admin[0]).await;
    let new = guest.attest(&first).await.unwrap();
    assert_eq!(kid(&new), new_kid);
    guest.client = second.client().await;
    for token in [&new, &old] {
        let reply = guest.get(token, OWN).await;
        assert_eq!(guest.decrypt(&reply), b"s3cret");
    }
    // The other way round with nothing but time passing.
    let newest_kid = rotate(&mut admin[1]).await;
    for world in [&first, &second] {
        world.ahead.store(5, Ordering::SeqCst);
    }
    let keys = published(&mut admin[0]).await;
    assert_eq!(kids(&keys), [newest_kid.clone(), new_kid, kid(&old)]);
    assert_eq!(published(&mut admin[1]).await, keys);
    guest.client = first.client().await;
    assert_eq!(kid(&guest.attest(&first).await.unwrap()), newest_kid);
    // Rubbish does not become good by looking again.
    assert_eq!(guest.get("a.b.c", OWN).await.code(), "RELEASE-TOKEN-INVALID");
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn trustees_that_share_a_store_finish_each_others_handshakes_once() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = replicas(&folder).await;
    let plan = init_data("a");
    first.register(&registration(&plan));
    let mut guest = first.guest(Some(plan.clone())).await;
    let challenge = guest.auth().await;
    let message = guest.attestation(&first, &challenge);
    let cookie = guest.cookie.clone();
    guest.client = second.client().await;
    let reply = guest.post("/kbs/v0/attest", &message).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let secret = guest.get_by_cookie("default/secret/own").await;
    assert_eq!(guest.decrypt(&secret), b"s3cret");
    for world in [&first, &second] {
        guest.client = world.client().await;
        guest.cookie = cookie.clone();
        assert_eq!(guest.post("/kbs/v0/attest", &message).await.code(), "ATTEST-NONCE-REPLAYED");
    }
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn of_many_answers_to_one_challenge_across_replicas_one_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = replicas(&folder).await;
    let plan = init_data("a");
    second.register(&registration(&plan));
    let mut guest = first.guest(Some(plan)).await;
    let challenge = guest.auth().await;
    let message = guest.attestation(&first, &challenge).to_string();
    let mut racers = Vec::new();
    for i in 0..8 {
        let world = if i % 2 == 0 { &second } else { &first };
        let (mut client, cookie, message) = (world.client().await, guest.cookie.clone(), message.clone());
        racers.push(tokio::spawn(async move {
            client.request("POST", "/kbs/v0/attest", &[("cookie", &cookie)], message.as_bytes()).await
        }));
    }
    let mut tokens = Vec::new();
    for racer in racers {
        let reply = racer.await.unwrap();
        match reply.status {
            200 => tokens.push(reply.json()["token"].as_str().unwrap().to_owned()),
            _ => assert_eq!(reply.code(), "ATTEST-NONCE-REPLAYED"),
        }
    }
    assert_eq!(tokens.len(), 1);
    for world in [&first, &second] {
        guest.client = world.client().await;
        let reply = guest.get(&tokens[0], OWN).await;
        assert_eq!(guest.decrypt(&reply), b"s3cret");
    }
    // Both wrote one log.
    let heads = [&first, &second].map(|w| w.trustee.audit().size().unwrap());
    assert_eq!(heads[0], heads[1]);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn relying_parties_find_the_keys_by_discovery() {
    const DOCUMENT: &str = "/.well-known/openid-configuration";
    let world = World::new().await;
    let mut client = world.client().await;
    let found = client.request("GET", DOCUMENT, &[], b"").await;
    assert_eq!(found.header("content-type"), Some("application/json"));
    let found = found.json();
    assert_eq!(found["issuer"], "CoCo-Attestation-Service");
    assert_eq!(found["jwks_uri"], "https://localhost/.well-known/jwks.json");
    assert_eq!(found["id_token_signing_alg_values_supported"], json!(["ES256"]));
    world.stop().await;

    let url = |config: &mut cocoon_trustee::Config| {
        config.live.public_url = Some("https://trustee.example:8443/".into());
        config.live.issuer = "https://trustee.example".into();
    };
    let world = World::with(url, Limits::default()).await;
    let mut client = world.client().await;
    let found = client.request("GET", DOCUMENT, &[], b"").await.json();
    assert_eq!(found["issuer"], "https://trustee.example");
    assert_eq!(found["jwks_uri"], "https://trustee.example:8443/.well-known/jwks.json");
    // A tenant has keys of its own, and says where.
    assert_eq!(client.admin("PUT", "/cocoon/v0/tenants/acme", b"{}").await.status, 200);
    let theirs = client.request("GET", &format!("/t/acme{DOCUMENT}"), &[], b"").await.json();
    assert_eq!(theirs["jwks_uri"], "https://trustee.example:8443/t/acme/.well-known/jwks.json");
    let keys = client.request("GET", "/t/acme/.well-known/jwks.json", &[], b"").await.json();
    assert!(kids(&keys).iter().all(|k| !kids(&world.trustee.jwks()).contains(k)));
    world.stop().await;
}
