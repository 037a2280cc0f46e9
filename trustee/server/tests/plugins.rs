//! Plugins: one in another process by gRPC, upstream's provisioner, and names that are none.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod administration;
mod support;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use administration::*;
use bytes::Bytes;
use cocoon_protocol::HashAlgorithm;
use cocoon_protocol::initdata::InitData;
use cocoon_rpc::{Endpoint, ExternalPlugin};
use cocoon_trustee::{External, Limits, Plugin, Provisioner};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use support::key::Key;
use support::speaker::Speaker;
use support::*;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a plugin was asked, read from the wire.
#[derive(Clone, Debug, Default, PartialEq)]
struct Asked {
    rpc: String,
    body: Vec<u8>,
    query: Vec<Vec<u8>>,
    path: Vec<String>,
    method: String,
}

/// Length-delimited fields of a short protobuf message.
fn fields(mut message: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while let [tag, length, rest @ ..] = message {
        assert!(tag & 7 == 2 && *length < 128, "a short, length-delimited field");
        let (value, after) = rest.split_at(usize::from(*length));
        found.push((tag >> 3, value.to_vec()));
        message = after;
    }
    found
}

fn asked(rpc: &str, frame: &[u8]) -> Asked {
    let mut asked = Asked { rpc: rpc.rsplit('/').next().unwrap().to_owned(), ..Asked::default() };
    for (number, value) in fields(&frame[5..]) {
        match number {
            1 => asked.body = value,
            2 => asked.query.push(value),
            3 => asked.path.push(String::from_utf8(value).unwrap()),
            4 => asked.method = String::from_utf8(value).unwrap(),
            other => panic!("field {other}"),
        }
    }
    asked
}

/// The plugin: `admin/…` is for administrators, `secret` is encrypted, `fail/N` fails with the status N.
fn answer(asked: &Asked) -> Vec<u8> {
    let first = asked.path.first().map(String::as_str).unwrap_or_default();
    match asked.rpc.as_str() {
        "ValidateAuth" if first == "admin" => vec![0x08, 1],
        "NeedsEncryption" if first == "secret" => vec![0x08, 1],
        "ValidateAuth" | "NeedsEncryption" => vec![],
        _ => {
            let echo = format!(
                "{} {} {:?}",
                asked.method,
                asked.path.join("/"),
                String::from_utf8_lossy(&asked.body)
            );
            let mut out = vec![0x0a, u8::try_from(echo.len()).unwrap()];
            out.extend_from_slice(echo.as_bytes());
            if first == "fail" {
                let status: u32 = asked.path[1].parse().unwrap();
                out.extend([
                    0x10,
                    u8::try_from(status & 0x7f).unwrap() | 0x80,
                    u8::try_from(status >> 7).unwrap(),
                ]);
            }
            out.extend(b"\x1a\x0atext/plain");
            out
        }
    }
}

struct Echo {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Echo {
    async fn start() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let log = seen.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let log = log.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let log = log.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let asked = asked(head.uri.path(), &body.collect().await.unwrap().to_bytes());
                        let message = answer(&asked);
                        log.lock().unwrap().push(asked);
                        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", HeaderValue::from_static("0"));
                        let frame = Bytes::from([&[0], &length[..], &message].concat());
                        let body =
                            Full::new(frame)
                                .with_trailers(std::future::ready(Some(Ok::<_, Infallible>(trailers))));
                        Response::builder().header("content-type", "application/grpc").body(body)
                    }
                });
                let builder = http2::Builder::new(TokioExecutor::new());
                tokio::spawn(async move { builder.serve_connection(TokioIo::new(stream), service).await });
            }
        });
        Echo { address, seen, task }
    }

    fn plugin(&self) -> ExternalPlugin {
        plugin("echo", self.address)
    }
}

fn plugin(name: &str, address: SocketAddr) -> ExternalPlugin {
    ExternalPlugin::connect(Endpoint {
        name: name.into(),
        endpoint: format!("http://{address}"),
        ca_pem: None,
        identity: None,
        timeout: Duration::from_secs(5),
    })
    .unwrap()
}

async fn with_plugins(plugins: Vec<(String, Plugin)>) -> World {
    World::with(|config| config.live.plugins = plugins, Limits::default()).await
}

/// Lets every guest with a token have what these plugins give.
async fn allow(client: &mut Client, condition: &str) {
    let text = format!("package policy\nimport rego.v1\ndefault allow := false\nallow if {condition}\n");
    done(client, "POST", "/kbs/v0/resource-policy", upstream_policy(&text)).await;
}

#[tokio::test]
async fn an_external_plugin_serves_administrators_and_guests() {
    let echo = Echo::start().await;
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let external = External::new([echo.plugin(), plugin("dead", dead)]);
    let world = with_plugins(vec![("external".into(), Arc::new(external) as Plugin)]).await;
    let mut client = world.client().await;
    let base = "/kbs/v0/external/echo";

    // For administrators.
    let path = format!("{base}/admin/x?k=v");
    let reply = client.admin("POST", &path, b"in").await;
    assert_eq!((reply.status, reply.text()), (200, "POST admin/x \"in\"".into()));
    assert_eq!(reply.header("content-type"), Some("text/plain"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let handled = echo.seen.lock().unwrap().iter().find(|a| a.rpc == "Handle").unwrap().clone();
    assert_eq!(handled.query, [b"\x0a\x01k\x12\x01v"]);
    let logged = read(&mut client, "/cocoon/v0/audit/entries").await.to_string();
    assert!(logged.contains("POST /kbs/v0/external/echo/admin/x"), "{logged}");
    let handled_before = |echo: &Echo| echo.seen.lock().unwrap().iter().filter(|a| a.rpc == "Handle").count();
    let before = handled_before(&echo);
    let mut guest = world.guest(Some(init_data("a"))).await;
    let token = guest.attest(&world).await.unwrap();
    let bearer = format!("Bearer {token}");
    for headers in [&[][..], &[("authorization", bearer.as_str())]] {
        let reply = client.request("POST", &path, headers, b"in").await;
        assert_eq!((reply.status, reply.refusal().0), (401, "ACCESS-DENIED"));
    }

    // For guests: only with a token, and only where the resource policy allows.
    let secret = format!("{base}/secret/one");
    let none = client.request("GET", &secret, &[], b"").await;
    assert_eq!((none.status, none.code()), (401, "RELEASE-TOKEN-INVALID"));
    let as_admin = client.admin("GET", &secret, b"").await;
    assert_eq!(
        (as_admin.status, as_admin.code()),
        (401, "RELEASE-TOKEN-INVALID"),
        "an administrator is no guest"
    );
    let denied = client.request("GET", &secret, &[("authorization", &bearer)], b"").await;
    assert_eq!((denied.status, denied.code()), (401, "RELEASE-DENIED"));
    assert_eq!(handled_before(&echo), before, "it was not even asked");
    allow(&mut client, r#"{ data.plugin == "external"; data["resource-path"][1] != "closed" }"#).await;
    let given = guest.client.request("GET", &secret, &[("authorization", &bearer)], b"x").await;
    assert_eq!(guest.decrypt(&given), b"GET secret/one \"x\"");
    assert_eq!(given.header("content-type"), Some("application/json"));
    let plain = client.request("GET", &format!("{base}/plain"), &[("authorization", &bearer)], b"").await;
    assert_eq!((plain.status, plain.text()), (200, "GET plain \"\"".into()));
    let closed = client.request("GET", &format!("{base}/closed"), &[("authorization", &bearer)], b"").await;
    assert_eq!(closed.status, 401);
    assert!(closed.json()["type"].as_str().unwrap().ends_with("/PolicyDeny"));
    let verdict = world.explain(&closed);
    assert_eq!(verdict.subject, cocoon_trustee::Subject::Release { path: "external/echo/closed".into() });

    // What the plugin refuses, or does not do.
    for (status, expected, code) in [
        (404, 404, "RELEASE-SECRET-MISSING"),
        (403, 401, "RELEASE-DENIED"),
        (422, 400, "USAGE-INVALID"),
        (500, 500, "STORE-UNAVAILABLE"),
    ] {
        let url = format!("{base}/fail/{status}");
        let reply = client.request("GET", &url, &[("authorization", &bearer)], b"").await;
        assert_eq!((reply.status, reply.code()), (expected, code), "{status}");
        assert!(reply.json()["type"].as_str().unwrap().ends_with("/PluginInternalError"));
    }
    let gone = client.request("GET", "/kbs/v0/external/dead/x", &[("authorization", &bearer)], b"").await;
    assert_eq!((gone.status, gone.code()), (500, "STORE-UNAVAILABLE"));
    assert!(!gone.text().contains(&dead.port().to_string()));
    for path in ["/kbs/v0/external/none/x", "/kbs/v0/external", "/kbs/v0/external/"] {
        let reply = client.admin("GET", path, b"").await;
        assert_eq!(reply.status, 404, "{path}: {}", reply.text());
    }
    world.stop().await;
}

#[tokio::test]
async fn a_vm_gets_the_disk_key_that_was_made_for_it() {
    let world = with_plugins(vec![("provisioner".into(), Arc::new(Provisioner::new(32)) as Plugin)]).await;
    let mut client = world.client().await;
    let provision = "/kbs/v0/provisioner/provision";
    let unknown = client.request("POST", provision, &[], b"{\"vm_name\":\"vm1\"}").await;
    assert_eq!((unknown.status, unknown.refusal().0), (401, "ACCESS-DENIED"));
    let made = done(&mut client, "POST", provision, json!({"vm_name": "vm1"})).await.json();
    let uuid = made["uuid"].as_str().unwrap().to_owned();
    assert_eq!(made["resource_path"], format!("default/{uuid}/root"));
    assert_eq!(
        done(&mut client, "POST", provision, json!({"vm_name": "vm1", "namespace": "default"})).await.json(),
        made
    );
    for bad in [json!({}), json!({"vm_name": "a/b"}), json!({"vm_name": ""}), json!({"vm_name": "x", "y": 1})]
    {
        refused(&mut client, "POST", provision, bad, 400, "USAGE-INVALID").await;
    }

    let url = format!("/kbs/v0/provisioner/default/{uuid}/root");
    let plan = |resource: &str| {
        let data = BTreeMap::from([("trustee.kbs.resource".to_owned(), resource.to_owned())]);
        InitData::new(HashAlgorithm::Sha384, data)
    };
    let own = plan(&format!("kbs+provisioner:///default/{uuid}/root"));
    let mut guest = world.guest(Some(own)).await;
    let token = guest.attest(&world).await.unwrap();
    let bearer = format!("Bearer {token}");
    let closed = guest.client.request("GET", &url, &[("authorization", &bearer)], b"").await;
    assert_eq!((closed.status, closed.code()), (401, "RELEASE-DENIED"), "no policy allows it yet");
    allow(&mut client, r#"{ data.plugin == "provisioner" }"#).await;
    let given = guest.client.request("GET", &url, &[("authorization", &bearer)], b"").await;
    let document = String::from_utf8(guest.decrypt(&given)).unwrap();
    assert!(
        document.contains("io.cryptsetup.key.text.root") && document.contains("version = \"0.1.0\""),
        "{document}"
    );
    let again = guest.client.request("GET", &url, &[("authorization", &bearer)], b"").await;
    assert_eq!(String::from_utf8(guest.decrypt(&again)).unwrap(), document);

    // Not for another VM's guest, for one without a claim, or for an administrator.
    for other in [
        Some(plan("kbs+provisioner:///default/00000000-0000-5000-8000-000000000000/root")),
        Some(init_data("a")),
        None,
    ] {
        let mut other = world.guest(other).await;
        let token = other.attest(&world).await.unwrap();
        let reply =
            other.client.request("GET", &url, &[("authorization", &format!("Bearer {token}"))], b"").await;
        assert_eq!((reply.status, reply.code()), (401, "RELEASE-DENIED"));
    }
    assert_eq!(client.admin("GET", &url, b"").await.code(), "RELEASE-TOKEN-INVALID");

    // Nor for a guest that names the VM in a document which nothing binds, even where such guests are accepted.
    let mut live = world.trustee.live();
    (live.accept_sample, live.issue_contraindicated) = (true, true);
    world.trustee.reload(live).unwrap();
    let mut sample = Speaker::new(&world, "0.4.0", "sample", Key::p256()).await;
    sample.guest.init_data = guest.init_data.clone();
    let token = sample.attest(&world).await.unwrap();
    let bearer_of_sample = format!("Bearer {token}");
    let reply = sample.guest.client.request("GET", &url, &[("authorization", &bearer_of_sample)], b"").await;
    assert_eq!((reply.status, reply.code()), (401, "RELEASE-DENIED"));
    let everything = format!(
        "{} {}",
        read(&mut client, "/cocoon/v0/audit/entries?limit=1000").await,
        read(&mut client, "/cocoon/v0/explain").await
    );
    let key = document.split('"').nth_back(1).unwrap();
    assert!(key.len() > 40 && !everything.contains(key));

    let remove = format!("/kbs/v0/provisioner/provision/{uuid}");
    assert_eq!(
        guest.client.request("DELETE", &remove, &[("authorization", &bearer)], b"").await.refusal().0,
        "ACCESS-DENIED"
    );
    assert_eq!(done(&mut client, "DELETE", &remove, Value::Null).await.json(), json!({"status": "deleted"}));
    let gone = guest.client.request("GET", &url, &[("authorization", &bearer)], b"").await;
    assert_eq!((gone.status, gone.code()), (404, "RELEASE-SECRET-MISSING"));
    for (method, path) in [
        ("GET", "/kbs/v0/provisioner/provision"),
        ("GET", "/kbs/v0/provisioner/x"),
        ("POST", "/kbs/v0/provisioner"),
        ("DELETE", "/kbs/v0/provisioner/provision/NOT-A-UUID"),
    ] {
        assert_eq!(client.admin(method, path, b"{}").await.status, 404, "{method} {path}");
    }
    world.stop().await;
}

#[tokio::test]
async fn unknown_plugins_are_not_found() {
    let world = with_plugins(vec![("provisioner".into(), Arc::new(Provisioner::new(32)) as Plugin)]).await;
    let mut client = world.client().await;
    done(&mut client, "PUT", "/cocoon/v0/tenants/red", Value::Null).await;
    for path in [
        "/kbs/v0/none/x",
        "/kbs/v0/none",
        "/kbs/v0/sample/a/b/c",
        "/kbs/v0/Provisioner/provision",
        "/t/red/kbs/v0/provisioner/provision",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let reply = client.admin(method, path, b"{}").await;
            assert_eq!((reply.status, reply.code()), (404, "USAGE-INVALID"), "{method} {path}");
            assert!(reply.json()["type"].as_str().unwrap().ends_with("/PluginNotFound"), "{path}");
        }
    }
    for path in [
        "/kbs/v0/provisioner/../resource/a/b/c",
        "/kbs/v0/provisioner/./provision",
        &format!("/kbs/v0/provisioner{}", "/a".repeat(17)),
        "/kbs/v0/provisioner/a%0ab",
    ] {
        let reply = client.admin("POST", path, b"{}").await;
        assert_eq!((reply.status, reply.code()), (404, "USAGE-INVALID"), "{path}");
    }
    world.stop().await;
}
