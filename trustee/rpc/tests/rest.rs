//! REST on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use cocoon_rpc::{RpcLimits, Runtime};
use serde_json::{Value, json};
use support::{Answer, Backend, Server, http1};

const ADMIN: Option<&str> = Some("admin");

fn attestation(evidence: &str) -> String {
    json!({"verification_requests": [{"tee": "tpm", "evidence": evidence, "runtime_data": {"raw": "AQ"}}],
           "policy_ids": ["p"]})
    .to_string()
}

fn refusal(answer: &Answer) -> (u16, Value) {
    let body = answer.json();
    let members: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
    assert_eq!(members, ["code", "detail", "request_id"]);
    assert!(body["request_id"].as_str().is_some_and(|id| !id.is_empty()));
    (answer.status, body["code"].clone())
}

#[tokio::test]
async fn every_call_works() {
    let server = Server::rest(Backend::default(), RpcLimits::default()).await;
    let at = server.address;
    let token = http1(at, "POST", "/attestation", ADMIN, attestation("e30")).await;
    assert_eq!((token.status, token.body.as_ref()), (200, &b"head.claims.signature"[..]));
    assert_eq!(server.backend.asked.lock().unwrap()[0].requests[0].runtime, Some(Runtime::Raw(vec![1])));
    assert_eq!(server.backend.asked.lock().unwrap()[0].policy_ids, ["p"]);
    let policy = json!({"policy_id": "p q", "policy": "cGFja2FnZSB4"}).to_string();
    assert_eq!(http1(at, "POST", "/policy", ADMIN, policy).await.status, 200);
    assert_eq!(http1(at, "GET", "/policy", ADMIN, "").await.json(), json!([{"policy-id": "p q"}]));
    let text = http1(at, "GET", "/policy/p%20q", ADMIN, "").await;
    assert_eq!((text.status, text.body.as_ref()), (200, &b"package x"[..]));
    let asked = json!({"tee": "tdx", "tee_params": ""}).to_string();
    assert_eq!(http1(at, "POST", "/challenge", ADMIN, asked).await.body.as_ref(), b"challenge for tdx");
    let keys = http1(at, "GET", "/.well-known/jwks.json", None, "").await;
    assert_eq!((keys.status, keys.json()), (200, json!({"keys": []})));
    assert_eq!(http1(at, "GET", "/healthz", None, "").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn refusals_are_json_with_their_status() {
    let server = Server::rest(Backend::default(), RpcLimits::default()).await;
    let at = server.address;
    for (method, path) in [
        ("POST", "/attestation"),
        ("POST", "/policy"),
        ("GET", "/policy"),
        ("GET", "/policy/p"),
        ("POST", "/challenge"),
    ] {
        for bearer in [None, Some("wrong")] {
            let answer = http1(at, method, path, bearer, attestation("e30")).await;
            assert!(!String::from_utf8_lossy(&answer.body).contains("/secret/path"));
            assert_eq!(refusal(&answer), (401, json!("ACCESS-DENIED")), "{method} {path}");
        }
        if path != "/attestation" {
            let answer = http1(at, method, path, Some("reader"), "{}").await;
            assert_eq!(refusal(&answer), (403, json!("ACCESS-DENIED")), "{method} {path}");
        }
    }
    let bad = async |body: String| refusal(&http1(at, "POST", "/attestation", ADMIN, body).await);
    for body in [String::new(), "{".into(), "[]".into(), attestation("{}"), attestation("e30=")] {
        assert_eq!(bad(body.clone()).await, (400, json!("ATTEST-PROTOCOL")), "{body}");
    }
    assert_eq!(bad(" ".repeat((4 << 20) + 1)).await, (413, json!("ATTEST-PROTOCOL")));
    assert_eq!(bad(attestation("eyJyZWZ1c2UiOjF9")).await, (400, json!("ATTEST-SIGNATURE-INVALID")));
    let policy = |id: &str, text: &str| json!({"policy_id": id, "policy": text}).to_string();
    for (body, code) in [(policy("../p", "cA"), "ATTEST-PROTOCOL"), (policy("p", "?"), "POLICY-INVALID")] {
        assert_eq!(refusal(&http1(at, "POST", "/policy", ADMIN, body).await), (400, json!(code)));
    }
    assert_eq!(refusal(&http1(at, "GET", "/policy/none", ADMIN, "").await), (404, json!("POLICY-INVALID")));
    assert_eq!(refusal(&http1(at, "GET", "/policy/%ff", ADMIN, "").await).0, 400);
    assert_eq!(refusal(&http1(at, "GET", "/policy/..%2fx", ADMIN, "").await).0, 400);
    assert_eq!(refusal(&http1(at, "GET", "/nothing", ADMIN, "").await).0, 404);
    assert_eq!(refusal(&http1(at, "DELETE", "/policy", ADMIN, "").await).0, 405);
    assert!(server.backend.policies.lock().unwrap().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_request_ends_when_its_time_is_up() {
    let backend = Backend { delay: Duration::from_secs(20), ..Backend::default() };
    let limits = RpcLimits { request: Duration::from_millis(200), ..RpcLimits::default() };
    let server = Server::rest(backend, limits).await;
    let answer = http1(server.address, "POST", "/attestation", ADMIN, attestation("e30")).await;
    assert_eq!(refusal(&answer), (408, json!("ATTEST-PROTOCOL")));
    server.stop().await;
}
