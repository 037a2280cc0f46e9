//! Peers that do not keep to gRPC, and peers that do not wish well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use cocoon_grpc::{Client, Code, Limits, Server, Status, bind_unix};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use protobuf::well_known_types::wrappers::StringValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

fn serve(limits: Limits) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let server = Server::new(limits).unary("/test.Echo/Say", |_, request: StringValue| async { Ok(request) });
    tokio::spawn(server.serve(bind_unix(&path).unwrap(), std::future::pending()));
    (folder, path)
}

/// Sends raw HTTP/2 and gives the status, headers and trailers together.
async fn raw(
    path: &Path,
    headers: &[(&'static str, &str)],
    body: &[u8],
) -> Result<(u16, HeaderMap), hyper::Error> {
    let stream = TokioIo::new(UnixStream::connect(path).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
    tokio::spawn(connection);
    let mut request = Request::post("http://localhost/test.Echo/Say");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
    let (head, body) = sender.send_request(request).await?.into_parts();
    let mut all = head.headers;
    all.extend(body.collect().await?.trailers().cloned().unwrap_or_default());
    Ok((head.status.as_u16(), all))
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

#[tokio::test]
async fn what_is_no_request_is_named() {
    let (_folder, path) = serve(Limits { message_bytes: 100, ..Limits::default() });
    let good = [0, 0, 0, 0, 3, 0x0a, 1, b'x'];
    assert_eq!(raw(&path, &[GRPC], &good).await.unwrap().1["grpc-status"], "0");
    for (headers, body, status) in [
        (&[GRPC, ("grpc-encoding", "gzip")][..], &good[..], "12"),
        (&[GRPC], &[1, 0, 0, 0, 3, 0x0a, 1, b'x'], "12"),
        (&[GRPC, ("grpc-timeout", "soon")], &good, "3"),
        (&[GRPC], &[], "3"),
        (&[GRPC], &[0, 0, 0], "3"),
        (&[GRPC], &[0, 0, 0, 0, 9, 0x0a], "3"),
        (&[GRPC], &[0, 0, 0, 0, 3, 0x0a, 9, b'x'], "3"),
        (&[GRPC], &[9, 0, 0, 0, 0], "3"),
        (&[GRPC], &[0; 10], "3"),
        (&[GRPC], &[0, 0, 0, 0, 101], "8"),
        (&[GRPC], &[0, 0xff, 0xff, 0xff, 0xff], "8"),
    ] {
        let (http, answered) = raw(&path, headers, body).await.unwrap();
        assert_eq!((http, answered["grpc-status"].to_str().unwrap()), (200, status), "{headers:?} {body:?}");
    }
    let (_, zipped) = raw(&path, &[GRPC, ("grpc-encoding", "gzip")], &good).await.unwrap();
    assert_eq!(zipped["grpc-accept-encoding"], "identity");
    assert_eq!(raw(&path, &[("content-type", "application/json")], &good).await.unwrap().0, 415);
    assert_eq!(raw(&path, &[], &good).await.unwrap().0, 415);
}

#[tokio::test]
async fn connections_that_say_nothing_or_nonsense_end() {
    let (_folder, path) =
        serve(Limits { greeting: Duration::from_millis(50), connections: 2, ..Limits::default() });
    let silent: Vec<_> = futures(&path, 2).await;
    // Both places are taken by those who say nothing; a caller waits until they are thrown out.
    let client = Client::unix(&path);
    client.unary::<_, StringValue>("/test.Echo/Say", &StringValue::new(), 10).await.unwrap();
    drop(silent);
    let mut old = UnixStream::connect(&path).await.unwrap();
    old.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), old.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

async fn futures(path: &Path, n: usize) -> Vec<UnixStream> {
    let mut streams = Vec::new();
    for _ in 0..n {
        streams.push(UnixStream::connect(path).await.unwrap());
    }
    streams
}

/// A server that answers everything in one way, and what a client makes of it.
async fn facing(
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    frames: Vec<&'static [u8]>,
    trailers: Option<&'static [(&'static str, &'static str)]>,
) -> Result<String, Status> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper::service::service_fn(move |_| {
            let mut frames: Vec<_> = frames.iter().map(|f| Ok(Frame::data(Bytes::from_static(f)))).collect();
            if let Some(trailers) = trailers {
                let map = trailers.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()));
                frames.push(Ok(Frame::trailers(map.collect())));
            }
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            let body = StreamBody::new(futures_util::stream::iter(frames));
            async { Ok::<_, Infallible>(response.body(body).unwrap()) }
        });
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    });
    let client = Client::unix(&path).with_timeout(Duration::from_secs(10));
    client.unary("/a.B/C", &StringValue::new(), 100).await.map(|a: StringValue| a.value)
}

#[tokio::test]
async fn what_is_no_answer_is_none() {
    let ok: Option<&[(&str, &str)]> = Some(&[("grpc-status", "0")]);
    let x: &[u8] = &[0, 0, 0, 0, 3, 0x0a, 1, b'x'];
    assert_eq!(facing(200, &[GRPC], vec![x], ok).await.unwrap(), "x");
    assert_eq!(facing(200, &[GRPC], vec![&x[..2], &x[2..6], &x[6..]], ok).await.unwrap(), "x");
    let code = async |status, headers, frames, trailers| {
        facing(status, headers, frames, trailers).await.unwrap_err().code
    };
    assert_eq!(code(200, &[GRPC], vec![x], None).await, Code::Internal);
    assert_eq!(code(200, &[GRPC], vec![x], Some(&[("x", "y")])).await, Code::Internal);
    assert_eq!(code(200, &[GRPC], vec![x], Some(&[("grpc-status", "zero")])).await, Code::Unknown);
    assert_eq!(code(200, &[GRPC], vec![x], Some(&[("grpc-status", "6")])).await, Code::AlreadyExists);
    assert_eq!(code(200, &[GRPC], vec![], ok).await, Code::Internal);
    assert_eq!(code(200, &[GRPC], vec![x, x], ok).await, Code::ResourceExhausted);
    assert_eq!(code(200, &[GRPC], vec![&x[..7]], ok).await, Code::Internal);
    assert_eq!(code(200, &[GRPC], vec![&[1, 0, 0, 0, 0]], ok).await, Code::Internal);
    assert_eq!(code(200, &[GRPC], vec![&[0, 0, 0, 1, 0]], ok).await, Code::ResourceExhausted);
    assert_eq!(code(200, &[GRPC, ("grpc-status", "0")], vec![x], None).await, Code::Internal);
    assert_eq!(code(200, &[GRPC, ("grpc-status", "7")], vec![x], ok).await, Code::PermissionDenied);
    assert_eq!(code(200, &[("content-type", "text/html")], vec![x], ok).await, Code::Unknown);
    assert_eq!(code(503, &[GRPC], vec![x], ok).await, Code::Unavailable);
    assert_eq!(code(404, &[], vec![], None).await, Code::Unimplemented);
}
