//! The verification service over gRPC, by an admitted caller, on loopback. The first byte chooses the method, the
//! second whether the rest is a message or raw frames.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use cocoon_fuzz::backend::Backend;
use cocoon_rpc::{Operation, RpcLimits, serve};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use libfuzzer_sys::fuzz_target;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

struct Served {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    authority: String,
}

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (sender, authority) = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let day = Duration::from_secs(86_400);
        let limits =
            RpcLimits { age: day, idle: day, request: Duration::from_secs(5), ..RpcLimits::default() };
        let (backend, auth) = (Arc::new(Backend), Arc::new(Backend));
        tokio::spawn(
            async move { serve(listener, None, backend, auth, limits, std::future::pending()).await },
        );
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = handshake.expect("HTTP/2");
        tokio::spawn(connection);
        (sender, address.to_string())
    });
    Served { runtime, sender, authority }
});

fuzz_target!(|bytes: &[u8]| {
    let Some(([choice, framed], message)) = bytes.split_first_chunk() else { return };
    let methods: Vec<&str> = Operation::ALL.iter().filter_map(|operation| operation.grpc_path()).collect();
    let health = ["/grpc.health.v1.Health/Check", "/"];
    let path = methods.iter().chain(&health).cycle().nth(usize::from(*choice) % 7).expect("it cycles");
    let mut body = Vec::with_capacity(message.len() + 5);
    if *framed & 1 == 0 {
        body.push(0);
        body.extend_from_slice(&u32::try_from(message.len()).expect("short").to_be_bytes());
    }
    body.extend_from_slice(message);
    let Served { runtime, sender, authority } = &*SERVED;
    let request = http::Request::post(format!("http://{authority}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(body)))
        .expect("a request");
    let mut sender = sender.clone();
    runtime.block_on(async {
        let response = sender.send_request(request).await.expect("the connection stays");
        let in_head = response.headers().get("grpc-status").cloned();
        let answered = response.into_body().collect().await.expect("the stream ends in order");
        let status = in_head.or_else(|| answered.trailers().and_then(|t| t.get("grpc-status").cloned()));
        assert_ne!(status.expect("every answer has one"), "13", "an internal error");
    });
});
