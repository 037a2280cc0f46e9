//! The listening side: connections, TLS, HTTP/1.1 and HTTP/2, and what keeps slow or many clients from hurting others.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::CONNECTION;
use http::{HeaderValue, Response, Version};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use crate::admission::{Activity, Addresses};
use crate::gate::Gate;
use crate::{AttestationBackend, Authenticate, Connection, Error, RpcLimits, grpc, rest};

/// HTTP/2 flow-control windows: a stream's and a connection's most bytes that are on their way unread.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Where connections come in.
pub enum Door {
    /// A TCP socket.
    Tcp(TcpListener),
    /// A unix socket; who may connect is a matter of its file's mode.
    Unix(UnixListener),
}

enum Caller {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Door {
    /// The next connection. All that come by a unix socket count as of one address.
    async fn accept(&self) -> std::io::Result<(Caller, SocketAddr)> {
        match self {
            Door::Tcp(listener) => listener.accept().await.map(|(s, from)| (Caller::Tcp(s), from)),
            Door::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Caller::Unix(stream), SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
            }
        }
    }
}

pub(crate) type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
pub(crate) type Handler = Box<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;

/// Serves gRPC on `listener` until `shutdown` resolves: `attestation.AttestationService`,
/// `reference.ReferenceValueProviderService` and `grpc.health.v1.Health/Check` over HTTP/2, and
/// `GET /.well-known/jwks.json` over HTTP/1.1 and 2.
///
/// With `tls` over TLS, offering `h2` and `http/1.1` whatever the given ALPN says; without it in the clear, which is
/// the caller's decision. Callers' certificates are seen if `tls` asks for them. After `shutdown` calls in progress
/// have [`RpcLimits::drain`] to finish; then all connections end.
///
/// # Errors
/// [`Error::Limits`] only.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    backend: Arc<dyn AttestationBackend>,
    auth: Arc<dyn Authenticate>,
    limits: RpcLimits,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    limits.check()?;
    let gate = Arc::new(Gate::new(backend, auth, &limits));
    let limit = limits.request;
    let handler: Handler = Box::new(move |request| {
        let gate = gate.clone();
        Box::pin(async move { grpc::answer(&gate, request, limit).await })
    });
    listen(Door::Tcp(listener), tls, handler, limits, shutdown).await
}

/// Serves [`crate::rest_router`] in the same way.
///
/// # Errors
/// [`Error::Limits`] only.
pub async fn serve_rest(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    backend: Arc<dyn AttestationBackend>,
    auth: Arc<dyn Authenticate>,
    limits: RpcLimits,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    limits.check()?;
    let router = rest::router(Gate::new(backend, auth, &limits));
    let limit = limits.request;
    let handler: Handler = Box::new(move |request| {
        let version = request.version();
        let answer = router.clone().call(request);
        Box::pin(async move {
            match timeout(limit, answer).await {
                Ok(Ok(response)) => response,
                Ok(Err(impossible)) => match impossible {},
                Err(_) => {
                    let mut response = rest::too_slow();
                    if version < Version::HTTP_2 {
                        // What is left of the request's body must not be read as the next request.
                        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    }
                    response
                }
            }
        })
    });
    listen(Door::Tcp(listener), tls, handler, limits, shutdown).await
}

struct Server {
    handler: Handler,
    acceptor: Option<TlsAcceptor>,
    limits: RpcLimits,
    stopped: watch::Receiver<bool>,
}

pub(crate) async fn listen(
    door: Door,
    tls: Option<Arc<ServerConfig>>,
    handler: Handler,
    limits: RpcLimits,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let acceptor = tls.map(|tls| {
        let mut config = ServerConfig::clone(&tls);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    });
    let (stop, stopped) = watch::channel(false);
    let permits = Arc::new(Semaphore::new(limits.connections));
    let addresses = Addresses::new(limits.connections_per_address);
    let server = Arc::new(Server { handler, acceptor, limits, stopped });
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            // The permit first: a client beyond the limit stays in the kernel's queue and costs nothing here.
            let permit = permits.clone().acquire_owned().await;
            (permit, door.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, remote)) => {
                let Some(place) = addresses.enter(remote) else { continue };
                let server = server.clone();
                connections.spawn(async move {
                    server.connection(stream, remote).await;
                    drop((permit, place));
                });
            }
            // Out of descriptors, most likely: the pause lets connections end instead of spinning.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    drop(door);
    let _ = stop.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    // Connections see to their own end within the same time; the second is for those that could not.
    let grace = server.limits.drain.saturating_add(Duration::from_secs(1));
    if timeout(grace, drained).await.is_err() {
        tracing::debug!("connections were cut at shutdown");
    }
    connections.shutdown().await;
    Ok(())
}

impl Server {
    async fn connection(self: &Arc<Self>, caller: Caller, remote: SocketAddr) {
        let stream = match caller {
            Caller::Tcp(stream) => stream,
            Caller::Unix(stream) => {
                return self.http(stream, Connection { remote, client_certificate: None }).await;
            }
        };
        // Small answers must not wait for acknowledgements of earlier ones.
        let _ = stream.set_nodelay(true);
        match &self.acceptor {
            None => self.http(stream, Connection { remote, client_certificate: None }).await,
            Some(acceptor) => match timeout(self.limits.headers, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
                    let client_certificate = chain.first().map(|der| Arc::from(der.as_ref()));
                    self.http(stream, Connection { remote, client_certificate }).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                Err(_) => tracing::debug!("TLS handshake took too long"),
            },
        }
    }

    /// The protocol is told by the client's first bytes: HTTP/2's preface or not.
    async fn http(
        self: &Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        shown: Connection,
    ) {
        let activity = Activity::new();
        let service = service_fn(|mut request: Request<Incoming>| {
            let in_progress = activity.begin();
            request.extensions_mut().insert(shown.clone());
            let answer = (self.handler)(request);
            async move {
                let response = answer.await;
                drop(in_progress);
                Ok::<_, Infallible>(response)
            }
        });
        let builder = self.protocol();
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut stopped = self.stopped.clone();
        // Its guard must not be held over the next wait.
        let told_to_stop = async { stopped.wait_for(|stop| *stop).await.is_ok() };
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            _ = told_to_stop => None,
            () = activity.idle(self.limits.headers, self.limits.idle) => None,
            () = sleep(self.limits.age) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                match timeout(self.limits.drain, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return tracing::debug!("a connection was cut"),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }

    fn protocol(&self) -> auto::Builder<TokioExecutor> {
        let limits = &self.limits;
        let header_bytes = usize::try_from(limits.header_bytes).unwrap_or(usize::MAX);
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.headers)
            .max_headers(64)
            .max_buf_size(header_bytes.max(8192))
            .half_close(false);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(limits.header_bytes)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(64 * 1024)
            .max_pending_accept_reset_streams(20)
            .keep_alive_interval(limits.keep_alive)
            .keep_alive_timeout(limits.keep_alive);
        builder
    }
}
