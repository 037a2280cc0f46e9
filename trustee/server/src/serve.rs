//! The listening side: connections, TLS, and the limits that keep slow or many clients from hurting others.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use cocoon_stage::Code;
use http::StatusCode;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use crate::metrics::StatusLabel;
use crate::reply::{Refusal, Variant};
use crate::router::{Peer, Secured};
use crate::timed_io::TimedIo;
use crate::{Error, ReloadableTls, Tls, Trustee, request_id};

/// The client's certificate, verified by TLS against the configured authorities.
#[derive(Clone)]
pub(crate) struct ClientCertificate(pub CertificateDer<'static>);

/// How much a client may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time; more wait in the listener's queue.
    pub connections: usize,
    /// Most bytes of a request's headers: room for a token as header and as sealed cookie.
    pub header_bytes: usize,
    /// From accepting a connection to the end of its TLS handshake, and for the headers of each request.
    pub headers: Duration,
    /// From a request's headers to its answer, body included.
    pub request: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
    /// Between the wish to stop and the last connection's end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 1024,
            header_bytes: 128 * 1024,
            headers: Duration::from_secs(10),
            request: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            drain: Duration::from_secs(5),
        }
    }
}

/// Serves guests and administrators on `listener` until `shutdown` resolves, over TLS if given a certificate.
///
/// Then it stops accepting, lets requests in progress finish for a few seconds, and returns.
pub async fn serve(
    trustee: Trustee,
    listener: TcpListener,
    tls: Option<Tls>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let tls = tls.map(|tls| ReloadableTls::new(&tls)).transpose()?;
    serve_with(trustee, listener, tls, Limits::default(), shutdown).await
}

/// [`serve`] with other limits, and a certificate that may change meanwhile.
pub async fn serve_with(
    trustee: Trustee,
    listener: TcpListener,
    tls: Option<ReloadableTls>,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let (stop, stopped) = watch::channel(false);
    let server = Arc::new(Server { router: trustee.router(), trustee, tls, limits, stopped });
    let permits = Arc::new(Semaphore::new(server.limits.connections));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            // The permit first: a client beyond the limit stays in the kernel's queue and costs nothing here.
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, from)) => {
                let peers = &server.trustee.inner.shared.peers;
                let Some(counted) = peers.connect(from.ip()) else {
                    tracing::debug!(%from, "too many connections");
                    continue;
                };
                let server = server.clone();
                connections.spawn(async move {
                    server.trustee.inner.shared.metrics.connections.inc();
                    server.connection(stream, Peer(from)).await;
                    server.trustee.inner.shared.metrics.connections.dec();
                    drop((permit, counted));
                });
            }
            // Out of descriptors, most likely: the pause lets connections end instead of spinning.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    drop(listener);
    let _ = stop.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(server.limits.drain, drained).await.is_err() {
        tracing::debug!("connections were cut at shutdown");
    }
    connections.shutdown().await;
    // What administrators have begun outlives their connections.
    if timeout(server.limits.drain, server.trustee.inner.shared.acts.write()).await.is_err() {
        tracing::warn!("an administrator's act was cut at shutdown; it may not be in the audit log");
    }
    Ok(())
}

struct Server {
    trustee: Trustee,
    router: Router,
    tls: Option<ReloadableTls>,
    limits: Limits,
    stopped: watch::Receiver<bool>,
}

impl Server {
    async fn connection(&self, stream: TcpStream, peer: Peer) {
        // Small answers must not wait for acknowledgements of earlier ones.
        let _ = stream.set_nodelay(true);
        let stream = TimedIo::new(stream, self.limits.idle);
        let Some(tls) = &self.tls else { return self.http(stream, peer, None, false).await };
        let acceptor = TlsAcceptor::from(tls.current());
        match timeout(self.limits.headers, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let certificates = stream.get_ref().1.peer_certificates();
                let leaf = certificates.and_then(|c| c.first()).cloned().map(|c| c.into_owned());
                self.http(stream, peer, leaf.map(ClientCertificate), true).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        }
    }

    async fn http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        certificate: Option<ClientCertificate>,
        secured: bool,
    ) {
        let metrics = &self.trustee.inner.shared.metrics;
        let service = service_fn(|mut request: Request<Incoming>| {
            let start = std::time::Instant::now();
            let extensions = request.extensions_mut();
            extensions.insert(peer);
            if secured {
                extensions.insert(Secured);
            }
            if let Some(certificate) = &certificate {
                extensions.insert(certificate.clone());
            }
            metrics.request_bytes.observe(size(request.headers()));
            let telemetry = self.trustee.inner.shared.telemetry();
            let span = telemetry
                .as_ref()
                .and_then(|t| t.begin(request.method(), request.uri().path(), request.headers()));
            let answer = self.router.clone().call(request);
            async move {
                let answer = match timeout(self.limits.request, answer).await {
                    Ok(answer) => answer,
                    Err(_) => Ok(self.too_slow()),
                };
                if let Ok(answer) = &answer {
                    metrics.requests.get_or_create(&StatusLabel { status: answer.status().as_u16() }).inc();
                    metrics.response_bytes.observe(size(answer.headers()));
                    if let (Some(telemetry), Some(span)) = (telemetry, span) {
                        telemetry.end(span, answer.status(), answer.headers());
                    }
                }
                metrics.request_seconds.observe(start.elapsed().as_secs_f64());
                answer
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.headers)
            .max_headers(64)
            .max_header_size(self.limits.header_bytes)
            .max_buf_size(self.limits.header_bytes.saturating_mul(2).max(16 * 1024))
            .half_close(false)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut stopped = self.stopped.clone();
        // Its guard must not be held over the next wait.
        let told_to_stop = async { stopped.wait_for(|stop| *stop).await.is_ok() };
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            _ = told_to_stop => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }

    fn too_slow(&self) -> axum::response::Response {
        let refusal = Refusal::coded(Variant::SerdeError, Code::AttestProtocol, "the request took too long");
        let id = request_id::new(self.trustee.inner.now());
        let mut response = refusal.with_status(StatusCode::REQUEST_TIMEOUT).response(&id);
        // What is left of the request's body must not be read as the next request.
        response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
        response
    }
}

/// The length that headers announce.
fn size(headers: &http::HeaderMap) -> f64 {
    let length = headers.get(http::header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u32>().ok());
    f64::from(length.unwrap_or(0))
}
