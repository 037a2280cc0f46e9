//! A backend that remembers what it was asked, an authenticator with two users, and servers on loopback.

#![allow(dead_code, missing_docs)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cocoon_rpc::{
    AttestationBackend, AttestationClient, Authenticate, ClientIdentity, Credentials, Endpoint,
    EvaluateRequest, GrpcCode, Operation, Peer, RpcFailure, RpcLimits, serve, serve_rest,
};
use cocoon_stage::Code;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

#[derive(Default)]
pub struct Backend {
    pub asked: Mutex<Vec<EvaluateRequest>>,
    pub callers: Mutex<Vec<Peer>>,
    pub policies: Mutex<BTreeMap<String, String>>,
    pub registered: Mutex<Vec<String>>,
    pub delay: Duration,
}

#[async_trait]
impl AttestationBackend for Backend {
    async fn evaluate(&self, caller: &Peer, request: EvaluateRequest) -> Result<String, RpcFailure> {
        tokio::time::sleep(self.delay).await;
        self.callers.lock().unwrap().push(caller.clone());
        let refused = request.requests[0].evidence.get("refuse").is_some();
        self.asked.lock().unwrap().push(request);
        if refused {
            let mut failure = RpcFailure::new(
                Code::AttestSignatureInvalid,
                GrpcCode::FailedPrecondition,
                "the signature is wrong",
            );
            failure.request_id = Some("r-1".into());
            return Err(failure);
        }
        Ok("head.claims.signature".into())
    }

    async fn set_policy(&self, _: &Peer, id: &str, text: &str) -> Result<(), RpcFailure> {
        self.policies.lock().unwrap().insert(id.into(), text.into());
        Ok(())
    }

    async fn list_policies(&self, _: &Peer) -> Result<Vec<String>, RpcFailure> {
        Ok(self.policies.lock().unwrap().keys().cloned().collect())
    }

    async fn get_policy(&self, _: &Peer, id: &str) -> Result<Option<String>, RpcFailure> {
        Ok(self.policies.lock().unwrap().get(id).cloned())
    }

    async fn challenge(&self, _: &Peer, parameters: BTreeMap<String, String>) -> Result<String, RpcFailure> {
        Ok(format!("challenge for {}", parameters["tee"]))
    }

    async fn query_reference_value(&self, _: &Peer, id: &str) -> Result<Option<Value>, RpcFailure> {
        Ok((id == "svn").then(|| json!([1, 2])))
    }

    async fn register_reference_value(&self, _: &Peer, message: String) -> Result<(), RpcFailure> {
        self.registered.lock().unwrap().push(message);
        Ok(())
    }

    fn jwks(&self) -> Value {
        json!({"keys": []})
    }
}

/// `admin` may do all, `reader` may evaluate, a client certificate is worth an admin.
pub struct Users;

#[async_trait]
impl Authenticate for Users {
    async fn authenticate(
        &self,
        credentials: &Credentials,
        operation: Operation,
    ) -> Result<Peer, RpcFailure> {
        let name = match (credentials.bearer.as_ref().map(|b| b.as_str()), &credentials.client_certificate) {
            (Some("admin"), _) => "admin",
            (Some("reader"), _) => "reader",
            (None, Some(_)) => "certificate",
            _ => {
                return Err(RpcFailure::new(
                    Code::Internal,
                    GrpcCode::Internal,
                    "user database at /secret/path",
                ));
            }
        };
        if name == "reader" && operation != Operation::Evaluate {
            return Err(RpcFailure::denied());
        }
        Ok(Peer { name: name.into(), tenant: None, remote: credentials.remote })
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub backend: Arc<Backend>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), cocoon_rpc::Error>>,
}

impl Server {
    pub async fn grpc(backend: Backend, tls: Option<Arc<ServerConfig>>, limits: RpcLimits) -> Self {
        Self::start(backend, tls, limits, false).await
    }

    pub async fn rest(backend: Backend, limits: RpcLimits) -> Self {
        Self::start(backend, None, limits, true).await
    }

    async fn start(backend: Backend, tls: Option<Arc<ServerConfig>>, limits: RpcLimits, rest: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let backend = Arc::new(backend);
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let served = backend.clone();
        let task = tokio::spawn(async move {
            let auth = Arc::new(Users);
            if rest {
                serve_rest(listener, tls, served, auth, limits, shutdown).await
            } else {
                serve(listener, tls, served, auth, limits, shutdown).await
            }
        });
        Server { address, backend, stop: Some(stop), task }
    }

    pub fn client(&self, bearer: Option<&str>) -> AttestationClient {
        AttestationClient::connect(endpoint(&format!("http://{}", self.address)), bearer).unwrap()
    }

    pub async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        tokio::time::timeout(Duration::from_secs(8), self.task).await.unwrap().unwrap().unwrap();
    }
}

pub fn endpoint(url: &str) -> Endpoint {
    let timeout = Duration::from_secs(5);
    Endpoint { name: "peer".into(), endpoint: url.into(), ca_pem: None, identity: None, timeout }
}

pub struct Pki {
    pub ca_pem: String,
    pub client: ClientIdentity,
    pub server: Arc<ServerConfig>,
}

/// A CA, a server certificate for 127.0.0.1 and a client's; the server takes clients without a certificate too.
pub fn pki() -> Pki {
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let leaf = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        (cert, key)
    };
    let (server, server_key) = leaf("127.0.0.1");
    let (client, client_key) = leaf("client.example.org");
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let key = PrivateKeyDer::try_from(server_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.der().clone()], key)
        .unwrap();
    let key_pem = Zeroizing::new(client_key.serialize_pem());
    Pki {
        ca_pem: ca.pem(),
        client: ClientIdentity { cert_chain_pem: client.pem(), key_pem },
        server: Arc::new(config),
    }
}

/// An answer with its trailers.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

impl Answer {
    async fn of(response: Response<hyper::body::Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().cloned().unwrap_or_default();
        Answer { status: head.status.as_u16(), headers: head.headers, body: collected.to_bytes(), trailers }
    }

    /// gRPC's status, wherever it is.
    pub fn grpc(&self) -> &str {
        let status = self.headers.get("grpc-status").or(self.trailers.get("grpc-status"));
        status.expect("no grpc-status").to_str().unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// One request over a new HTTP/2 connection, in the clear.
pub async fn http2(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
    Answer::of(response).await
}

/// One request over a new HTTP/1.1 connection.
pub async fn http1(
    address: SocketAddr,
    method: &str,
    path: &str,
    bearer: Option<&str>,
    body: impl Into<Bytes>,
) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "test");
    if let Some(bearer) = bearer {
        request = request.header("authorization", format!("Bearer {bearer}"));
    }
    let response = sender.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
    Answer::of(response).await
}
