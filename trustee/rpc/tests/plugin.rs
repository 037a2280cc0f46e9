//! External plugins: the client against a plugin whose bytes are written by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cocoon_rpc::{Endpoint, Error, ExternalPlugin, GrpcCode, PluginCall};
use cocoon_stage::{Code, Failure};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{endpoint, pki};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

/// What the plugin answers: HTTP status, body, and the trailers' grpc-status.
#[derive(Clone)]
struct Script {
    http: u16,
    body: Vec<u8>,
    status: Option<&'static str>,
    delay: Duration,
}

fn answers(message: &[u8]) -> Script {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let body = [&[0], &length[..], message].concat();
    Script { http: 200, body, status: Some("0"), delay: Duration::ZERO }
}

struct Plugin {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<(String, Bytes)>>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Each connection ends after its first answer if `once`.
async fn plugin(script: Script, once: bool, tls: Option<tokio_rustls::TlsAcceptor>) -> Plugin {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen: Arc<Mutex<Vec<_>>> = Arc::default();
    let connections: Arc<AtomicUsize> = Arc::default();
    let (log, count) = (seen.clone(), connections.clone());
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            let (log, script) = (log.clone(), script.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (log, script) = (log.clone(), script.clone());
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    log.lock().unwrap().push((head.uri.path().to_owned(), body));
                    tokio::time::sleep(script.delay).await;
                    let trailers = script.status.map(|status| {
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", HeaderValue::from_static(status));
                        trailers.insert("grpc-message", HeaderValue::from_static("not%20today%0A"));
                        Ok::<_, Infallible>(trailers)
                    });
                    let body =
                        Full::new(Bytes::from(script.body)).with_trailers(std::future::ready(trailers));
                    Response::builder()
                        .status(script.http)
                        .header("content-type", "application/grpc+proto")
                        .body(body)
                }
            });
            let builder = http2::Builder::new(TokioExecutor::new());
            let tls = tls.clone();
            tokio::spawn(async move {
                if let Some(tls) = tls {
                    if let Ok(stream) = tls.accept(stream).await {
                        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                    }
                } else {
                    let mut connection =
                        std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
                    if once {
                        let pause = tokio::time::sleep(Duration::from_millis(100));
                        tokio::select! { _ = connection.as_mut() => {}, () = pause => {} }
                    } else {
                        let _ = connection.await;
                    }
                }
            });
        }
    });
    Plugin { address, seen, connections, task }
}

impl Plugin {
    fn client(&self) -> ExternalPlugin {
        ExternalPlugin::connect(endpoint(&format!("http://{}", self.address))).unwrap()
    }
}

fn call() -> PluginCall {
    PluginCall {
        body: Zeroizing::new(b"in".to_vec()),
        query: [("k".to_owned(), "v".to_owned())].into(),
        path: vec!["a".into(), "b".into()],
        method: "POST".into(),
    }
}

#[tokio::test]
async fn the_three_methods() {
    let echo = plugin(answers(b"\x0a\x03out\x10\xc9\x01\x1a\x0atext/plain"), false, None).await;
    let client = echo.client();
    let answer = client.handle(&call()).await.unwrap();
    assert_eq!((answer.body.as_slice(), answer.content_type.as_str()), (&b"out"[..], "text/plain"));
    let (path, body) = echo.seen.lock().unwrap()[0].clone();
    assert_eq!(path, "/kbs.plugin.v1.KbsPlugin/Handle");
    assert_eq!(
        body.as_ref(),
        b"\0\0\0\0\x18\x0a\x02in\x12\x06\x0a\x01k\x12\x01v\x1a\x01a\x1a\x01b\x22\x04POST"
    );
    let yes = plugin(answers(b"\x08\x01"), false, None).await;
    assert!(yes.client().validate_auth(&call()).await.unwrap());
    assert!(yes.client().needs_encryption(&call()).await.unwrap());
    let paths: Vec<_> = yes.seen.lock().unwrap().iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(paths, ["/kbs.plugin.v1.KbsPlugin/ValidateAuth", "/kbs.plugin.v1.KbsPlugin/NeedsEncryption"]);
    let no = plugin(answers(b""), false, None).await;
    assert!(!no.client().needs_encryption(&call()).await.unwrap());
}

#[tokio::test]
async fn a_plugins_status_counts() {
    for (message, good) in [
        (&b""[..], true),
        (b"\x10\xc8\x01", true),
        (b"\x10\xab\x02", true),
        (b"\x10\xac\x02", false),
        (b"\x10\x94\x03", false),
        (b"\x10\x01", false),
        (b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", false),
    ] {
        let peer = plugin(answers(message), false, None).await;
        let answer = peer.client().handle(&call()).await;
        assert_eq!(answer.is_ok(), good, "{message:?}");
    }
    let missing =
        plugin(answers(b"\x10\x94\x03"), false, None).await.client().handle(&call()).await.unwrap_err();
    assert_eq!(Failure::from(missing).code, Code::ReleaseSecretMissing);
    let kind =
        plugin(answers(b"\x1a\x05a/\x0d\x0ab"), false, None).await.client().handle(&call()).await.unwrap();
    assert_eq!(kind.content_type, "application/octet-stream");
}

#[tokio::test]
async fn answers_that_are_none_are_refused() {
    let sound = answers(b"\x0a\x03out");
    let of = |change: &dyn Fn(&mut Script)| {
        let mut script = sound.clone();
        change(&mut script);
        script
    };
    let large = vec![b'x'; (9 << 20) + 5];
    let scripts = [
        of(&|s| s.http = 500),
        of(&|s| s.status = None),
        of(&|s| s.body.truncate(6)),
        of(&|s| s.body.clear()),
        of(&|s| s.body.push(0)),
        of(&|s| s.body[0] = 1),
        of(&|s| s.body[4] = 200),
        of(&|s| s.body = [0, 0, 0, 0, 2, 0x0a, 0x05].to_vec()),
        of(&|s| s.body = large.clone()),
    ];
    for (n, script) in scripts.into_iter().enumerate() {
        let peer = plugin(script, false, None).await;
        let error = peer.client().handle(&call()).await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{n}: {error:?}");
        assert_eq!(Failure::from(error).code, Code::FetchFailed);
    }
    let refuses = plugin(of(&|s| s.status = Some("7")), false, None).await;
    match refuses.client().handle(&call()).await.unwrap_err() {
        Error::Status { status: GrpcCode::PermissionDenied, message, .. } => {
            assert_eq!(message, "not today ")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn large_bodies_pass_up_to_the_limit() {
    let body = vec![b'x'; 8 << 20];
    let message = [&b"\x0a\x80\x80\x80\x04"[..], &body].concat();
    let peer = plugin(answers(&message), false, None).await;
    let mut sent = call();
    sent.body = Zeroizing::new(body.clone());
    assert_eq!(peer.client().handle(&sent).await.unwrap().body.len(), 8 << 20);
    sent.body.push(0);
    assert!(matches!(peer.client().handle(&sent).await.unwrap_err(), Error::TooLarge { .. }));
}

#[tokio::test]
async fn a_slow_plugin_is_given_up() {
    let mut script = answers(b"");
    script.delay = Duration::from_secs(20);
    let peer = plugin(script, false, None).await;
    let timeout = Duration::from_millis(150);
    let endpoint = Endpoint { timeout, ..endpoint(&format!("http://{}", peer.address)) };
    let client = ExternalPlugin::connect(endpoint).unwrap();
    assert!(matches!(client.handle(&call()).await.unwrap_err(), Error::Deadline { .. }));
    assert!(matches!(client.handle(&call()).await.unwrap_err(), Error::Deadline { .. }));
    assert_eq!(peer.connections.load(Ordering::Relaxed), 2, "a silent connection is not used again");
}

#[tokio::test]
async fn one_connection_until_it_breaks() {
    let steady = plugin(answers(b""), false, None).await;
    let client = steady.client();
    for _ in 0..5 {
        client.handle(&call()).await.unwrap();
    }
    assert_eq!(steady.connections.load(Ordering::Relaxed), 1);
    let broken = plugin(answers(b""), true, None).await;
    let client = broken.client();
    client.handle(&call()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.handle(&call()).await.unwrap();
    assert_eq!(broken.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn tls_trusts_the_given_ca_only() {
    let (pki, other) = (pki(), support::pki());
    let mut config = rustls::ServerConfig::clone(&pki.server);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = |config| Some(tokio_rustls::TlsAcceptor::from(Arc::new(config)));
    let peer = plugin(answers(b"\x0a\x01s"), false, acceptor(config.clone())).await;
    let at = |address: SocketAddr, ca_pem: &str| {
        let ca_pem = Some(ca_pem.to_owned());
        let endpoint = Endpoint { ca_pem, ..endpoint(&format!("https://{address}")) };
        ExternalPlugin::connect(endpoint).unwrap()
    };
    assert_eq!(at(peer.address, &pki.ca_pem).handle(&call()).await.unwrap().body.as_slice(), b"s");
    assert!(matches!(
        at(peer.address, &other.ca_pem).handle(&call()).await.unwrap_err(),
        Error::Unreachable { .. }
    ));
    assert_eq!(peer.seen.lock().unwrap().len(), 1);
    config.alpn_protocols.clear();
    let without_alpn = plugin(answers(b""), false, acceptor(config)).await;
    let error = at(without_alpn.address, &pki.ca_pem).handle(&call()).await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
}
