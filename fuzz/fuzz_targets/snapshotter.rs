//! The snapshotter as whoever reaches its socket may call it. The first byte chooses the method, the rest is what is sent.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use cocoon_grpc::{Limits, bind_unix};
use cocoon_snapshotter::{Snapshotter, Store, server};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use libfuzzer_sys::fuzz_target;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

const METHODS: [&str; 10] =
    ["Prepare", "View", "Mounts", "Commit", "Remove", "Stat", "Update", "Usage", "Cleanup", "List"];

struct Served {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    _folder: tempfile::TempDir,
}

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let sender = runtime.block_on(async {
        let socket = folder.path().join("s");
        let store = Store::open(&folder.path().join("root")).expect("a store");
        let listener = bind_unix(&socket).expect("a socket");
        let limits = Limits { call: Duration::from_secs(5), ..Limits::default() };
        tokio::spawn(server(Snapshotter::new(store, None), limits).serve(listener, std::future::pending()));
        let stream = UnixStream::connect(&socket).await.expect("a connection");
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = handshake.expect("HTTP/2");
        tokio::spawn(connection);
        sender
    });
    Served { runtime, sender, _folder: folder }
});

fuzz_target!(|bytes: &[u8]| {
    let Some((method, message)) = bytes.split_first() else { return };
    let method = METHODS[usize::from(*method) % METHODS.len()];
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).expect("short").to_be_bytes());
    framed.extend_from_slice(message);
    let request = http::Request::post(format!("http://x/containerd.services.snapshots.v1.Snapshots/{method}"))
        .header("content-type", "application/grpc")
        .body(Full::new(Bytes::from(framed)))
        .expect("a request");
    let mut sender = SERVED.sender.clone();
    SERVED.runtime.block_on(async {
        let answer = sender.send_request(request).await.expect("an answer");
        let (head, body) = answer.into_parts();
        let mut said = head.headers;
        said.extend(body.collect().await.expect("all of it").trailers().cloned().unwrap_or_default());
        let status = said.get("grpc-status").expect("a status").to_str().expect("digits");
        // Nothing that is sent is this side's fault.
        assert!(status != "13" && status != "2", "{method}: {said:?}");
    });
});
