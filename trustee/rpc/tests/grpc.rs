//! gRPC on loopback: the client against the server, and hostile clients.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use cocoon_rpc::{
    AttestationClient, Endpoint, Error, EvaluateRequest, GrpcCode, Individual, InitData, RpcLimits, Runtime,
};
use cocoon_stage::Code;
use serde_json::json;
use support::{Backend, Server, endpoint, http1, http2, pki};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const EVALUATE: &str = "/attestation.AttestationService/AttestationEvaluate";
const GRPC: (&str, &str) = ("content-type", "application/grpc");
const ADMIN: (&str, &str) = ("authorization", "Bearer admin");
/// One request: tee `snp`, evidence `{}`.
const REQUEST: &[u8] = b"\x00\x00\x00\x00\x0c\x0a\x0a\x0a\x03snp\x1a\x03e30";

fn request(evidence: serde_json::Value) -> EvaluateRequest {
    let individual =
        Individual { tee: "snp".into(), evidence, runtime: None, init_data: None, hash: "sha384".into() };
    EvaluateRequest { requests: vec![individual], policy_ids: vec!["default".into()] }
}

fn refused(error: Error) -> (GrpcCode, Option<Code>) {
    match error {
        Error::Status { status, code, .. } => (status, code),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_method_works_both_ways() {
    let server = Server::grpc(Backend::default(), None, RpcLimits::default()).await;
    let client = server.client(Some("admin"));
    let mut asked = request(json!({"report": "x", "n": [1, 2.5, null]}));
    asked.requests[0].runtime = Some(Runtime::Structured(json!({"nonce": "é"})));
    asked.requests[0].init_data = Some(InitData::Digest(vec![7; 48]));
    let mut device = asked.requests[0].clone();
    device.tee = "nvidia-dpu".into();
    device.runtime = Some(Runtime::Raw(vec![0, 1, 255]));
    device.init_data = Some(InitData::Toml("a = 1".into()));
    device.hash = "sm3".into();
    asked.requests.push(device);
    assert_eq!(client.evaluate(asked.clone()).await.unwrap(), "head.claims.signature");
    assert_eq!(*server.backend.asked.lock().unwrap(), [asked]);
    assert_eq!(server.backend.callers.lock().unwrap()[0].name, "admin");
    assert!(server.backend.callers.lock().unwrap()[0].remote.unwrap().ip().is_loopback());
    client.set_policy("p", "package policy").await.unwrap();
    assert_eq!(server.backend.policies.lock().unwrap()["p"], "package policy");
    let challenge = client.challenge([("tee".to_owned(), "tdx".to_owned())].into()).await.unwrap();
    assert_eq!(challenge, "challenge for tdx");
    assert_eq!(client.query_reference_value("svn").await.unwrap(), Some(json!([1, 2])));
    assert_eq!(client.query_reference_value("other").await.unwrap(), None);
    client.register_reference_value(r#"{"type":"sample"}"#.into()).await.unwrap();
    assert_eq!(*server.backend.registered.lock().unwrap(), [r#"{"type":"sample"}"#]);
    assert!(server.client(None).healthy().await.unwrap());
    server.stop().await;
}

#[tokio::test]
async fn refusals_keep_code_and_id() {
    let server = Server::grpc(Backend::default(), None, RpcLimits::default()).await;
    let error = server.client(Some("admin")).evaluate(request(json!({"refuse": 1}))).await.unwrap_err();
    assert!(error.to_string().ends_with("the signature is wrong"));
    assert_eq!(refused(error), (GrpcCode::FailedPrecondition, Some(Code::AttestSignatureInvalid)));
    // {"refuse":1} in base64url.
    let body = b"\x00\x00\x00\x00\x19\x0a\x17\x0a\x03snp\x1a\x10eyJyZWZ1c2UiOjF9";
    let raw = http2(server.address, EVALUATE, &[GRPC, ADMIN], &body[..]).await;
    assert_eq!((raw.grpc(), raw.status), ("9", 200));
    assert_eq!(raw.headers["x-request-id"], "r-1");
    assert_eq!(raw.headers["x-cocoon-code"], "ATTEST-SIGNATURE-INVALID");
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_served_to_strangers() {
    let server = Server::grpc(Backend::default(), None, RpcLimits::default()).await;
    for bearer in [None, Some("wrong")] {
        let client = server.client(bearer);
        let error = client.evaluate(request(json!({}))).await.unwrap_err();
        assert!(!error.to_string().contains("/secret/path"), "{error}");
        let denied = (GrpcCode::Unauthenticated, Some(Code::AccessDenied));
        assert_eq!(refused(error), denied);
        assert_eq!(refused(client.set_policy("p", "").await.unwrap_err()), denied);
        assert_eq!(refused(client.challenge([].into()).await.unwrap_err()), denied);
        assert_eq!(refused(client.query_reference_value("svn").await.unwrap_err()), denied);
        assert_eq!(refused(client.register_reference_value("{}".into()).await.unwrap_err()), denied);
    }
    let reader = server.client(Some("reader"));
    reader.evaluate(request(json!({}))).await.unwrap();
    assert_eq!(refused(reader.set_policy("p", "").await.unwrap_err()).0, GrpcCode::PermissionDenied);
    assert!(server.backend.policies.lock().unwrap().is_empty());
    assert_eq!(server.backend.asked.lock().unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn malformed_requests_get_a_status() {
    let server = Server::grpc(Backend::default(), None, RpcLimits::default()).await;
    let oversize = [&b"\x00\x00\x50\x00\x00"[..], &vec![b' '; 5 << 20]].concat();
    for (body, status) in [
        (&b""[..], "3"),
        (b"\x00\x00\x00", "3"),
        (&REQUEST[..9], "3"),
        (&[REQUEST, REQUEST].concat(), "3"),
        (b"\x01\x00\x00\x00\x01x", "12"),
        (b"\x07\x00\x00\x00\x01x", "3"),
        (b"\x00\xff\xff\xff\xff", "8"),
        (b"\x00\x00\x00\x00\x03\x0a\xff\x01", "3"),
        (b"\x00\x00\x00\x00\x04\x12\x02\xff\xfe", "3"),
        (&oversize, "8"),
        (REQUEST, "0"),
    ] {
        let answer = http2(server.address, EVALUATE, &[GRPC, ADMIN], body.to_vec()).await;
        assert_eq!(answer.grpc(), status, "{:?}", &body[..body.len().min(20)]);
    }
    assert_eq!(server.backend.asked.lock().unwrap().len(), 1);
    for path in [
        "/attestation.AttestationService/Other",
        "/attestation.AttestationService/attestationevaluate",
        "/grpc.health.v1.Health/Watch",
        "/",
    ] {
        assert_eq!(http2(server.address, path, &[GRPC, ADMIN], REQUEST).await.grpc(), "12", "{path}");
    }
    let health = "/grpc.health.v1.Health/Check";
    assert_eq!(
        http2(server.address, health, &[GRPC], &b"\x00\x00\x00\x00\x03\x0a\x01x"[..]).await.grpc(),
        "5"
    );
    assert_eq!(http2(server.address, health, &[GRPC], vec![0; 5000]).await.grpc(), "8");
    let json = http2(server.address, EVALUATE, &[("content-type", "application/json"), ADMIN], "{}").await;
    assert_eq!(json.status, 415);
    server.stop().await;
}

#[tokio::test]
async fn deadlines_end_calls() {
    let backend = Backend { delay: Duration::from_secs(20), ..Backend::default() };
    let limits = RpcLimits { request: Duration::from_millis(300), ..RpcLimits::default() };
    let server = Server::grpc(backend, None, limits).await;
    let own = server.client(Some("admin")).evaluate(request(json!({}))).await.unwrap_err();
    assert_eq!(refused(own).0, GrpcCode::DeadlineExceeded);
    let headers = [GRPC, ADMIN, ("grpc-timeout", "50m")];
    assert_eq!(http2(server.address, EVALUATE, &headers, REQUEST).await.grpc(), "4");
    let headers = [GRPC, ADMIN, ("grpc-timeout", "soon")];
    assert_eq!(http2(server.address, EVALUATE, &headers, REQUEST).await.grpc(), "3");
    let timeout = Duration::from_millis(100);
    let hasty = Endpoint { timeout, ..endpoint(&format!("http://{}", server.address)) };
    let hasty = AttestationClient::connect(hasty, Some("admin")).unwrap();
    let error = hasty.evaluate(request(json!({}))).await.unwrap_err();
    // Both sides know the same deadline; whichever notices first says so.
    assert!(matches!(
        &error,
        Error::Deadline { .. } | Error::Status { status: GrpcCode::DeadlineExceeded, .. }
    ));
    server.stop().await;
}

#[tokio::test]
async fn many_streams_wait_for_their_turn() {
    let backend = Backend { delay: Duration::from_millis(5), ..Backend::default() };
    let limits = RpcLimits { streams: 16, requests: 4, ..RpcLimits::default() };
    let server = Server::grpc(backend, None, limits).await;
    let client = Arc::new(server.client(Some("admin")));
    let calls: Vec<_> = (0..200)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.evaluate(request(json!({"n": n}))).await.unwrap() })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(server.backend.asked.lock().unwrap().len(), 200);
    server.stop().await;
}

#[tokio::test]
async fn tls_names_the_client() {
    let pki = pki();
    let server = Server::grpc(Backend::default(), Some(pki.server.clone()), RpcLimits::default()).await;
    let url = format!("https://{}", server.address);
    let with = |ca_pem: &str, identity| Endpoint { ca_pem: Some(ca_pem.into()), identity, ..endpoint(&url) };
    let client = AttestationClient::connect(with(&pki.ca_pem, Some(pki.client.clone())), None).unwrap();
    client.evaluate(request(json!({}))).await.unwrap();
    assert_eq!(server.backend.callers.lock().unwrap()[0].name, "certificate");
    let nobody = AttestationClient::connect(with(&pki.ca_pem, None), None).unwrap();
    assert!(nobody.healthy().await.unwrap());
    assert_eq!(refused(nobody.evaluate(request(json!({}))).await.unwrap_err()).0, GrpcCode::Unauthenticated);
    let other = support::pki();
    let wary = AttestationClient::connect(with(&other.ca_pem, None), Some("admin")).unwrap();
    assert!(matches!(wary.healthy().await.unwrap_err(), Error::Unreachable { .. }));
    let plain = server.client(Some("admin"));
    assert!(matches!(plain.healthy().await.unwrap_err(), Error::Unreachable { .. }));
    server.stop().await;
}

#[tokio::test]
async fn the_keys_are_served_over_http_1() {
    let server = Server::grpc(Backend::default(), None, RpcLimits::default()).await;
    let keys = http1(server.address, "GET", "/.well-known/jwks.json", None, "").await;
    assert_eq!((keys.status, keys.json()), (200, json!({"keys": []})));
    assert_eq!(http1(server.address, "POST", EVALUATE, Some("admin"), "").await.status, 404);
    assert_eq!(http1(server.address, "GET", "/", None, "").await.status, 404);
    server.stop().await;
}

/// Whether the server ends this connection within two seconds.
async fn ends(mut stream: TcpStream) -> bool {
    let read = async {
        let mut buffer = [0; 1024];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == ErrorKind::ConnectionReset,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(2), read).await.unwrap_or(false)
}

#[tokio::test]
async fn slow_and_many_clients_are_cut() {
    let short = Duration::from_millis(200);
    let limits = RpcLimits {
        headers: short,
        idle: short,
        drain: short,
        connections_per_address: 3,
        ..RpcLimits::default()
    };
    let server = Server::grpc(Backend::default(), None, limits).await;
    let connect = async |bytes: &[u8]| {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    };
    let silent = connect(b"").await;
    let half_preface = connect(b"PRI * HTTP/2.0\r\n").await;
    // A preface, settings, and then headers that never end.
    let endless =
        connect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\0\0\0\0\x01\x88").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(ends(connect(b"").await).await, "the fourth is closed at once");
    assert!(ends(silent).await && ends(half_preface).await && ends(endless).await);
    assert!(ends(connect(b"GET / HTTP/1.1\r\nx: ").await).await);
    assert!(ends(connect(&[0xff; 64]).await).await);
    assert!(server.client(None).healthy().await.unwrap(), "and others are served again");
    server.stop().await;
}

#[tokio::test]
async fn a_connection_has_its_age() {
    let short = Duration::from_millis(200);
    let limits = RpcLimits { age: short, drain: short, ..RpcLimits::default() };
    let server = Server::grpc(Backend::default(), None, limits).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    assert!(ends(stream).await);
    server.stop().await;
}

#[tokio::test]
async fn headers_are_bounded() {
    let server = Server::grpc(Backend::default(), None, RpcLimits::default()).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let large = http::Request::post(format!("http://{}{EVALUATE}", server.address))
        .header("authorization", format!("Bearer {}", "x".repeat(100_000)))
        .body(http_body_util::Full::new(bytes::Bytes::from_static(REQUEST)))
        .unwrap();
    let answered = sender.send_request(large).await;
    assert!(!answered.is_ok_and(|response| response.status().is_success()));
    assert!(server.client(None).healthy().await.unwrap());
    server.stop().await;
}

#[tokio::test]
async fn a_client_reconnects() {
    let server = Server::grpc(Backend::default(), None, RpcLimits::default()).await;
    let address = server.address;
    let client = server.client(Some("admin"));
    client.evaluate(request(json!({}))).await.unwrap();
    server.stop().await;
    assert!(matches!(client.evaluate(request(json!({}))).await.unwrap_err(), Error::Unreachable { .. }));
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let backend = Arc::new(Backend::default());
    let limits = RpcLimits::default();
    let again = cocoon_rpc::serve(listener, None, backend.clone(), Arc::new(support::Users), limits, async {
        while backend.asked.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let call = client.evaluate(request(json!({})));
    let (served, called) = tokio::join!(again, call);
    served.unwrap();
    assert_eq!(called.unwrap(), "head.claims.signature");
}
