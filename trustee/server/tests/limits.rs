//! What a client may take, and that the numbers kept of it name nobody.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod administration;
mod support;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use administration::*;
use cocoon_trustee::{Limits, PeerLimits};
use serde_json::{Value, json};
use support::*;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

const SHORT: Duration = Duration::from_millis(400);

fn short() -> Limits {
    Limits { headers: SHORT, request: SHORT, ..Limits::default() }
}

/// That the server ends the connection, and soon.
async fn ends(mut client: Client, what: &str) {
    let begun = Instant::now();
    let answer = timeout(Duration::from_secs(10), client.receive()).await.expect(what);
    assert!(answer.is_none_or(|reply| reply.status >= 400), "{what}");
    assert!(begun.elapsed() >= SHORT / 2, "{what}: at once");
}

#[tokio::test]
async fn large_bodies_and_headers_are_refused() {
    let world = World::with(|config| config.live.body_limit = 10_000, Limits::default()).await;
    done(&mut world.client().await, "PUT", "/cocoon/v0/tenants/red", Value::Null).await;
    let large = vec![b' '; 10_001];
    for path in ["/kbs/v0/auth", "/kbs/v0/attest", "/cocoon/v0/report", "/t/red/kbs/v0/auth"] {
        let mut client = world.client().await;
        let reply = client.request("POST", path, &[], &large).await;
        assert_eq!((reply.status, reply.code()), (413, "ATTEST-PROTOCOL"), "{path}");
        assert!(reply.json()["type"].as_str().unwrap().ends_with("/SerdeError"));
    }
    for (method, path) in [
        ("POST", "/kbs/v0/resource/a/b/c"),
        ("PUT", "/cocoon/v0/secrets/a/b/c"),
        ("PUT", "/t/red/cocoon/v0/secrets/a/b/c"),
    ] {
        let reply = world.client().await.admin(method, path, &large).await;
        assert_eq!(reply.status, 413, "{path}: {}", reply.text());
        let stranger = world.client().await.request(method, path, &[], &large).await;
        assert!(matches!(stranger.status, 401 | 413), "{path}");
    }
    assert_eq!(world.client().await.admin("PUT", "/cocoon/v0/secrets/a/b/c", &large[1..]).await.status, 200);
    // Above a secret's own limit it is the secret that is too large.
    world.trustee.reload(cocoon_trustee::Live { body_limit: 4 << 20, ..world.trustee.live() }).unwrap();
    let reply = world.client().await.admin("PUT", "/cocoon/v0/secrets/a/b/c", &vec![1; (1 << 20) + 1]).await;
    assert_eq!((reply.status, reply.refusal().0), (400, "REGISTER-FAILED"), "{}", reply.text());

    for (count, length) in [(1, 200_000), (100, 10), (30, 9_000)] {
        let mut client = world.client().await;
        let mut text = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n".to_owned();
        (0..count).for_each(|n| text.push_str(&format!("x-{n}: {}\r\n", "y".repeat(length))));
        let _ = client.send(format!("{text}\r\n").as_bytes()).await;
        let reply = timeout(Duration::from_secs(10), client.receive()).await.unwrap();
        assert!(reply.is_none_or(|r| r.status == 431), "{count} of {length}");
    }
    world.stop().await;
}

#[tokio::test]
async fn what_is_no_path_is_refused_in_the_usual_form() {
    let world = World::new().await;
    let mut client = world.client().await;
    done(&mut client, "PUT", "/cocoon/v0/tenants/red", Value::Null).await;
    for path in [
        "/kbs/v0/none/%ff",
        "/kbs/v0/resource/a/b/%ff",
        "/kbs/v0/resource/a/b/%zz",
        "/kbs/v0/reference-value/%c3",
        "/cocoon/v0/rules/%ff",
        "/cocoon/v0/explain/%80",
        "/t/%ff/kbs/v0/auth",
        "/t/red/cocoon/v0/rules/%ff",
        "/%",
        "/%ff",
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let reply = client.admin(method, path, b"").await;
            assert!((400..=405).contains(&reply.status), "{method} {path}: {}", reply.status);
            let (code, _) = reply.refusal();
            assert!(code != "none", "{method} {path}");
        }
    }
    for query in ["?a=%ff", "?a=1&a=2", "?&&=&", "?%", &format!("?{}", "a=b&".repeat(2000))] {
        let reply = client.request("GET", &format!("/kbs/v0/resource/a/b/c{query}"), &[], b"").await;
        assert_eq!((reply.status, reply.code()), (401, "RELEASE-TOKEN-INVALID"), "{query:.20}");
    }
    world.stop().await;
}

#[tokio::test]
async fn slow_clients_are_cut() {
    let world = World::with(|_| {}, short()).await;
    // Before TLS.
    let mut tcp = TcpStream::connect(world.address).await.unwrap();
    let read = timeout(Duration::from_secs(10), tcp.read(&mut [0; 10])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "no TLS handshake");
    // Headers that never end, and those that come drop by drop.
    let mut silent = world.client().await;
    silent.send(b"GET /healthz HTTP/1.1\r\nhost: l").await.unwrap();
    ends(silent, "headers").await;
    let mut dripping = world.client().await;
    let begun = Instant::now();
    dripping.send(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    while dripping.send(b"a: b\r\n").await.is_ok() && begun.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "dripping headers: {:?}", begun.elapsed());
    // A body that does not come.
    for path in ["/kbs/v0/auth", "/cocoon/v0/report"] {
        let mut client = world.client().await;
        client
            .send(format!("POST {path} HTTP/1.1\r\nhost: l\r\ncontent-length: 100\r\n\r\n{{").as_bytes())
            .await
            .unwrap();
        let reply = timeout(Duration::from_secs(10), client.receive()).await.unwrap().unwrap();
        assert_eq!((reply.status, reply.code()), (408, "ATTEST-PROTOCOL"), "{path}");
        assert_eq!(reply.header("connection"), Some("close"));
        assert!(client.receive().await.is_none(), "closed");
    }
    // Others are served all the while.
    assert_eq!(world.client().await.request("GET", "/healthz", &[], b"").await.status, 200);
    world.stop().await;

    let world = World::with(|_| {}, Limits { idle: SHORT, ..Limits::default() }).await;
    let mut client = world.client().await;
    assert_eq!(client.request("GET", "/healthz", &[], b"").await.status, 200);
    ends(client, "idle").await;
    world.stop().await;
}

#[tokio::test]
async fn a_request_ends_with_its_time_and_its_work_does_not_hurt() {
    let world = World::with(|_| {}, short()).await;
    let mut guest = world.guest(Some(init_data("a"))).await;
    let token = guest.attest(&world).await.unwrap();
    let endless = "package policy\nimport rego.v1\nallow if {\nr := numbers.range(1, 20000)\nx := [1 | some a in r; some b in r; some c in r; a + b + c < 0]\nx\n}";
    world
        .trustee
        .policies()
        .put("resource-policy", cocoon_policy::Kind::Resource, endless, "test", "", 1)
        .unwrap();
    guest.client = world.client().await;
    let begun = Instant::now();
    let reply = guest.get(&token, "a/b/c").await;
    assert_eq!((reply.status, reply.code()), (408, "ATTEST-PROTOCOL"));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(world.client().await.request("GET", "/healthz", &[], b"").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn an_address_may_begin_so_many_handshakes_and_hold_so_many_connections() {
    let world = World::new().await;
    world.trustee.set_peer_limits(PeerLimits { handshakes_per_minute: 3, connections: 3 });
    let mut client = world.client().await;
    done(&mut client, "PUT", "/cocoon/v0/tenants/red", Value::Null).await;
    let auth = json!({"version": "0.4.0", "tee": "snp", "extra-params": ""}).to_string();
    for path in ["/kbs/v0/auth", "/t/red/kbs/v0/auth", "/kbs/v0/auth"] {
        assert_eq!(client.request("POST", path, &[], auth.as_bytes()).await.status, 200);
    }
    for path in ["/kbs/v0/auth", "/t/red/kbs/v0/auth"] {
        let reply = client.request("POST", path, &[], auth.as_bytes()).await;
        assert_eq!((reply.status, reply.code()), (429, "SERVER-BUSY"), "tenants share it");
        assert!(reply.json()["type"].as_str().unwrap().ends_with("/AttestationError"));
    }
    // A header that claims another address changes nothing, and administrators are not meant.
    for name in ["x-forwarded-for", "forwarded", "x-real-ip"] {
        let reply = client.request("POST", "/kbs/v0/auth", &[(name, "192.0.2.7")], auth.as_bytes()).await;
        assert_eq!(reply.status, 429, "{name}");
    }
    read(&mut client, "/cocoon/v0/status").await;
    world.ahead.store(20, Ordering::SeqCst);
    assert_eq!(client.request("POST", "/kbs/v0/auth", &[], auth.as_bytes()).await.status, 200);
    assert_eq!(client.request("POST", "/kbs/v0/auth", &[], auth.as_bytes()).await.status, 429);

    let (second, third) = (world.client().await, world.client().await);
    let mut fourth = TcpStream::connect(world.address).await.unwrap();
    let read_none = timeout(Duration::from_secs(5), fourth.read(&mut [0; 10])).await.unwrap();
    assert!(matches!(read_none, Ok(0) | Err(_)), "closed at once");
    second.close().await;
    drop(third);
    let mut tried = 0;
    let mut again = loop {
        let tcp = TcpStream::connect(world.address).await.unwrap();
        let mut byte = [0];
        // One that is let in waits for our TLS hello; one that is not is closed.
        match timeout(Duration::from_millis(200), tcp.peek(&mut byte)).await {
            Err(_) => break tcp,
            Ok(_) if tried < 50 => tried += 1,
            Ok(other) => panic!("{other:?}"),
        }
    };
    tokio::io::AsyncWriteExt::shutdown(&mut again).await.unwrap();
    drop(again);
    assert_eq!(client.request("GET", "/healthz", &[], b"").await.status, 200, "the first one is served on");
    world.stop().await;
}

#[tokio::test]
async fn metrics_name_no_path_tenant_workload_or_address() {
    let world = World::new().await;
    let mut client = world.client().await;
    let plan = init_data("hushplan");
    let digest = hex::encode(plan.digest());
    let workload = json!({"name": "hushworkload", "accept_simulated": true, "allow": ["hushrepo/a/b"]});
    done(&mut client, "PUT", &format!("/cocoon/v0/workloads/{digest}"), workload).await;
    done(&mut client, "PUT", "/cocoon/v0/tenants/hushtenant", Value::Null).await;
    client.admin("PUT", "/cocoon/v0/secrets/hushrepo/a/b", b"v").await;
    let mut guest = world.guest(Some(plan)).await;
    let token = guest.attest(&world).await.unwrap();
    assert_eq!(guest.get(&token, "hushrepo/a/b").await.status, 200);
    assert_eq!(guest.get(&token, "hushrepo/a/absent").await.status, 401);
    for path in [
        "/kbs/v0/hushplugin/x",
        "/hushpage",
        "/t/hushtenant/kbs/v0/resource/hushrepo/a/b",
        "/t/hushtenantx/y",
    ] {
        assert!(client.request("GET", path, &[], b"").await.status >= 400);
    }
    let mut other = Visitor::new(&world, "/t/hushtenant", None).await;
    other.attest(&world).await.unwrap_err();
    let reply = client.request("GET", "/metrics", &[], b"").await;
    assert_eq!(reply.status, 200);
    assert!(reply.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = reply.text();
    for line in [
        "kbs_attestation_successes_total{tee_type=\"snp\"} 1",
        "kbs_attestation_failures_total{tee_type=\"snp\"} 1",
        "kbs_resource_reads_total 3",
        "kbs_policy_approvals_total 1",
        "kbs_policy_violations_total 1",
        "cocoon_refusals_total{code=\"ATTEST-MEASUREMENT-UNKNOWN\"} 1",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("hush") && !text.contains("127.0.0.1") && !text.contains(&digest[..16]), "{text}");
    assert!(text.len() < 64 * 1024);
    // Requests of every kind make no new lines.
    let lines = |text: &str| text.lines().count();
    for n in 0..50 {
        client.request("GET", &format!("/kbs/v0/resource/x/y/{n}"), &[], b"").await;
        client.request("GET", &format!("/nowhere/{n}"), &[], b"").await;
    }
    let more = client.request("GET", "/metrics", &[], b"").await.text();
    assert_eq!(lines(&text), lines(&more));
    assert_eq!(client.request("POST", "/metrics", &[], b"").await.status, 405);
    world.trustee.reload(cocoon_trustee::Live { metrics: false, ..world.trustee.live() }).unwrap();
    assert_eq!(client.request("GET", "/metrics", &[], b"").await.status, 404);
    world.stop().await;
}
