//! The key provider service against its own client and against malformed calls.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cocoon_rpc::{
    Door, Endpoint, Error, GrpcCode, KeyProviderBackend, KeyProviderClient, RpcFailure, RpcLimits,
    serve_key_provider,
};
use cocoon_stage::Code;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use zeroize::Zeroizing;

struct Echo;

#[async_trait]
impl KeyProviderBackend for Echo {
    async fn wrap(&self, json: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, RpcFailure> {
        Ok(Zeroizing::new([b"wrapped ", json.as_slice()].concat()))
    }

    async fn unwrap(&self, _: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, RpcFailure> {
        Err(RpcFailure::new(Code::AccessDenied, GrpcCode::PermissionDenied, "no"))
    }
}

fn limits() -> RpcLimits {
    RpcLimits { message_bytes: 1000, ..RpcLimits::default() }
}

async fn served() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(serve_key_provider(
        Door::Tcp(listener),
        Arc::new(Echo),
        limits(),
        std::future::pending::<()>(),
    ));
    port
}

fn client(port: u16) -> KeyProviderClient {
    KeyProviderClient::connect(Endpoint {
        name: "test".into(),
        endpoint: format!("http://127.0.0.1:{port}"),
        ca_pem: None,
        identity: None,
        timeout: Duration::from_secs(10),
    })
    .unwrap()
}

#[tokio::test]
async fn both_methods_reach_the_backend() {
    let client = client(served().await);
    assert_eq!(&client.wrap(b"{}").await.unwrap()[..], b"wrapped {}");
    let refused = client.unwrap(b"{}").await.unwrap_err();
    assert!(matches!(&refused, Error::Status { status: GrpcCode::PermissionDenied, .. }), "{refused}");
    let large = client.wrap(&[b' '; 2000]).await.unwrap_err();
    assert!(matches!(&large, Error::Status { status: GrpcCode::ResourceExhausted, .. }), "{large}");
}

/// Status and `grpc-status` of a raw call.
async fn raw(
    stream: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    path: &str,
    body: &[u8],
) -> (u16, String) {
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .body(Full::new(bytes::Bytes::copy_from_slice(body)))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let (head, body) = answer.into_parts();
    let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
    let status = head.headers.get("grpc-status").or(trailers.get("grpc-status"));
    (head.status.as_u16(), status.map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default())
}

#[tokio::test]
async fn malformed_calls_are_refused() {
    let port = served().await;
    let wrap = "/keyprovider.KeyProviderService/WrapKey";
    for (path, body, expected) in [
        ("/keyprovider.KeyProviderService/Other", &[0, 0, 0, 0, 0][..], "12"),
        ("/attestation.AttestationService/AttestationEvaluate", &[0, 0, 0, 0, 0], "12"),
        (wrap, &[0, 0, 0, 0, 9], "3"),
        (wrap, &[1, 0, 0, 0, 0], "12"),
        (wrap, &[0, 0xff, 0xff, 0xff, 0xff], "8"),
        (wrap, &[0, 0, 0, 0, 2, 0x0a, 0x7f], "3"),
        (wrap, &[0, 0, 0, 0, 4, 0x0a, 2, b'{', b'}'], "0"),
    ] {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        assert_eq!(
            raw(TokioIo::new(stream), path, body).await,
            (200, expected.to_owned()),
            "{path} {body:?}"
        );
    }
}

#[tokio::test]
async fn a_unix_socket_serves_too() {
    let dir = std::env::temp_dir().join(format!("cocoon-rpc-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let path = dir.join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(serve_key_provider(Door::Unix(listener), Arc::new(Echo), limits(), async {
        let _ = stopped.await;
    }));
    let stream = UnixStream::connect(&path).await.unwrap();
    let message = [0, 0, 0, 0, 4, 0x0a, 2, b'{', b'}'];
    let answer = raw(TokioIo::new(stream), "/keyprovider.KeyProviderService/WrapKey", &message).await;
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(answer, (200, "0".to_owned()));
    stop.send(()).unwrap();
    served.await.unwrap().unwrap();
}
