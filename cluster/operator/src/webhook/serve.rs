//! The webhook's server: TLS with the certificate as it is now, small limits.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::{NAME, review};
use crate::Error;
use crate::trustee::NamedSecrets;
use crate::watch::Ticks;

/// Largest question: an object twice, and what is around it.
const MAX_BODY: usize = 7 << 20;
/// Connections at once.
const MAX_CONNECTIONS: usize = 64;
/// How long a handshake, a request's head and its body may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection may live.
const LIFE: Duration = Duration::from_secs(600);

/// The certificate, as soon as there is one.
#[derive(Debug, Default)]
struct Shown(RwLock<Option<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Serves until the process ends. Every operator does, whether it has the lease or waits for it.
///
/// # Errors
/// Where the port cannot be listened on.
pub async fn serve(client: Client, namespace: String, address: SocketAddr) -> Result<(), Error> {
    let listener =
        TcpListener::bind(address).await.map_err(|source| Error::Port { port: address.port(), source })?;
    let shown = Arc::new(Shown::default());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Own(e.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(shown.clone());
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(follow(client, namespace, shown, provider));
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Not accepted before there is room: the kernel keeps a few.
        let Ok(place) = room.clone().acquire_owned().await else { return Ok(()) };
        match listener.accept().await {
            Ok((stream, _)) => {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(LIFE, connection(stream, acceptor)).await;
                    drop(place);
                });
            }
            Err(e) => {
                warn!("a connection to the webhook could not be accepted: {e}");
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Shows each new certificate from when it is in the Secret.
async fn follow(
    client: Client,
    namespace: String,
    shown: Arc<Shown>,
    provider: Arc<rustls::crypto::CryptoProvider>,
) {
    let ticks = Arc::new(Ticks::default());
    let mut changes = Box::pin(ticks.stream());
    let secrets = NamedSecrets::new(client, ticks.clone());
    loop {
        match secrets.get(&namespace, NAME).await {
            Ok(Some(secret)) => match certified(&secret, &provider) {
                Ok(key) => *shown.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(key)),
                Err(e) => warn!("Secret {NAME}: {e}"),
            },
            Ok(None) => {}
            Err(e) => warn!("{e}"),
        }
        if changes.next().await.is_none() {
            return;
        }
    }
}

fn certified(secret: &Secret, provider: &rustls::crypto::CryptoProvider) -> Result<CertifiedKey, Error> {
    let bad = |e: &dyn std::fmt::Display| Error::Own(e.to_string());
    let entry = |name: &str| {
        let found = secret.data.as_ref().and_then(|d| d.get(name)).map(|b| b.0.as_slice());
        found.ok_or_else(|| Error::Own(format!("it has no {name}")))
    };
    let chain = CertificateDer::pem_slice_iter(entry("tls.crt")?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| bad(&e))?;
    let key = PrivateKeyDer::from_pem_slice(entry("tls.key")?).map_err(|e| bad(&e))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|e| bad(&e))
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor) {
    let stream = match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) => return debug!("a caller of the webhook: {e}"),
        Err(_) => return,
    };
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service_fn(respond));
    if let Err(e) = served.await {
        debug!("a caller of the webhook: {e}");
    }
}

async fn respond(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let plain = |status, text: &'static str| {
        let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = status;
        response
    };
    let Some(class) = request.uri().path().strip_prefix("/pods/").map(str::to_owned) else {
        return Ok(plain(StatusCode::NOT_FOUND, "there is /pods/CLASS"));
    };
    if request.method() != Method::POST {
        return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "POST"));
    }
    let body = Limited::new(request.into_body(), MAX_BODY).collect();
    let Ok(Ok(body)) = tokio::time::timeout(PATIENCE, body).await else {
        return Ok(plain(StatusCode::BAD_REQUEST, "the body is too long, or too slow"));
    };
    Ok(match review::answer(&class, &body.to_bytes()) {
        Ok(answer) => {
            let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
            response
        }
        Err(why) => plain(StatusCode::BAD_REQUEST, why),
    })
}
