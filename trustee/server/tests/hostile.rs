//! Clients that send too much, too little, too slowly, or nonsense.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use cocoon_trustee::Limits;
use proptest::prelude::*;
use support::*;
use tower_service::Service;

#[tokio::test]
async fn resource_names_lead_nowhere_else() {
    let world = World::new().await;
    let mut guest = world.guest(Some(init_data("a"))).await;
    let token = guest.attest(&world).await.unwrap();
    for bad in [
        "../../../etc/passwd",
        "a/b/..",
        "a/../c",
        "a/b/%2e%2e",
        "a/b/%2Fx",
        "a/b/c/d",
        "a/b",
        "a//c",
        "a/b/c%00",
        "a/b/.c",
        "%61/b/c",
        "a\\b/c/d",
    ] {
        let reply = guest.get(&token, bad).await;
        assert_eq!(reply.status, 404, "{bad}");
        let reply = guest.client.admin("POST", &format!("/kbs/v0/resource/{bad}"), b"x").await;
        assert_eq!(reply.status, 404, "{bad}");
    }
    for path in ["/", "/kbs/v0/resource/", "/kbs/v0/nothing/a/b/c", "/kbs/v1/auth", "/cocoon/v0/"] {
        let reply = guest.client.request("GET", path, &[], b"").await;
        assert_eq!(reply.status, 404, "{path}");
        reply.code();
    }
    assert_eq!(guest.client.request("GET", "/kbs/v0/auth", &[], b"").await.status, 405);
    assert_eq!(guest.client.request("GET", "/healthz", &[], b"").await.status, 200);
    assert!(world.trustee.secrets().unwrap().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn too_large_requests_are_refused_and_the_server_goes_on() {
    let world = World::new().await;
    let large = vec![b' '; 2 * 1024 * 1024 + 1];
    for path in ["/kbs/v0/auth", "/kbs/v0/attest"] {
        let reply = world.client().await.request("POST", path, &[], &large).await;
        assert_eq!(reply.status, 413, "{path}");
    }
    let largest = vec![b' '; 2 * 1024 * 1024];
    let reply = world.client().await.request("POST", "/kbs/v0/auth", &[], &largest).await;
    assert_eq!(reply.code(), "ATTEST-PROTOCOL");
    for (size, status) in [(100_000, 200), (140_000, 431)] {
        let header = "x".repeat(size);
        let reply = world.client().await.request("GET", "/healthz", &[("x", &header)], b"").await;
        assert_eq!(reply.status, status);
    }
    let deep = format!("{{\"version\":\"0.4.0\",\"tee\":\"snp\",\"extra-params\":{}", "[".repeat(1_000_000));
    let reply = world.client().await.request("POST", "/kbs/v0/auth", &[], deep.as_bytes()).await;
    assert_eq!(reply.code(), "ATTEST-PROTOCOL");
    assert_eq!(world.client().await.request("GET", "/healthz", &[], b"").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn broken_off_requests_leave_nothing_behind() {
    let world = World::new().await;
    for part in [
        "",
        "P",
        "POST /kbs/v0/auth HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"ver",
        "\u{0}\u{1}\u{2}\r\n\r\n",
    ] {
        let mut client = world.client().await;
        client.send(part.as_bytes()).await.unwrap();
        client.close().await;
    }
    // Not even a TLS handshake.
    use tokio::io::AsyncWriteExt;
    let mut plain = tokio::net::TcpStream::connect(world.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    drop(plain);
    assert_eq!(world.client().await.request("GET", "/healthz", &[], b"").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn slow_clients_are_cut_off_and_make_room() {
    let short = Duration::from_millis(200);
    let limits = Limits {
        connections: 2,
        headers: short,
        request: short,
        idle: short * 2,
        drain: short,
        ..Limits::default()
    };
    let world = World::with(|_| {}, limits).await;
    // Both slots are held by clients that never finish; a third is served when they are cut off.
    let mut headers = world.client().await;
    headers.send(b"GET /healthz HTTP/1.1\r\nhost").await.unwrap();
    let mut body = world.client().await;
    body.send(b"POST /kbs/v0/auth HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").await.unwrap();
    assert_eq!(world.client().await.request("GET", "/healthz", &[], b"").await.status, 200);
    assert_eq!(body.receive().await.map(|r| r.status), Some(408));
    assert!(body.receive().await.is_none(), "the connection is closed");
    assert!(headers.receive().await.is_none_or(|r| r.status == 408));
    // A connection that is merely held ends too.
    let mut idle = world.client().await;
    assert!(idle.receive().await.is_none());
    world.stop().await;
}

#[tokio::test]
async fn stopping_does_not_wait_for_held_connections() {
    let limits = Limits { drain: Duration::from_millis(100), ..Limits::default() };
    let world = World::with(|_| {}, limits).await;
    let mut held = world.client().await;
    assert_eq!(held.request("GET", "/healthz", &[], b"").await.status, 200);
    let mut busy = world.client().await;
    busy.send(b"POST /kbs/v0/auth HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), world.stop()).await.unwrap();
    assert!(held.receive().await.is_none());
}

fn requests() -> impl Strategy<Value = (String, String, Vec<u8>)> {
    let path = prop_oneof![
        Just("/kbs/v0/auth".to_owned()),
        Just("/kbs/v0/attest".to_owned()),
        "/kbs/v0/resource/[a-z./%0-9]{0,20}",
        "/[a-z/.]{0,20}",
    ];
    let body = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        r#"\{"version":"0.4.0","tee":"[a-z]{0,4}","extra-params":[0-9\[\{]{0,3}\}?"#
            .prop_map(String::into_bytes),
        r#"\{"runtime-data":\{"nonce":"[a-z]{0,4}"[,\}]"#.prop_map(String::into_bytes),
    ];
    ("GET|POST|PUT|DELETE|HEAD|X", path, body)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn nonsense_is_answered_and_never_granted((method, path, body) in requests(), cookie in "[ -~]{0,40}") {
        let store = std::sync::Arc::new(cocoon_store::MemoryStore::new());
        let sealer = std::sync::Arc::new(cocoon_store::Sealer::ephemeral().unwrap());
        let trustee = cocoon_trustee::Trustee::new(cocoon_trustee::Config::new(store, sealer)).unwrap();
        let request = http::Request::builder()
            .method(method.as_str())
            .uri(path.as_str())
            .header("cookie", format!("kbs-session-id={cookie}"))
            .header("authorization", format!("Bearer {cookie}"))
            .body(axum::body::Body::from(body));
        prop_assume!(request.is_ok());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let reply = runtime.block_on(trustee.router().call(request.unwrap())).unwrap();
        let granted = reply.status() == 200;
        prop_assert!(!granted || path == "/kbs/v0/auth" || path == "/healthz", "{method} {path}");
        prop_assert!(reply.status().as_u16() < 500);
    }
}
