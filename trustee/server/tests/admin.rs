//! Administration over HTTP, and what must not be possible without its token.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use cocoon_protocol::b64;
use cocoon_trustee::Limits;
use serde_json::{Value, json};
use support::*;

const ALL: &[(&str, &str)] = &[
    ("POST", "/kbs/v0/resource/a/b/c"),
    ("PUT", "/kbs/v0/resource/a/b/c"),
    ("DELETE", "/kbs/v0/resource/a/b/c"),
    ("POST", "/kbs/v0/reference-value"),
    ("GET", "/kbs/v0/reference-value/x"),
    ("GET", "/cocoon/v0/workloads"),
    ("PUT", "/cocoon/v0/workloads/00"),
    ("GET", "/cocoon/v0/workloads/00"),
    ("DELETE", "/cocoon/v0/workloads/00"),
    ("GET", "/cocoon/v0/explain"),
    ("GET", "/cocoon/v0/explain/00"),
    ("GET", "/cocoon/v0/reference-values"),
    ("PUT", "/cocoon/v0/reference-values"),
    ("DELETE", "/cocoon/v0/reference-values/x"),
    ("GET", "/cocoon/v0/secrets"),
];

#[tokio::test]
async fn nothing_is_administered_without_the_token() {
    let world = World::new().await;
    let mut client = world.client().await;
    let wrong = format!("Bearer {ADMIN}x");
    for (method, path) in ALL {
        for headers in [&[][..], &[("authorization", wrong.as_str())], &[("authorization", "Basic eDp5")]] {
            let reply = client.request(method, path, headers, b"{}").await;
            assert_eq!(reply.status, 401, "{method} {path}");
            let (code, words) = reply.refusal();
            assert_eq!(code, "ACCESS-DENIED", "{method} {path}");
            assert!(words.is_some_and(|w| !w.contains(ADMIN)), "{method} {path}");
            assert_eq!(reply.kind(), "AdminAuthAccess", "{method} {path}");
        }
    }
    assert!(world.trustee.secrets().unwrap().is_empty());
    // A guest's token is no admin token.
    let mut guest = world.guest(Some(init_data("a"))).await;
    let token = format!("Bearer {}", guest.attest(&world).await.unwrap());
    let reply = client.request("GET", "/cocoon/v0/secrets", &[("authorization", &token)], b"").await;
    assert_eq!(reply.status, 401);
    world.stop().await;
}

#[tokio::test]
async fn without_a_configured_token_administration_is_off() {
    let world = World::with(|config| config.live.access.token_sha256 = None, Limits::default()).await;
    let mut client = world.client().await;
    for (method, path) in ALL {
        assert_eq!(client.admin(method, path, b"{}").await.status, 403, "{method} {path}");
        let empty = client.request(method, path, &[("authorization", "Bearer ")], b"{}").await;
        assert_eq!(empty.status, 403, "{method} {path}");
    }
    world.stop().await;
}

#[tokio::test]
async fn an_administrator_registers_and_a_guest_fetches() {
    let world = World::new().await;
    let mut client = world.client().await;
    let plan = init_data("a");
    let url = format!("/cocoon/v0/workloads/{}", hex::encode(plan.digest()));
    let body = json!({
        "name": "web",
        "secrets": {"default/secret/own": b64::std_encode(b"s3cret")},
        "allow": ["default/key/shared"],
        "accept_simulated": true,
    });
    let reply = client.admin("PUT", &url, body.to_string().as_bytes()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(!reply.text().contains("s3cret") && !reply.text().contains(&b64::std_encode(b"s3cret")));
    assert_eq!(client.admin("GET", &url, b"").await.json()["min_status"], "affirming");
    assert_eq!(client.admin("GET", "/cocoon/v0/workloads", b"").await.json().as_array().unwrap().len(), 1);
    let secret = "/kbs/v0/resource/default/key/shared";
    assert_eq!(client.admin("POST", secret, b"\x00\xffraw").await.status, 200);
    assert_eq!(client.admin("GET", "/cocoon/v0/secrets", b"").await.json(), json!(["default/key/shared"]));

    let mut guest = world.guest(Some(plan)).await;
    let token = guest.attest(&world).await.unwrap();
    let reply = guest.get(&token, "default/key/shared").await;
    assert_eq!(guest.decrypt(&reply), b"\x00\xffraw");
    let reply = guest.get(&token, "default/secret/own").await;
    assert_eq!(guest.decrypt(&reply), b"s3cret");
    let denied = guest.get(&token, "default/key/other").await;
    let explain = format!("/cocoon/v0/explain/{}", denied.header("x-request-id").unwrap());
    let explained = client.admin("GET", &explain, b"").await.json();
    assert_eq!(explained["code"], "RELEASE-DENIED");
    assert_eq!(explained["path"], "default/key/other");
    let latest = client.admin("GET", "/cocoon/v0/explain?limit=2", b"").await.json();
    assert_eq!(latest.as_array().unwrap().len(), 2);
    assert_eq!(latest[0], explained);
    assert_eq!(client.admin("GET", "/cocoon/v0/explain/../../x", b"").await.status, 404);

    assert_eq!(client.admin("DELETE", secret, b"").await.status, 200);
    assert_eq!(client.admin("DELETE", secret, b"").await.status, 404);
    assert_eq!(client.admin("DELETE", &url, b"").await.status, 200);
    assert_eq!(client.admin("GET", &url, b"").await.status, 404);
    assert_eq!(guest.get(&token, "default/secret/own").await.code(), "RELEASE-WORKLOAD-UNKNOWN");

    for bad in [
        "{",
        "{}",
        r#"{"name":"x","unknown":1}"#,
        r#"{"name":"x","secrets":{"../x":""}}"#,
        r#"{"name":"x","secrets":{"a/b/c":"*"}}"#,
    ] {
        let reply = client.admin("PUT", &url, bad.as_bytes()).await;
        assert_eq!(reply.status, 400, "{bad}: {}", reply.text());
    }
    assert_eq!(client.admin("PUT", "/cocoon/v0/workloads/zz", br#"{"name":"x"}"#).await.status, 400);
    world.stop().await;
}

#[tokio::test]
async fn a_secret_is_made_only_where_there_is_none() {
    let world = World::new().await;
    let path = "/cocoon/v0/secrets/default/image-key/new?if_absent=true";
    let mut made = Vec::new();
    let mut tries = tokio::task::JoinSet::new();
    for n in 0..8_u8 {
        let mut client = world.client().await;
        tries.spawn(async move { (n, client.admin("PUT", path, &[n; 32]).await.status) });
    }
    for (n, status) in tries.join_all().await {
        assert!(status == 200 || status == 412, "{status}");
        made.extend((status == 200).then_some(n));
    }
    let [first] = made[..] else { panic!("{made:?}") };
    let kept = || world.trustee.secret(&"default/image-key/new".parse().unwrap()).unwrap().unwrap();
    assert_eq!(*kept(), vec![first; 32]);
    let mut client = world.client().await;
    for bad in ["?if_absent=1", "?if_absent="] {
        let url = format!("/cocoon/v0/secrets/default/image-key/new{bad}");
        assert_eq!(client.admin("PUT", &url, b"x").await.status, 400, "{bad}");
    }
    assert_eq!(*kept(), vec![first; 32]);
    assert_eq!(client.admin("PUT", &path.replace("true", "false"), b"x").await.status, 200);
    assert_eq!(kept().as_slice(), b"x");
    world.stop().await;
}

#[tokio::test]
async fn reference_values_come_in_upstreams_form_and_in_ours() {
    let world = World::new().await;
    let mut client = world.client().await;
    let payload = b64::std_encode(br#"{"snp_launch_measurement":["AA","bb"],"snp_bootloader":3}"#);
    let message = json!({"version": "0.1.0", "type": "sample", "payload": payload}).to_string();
    assert_eq!(client.admin("POST", "/kbs/v0/reference-value", message.as_bytes()).await.status, 200);
    let get = "/kbs/v0/reference-value/snp_launch_measurement";
    assert_eq!(client.admin("GET", get, b"").await.json(), json!(["AA", "bb"]));
    let unknown = client.admin("GET", "/kbs/v0/reference-value/a/b", b"").await;
    assert_eq!(unknown.status, 401);
    assert!(unknown.json()["type"].as_str().unwrap().ends_with("/RvpsError"));

    let now = cocoon_trustee::system_clock()();
    let ours = json!({"source": "guest-image 1", "values": {"snp_launch_measurement": ["cc"]}, "expires_unix": now + 60});
    let put = client.admin("PUT", "/cocoon/v0/reference-values", ours.to_string().as_bytes()).await;
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(client.admin("GET", get, b"").await.json(), json!(["AA", "bb", "cc"]));
    world.ahead.store(60, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(client.admin("GET", get, b"").await.json(), json!(["AA", "bb"]));
    let url = "/cocoon/v0/reference-values/snp_launch_measurement";
    let removed = client.admin("DELETE", &format!("{url}?source=guest-image%201"), b"").await;
    assert_eq!(removed.json(), json!({"removed": 1}));
    assert_eq!(client.admin("DELETE", url, b"").await.json(), json!({"removed": 1}));
    assert_eq!(client.admin("DELETE", url, b"").await.status, 404);
    let names: Vec<Value> =
        client.admin("GET", "/cocoon/v0/reference-values", b"").await.json().as_array().unwrap().clone();
    assert!(names.iter().any(|r| r["name"] == "snp_bootloader" && r["source"] == "admin"));
    for bad in [
        json!({"type": "swid", "payload": ""}),
        json!({"type": "sample", "payload": "*"}),
        json!({"type": "sample", "payload": b64::std_encode(b"[]")}),
        json!({"type": "sample", "payload": b64::std_encode(br#"{"a#b":1}"#)}),
        json!({"type": "sample", "payload": b64::std_encode(br#"{"a":null}"#)}),
    ] {
        let status = client.admin("POST", "/kbs/v0/reference-value", bad.to_string().as_bytes()).await.status;
        assert!((400..402).contains(&status), "{bad}: {status}");
    }
    world.stop().await;
}
