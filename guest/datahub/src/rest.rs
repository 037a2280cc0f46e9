//! The workload's REST endpoint on 127.0.0.1:8006, with CoCo's paths.
//!
//! `GET /cdh/resource/<repository>/<type>/<tag>` · `GET /aa/token?token_type=kbs` ·
//! `GET /aa/evidence?runtime_data=…[&encoding=base64]` · `POST /aa/aael` · `GET /info`.
//! Only resources that the plan names for the workload are served: image keys and registry credentials are not.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cocoon_attest::Aael;
use cocoon_stage::{Code, Failure};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::DataHub;

/// Connections served at once.
const MAX_CONNECTIONS: usize = 64;
/// Longest `runtime_data` in a query, in characters: 64 bytes in any encoding fit.
const MAX_RUNTIME_DATA: usize = 128;

/// Longest body of an event, in bytes.
const MAX_EVENT: usize = 16 << 10;

/// An event as CoCo's REST interface takes it.
#[derive(serde::Deserialize)]
struct Event {
    domain: String,
    operation: String,
    content: String,
}

struct Service {
    hub: Arc<DataHub>,
    // `repository/type/tag` of each secret that the plan gives to the workload.
    // Any, where there is no plan.
    allowed: Option<BTreeSet<String>>,
    // Whether `/aa/…` is served.
    attestation: bool,
}

/// Serves the endpoint until the task is dropped. `allowed` holds the paths (`repository/type/tag`) that the plan
/// gives to the workload (any, where there is none); `attestation` is its word on `/aa/…`.
pub async fn serve_rest(
    hub: Arc<DataHub>,
    listener: TcpListener,
    allowed: Option<BTreeSet<String>>,
    attestation: bool,
) {
    let service = Arc::new(Service { hub, allowed, attestation });
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) if peer.ip().is_loopback() => {
                let service = service.clone();
                tokio::spawn(async move {
                    serve_connection(service, stream).await;
                    drop(slot);
                });
            }
            Ok((_, peer)) => tracing::warn!(%peer, "refused: not from loopback"),
            Err(e) => {
                tracing::warn!(error = %e, "accept");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn serve_connection(service: Arc<Service>, stream: TcpStream) {
    let answer = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let result = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(e) = result {
        tracing::debug!(error = %e, "connection");
    }
}

type Answer = Response<Full<Bytes>>;

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
}

fn json(value: &serde_json::Value) -> Answer {
    let mut answer = plain(StatusCode::OK, value.to_string());
    let json = http::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, json);
    answer
}

fn octets(body: Vec<u8>) -> Answer {
    let mut answer = plain(StatusCode::OK, body);
    let octets = http::HeaderValue::from_static("application/octet-stream");
    answer.headers_mut().insert(http::header::CONTENT_TYPE, octets);
    answer
}

/// A failure as the workload sees it: it is inside the TEE, so it may know the reason.
fn failed(failure: &Failure) -> Answer {
    let status = match failure.code {
        Code::ReleaseDenied | Code::ReleaseStatusInsufficient | Code::ReleaseWorkloadUnknown => {
            StatusCode::FORBIDDEN
        }
        Code::ReleaseSecretMissing => StatusCode::NOT_FOUND,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    plain(status, format!("{failure}\n"))
}

impl Service {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let query = request.uri().query().unwrap_or_default();
        let get = request.method() == Method::GET;
        if let Some(resource) = path.strip_prefix("/cdh/resource/") {
            return if get { self.resource(resource).await } else { not_allowed() };
        }
        if path.starts_with("/aa/") && !self.attestation {
            return plain(StatusCode::NOT_FOUND, "Attestation Feature Not Enabled");
        }
        match path {
            "/aa/token" if get => self.token(query).await,
            "/aa/evidence" if get => self.evidence(query).await,
            "/aa/additional-evidence" if get => octets(Vec::new()),
            "/aa/aael" if request.method() == Method::POST => self.measure(request.into_body()).await,
            "/info" if get => json(&serde_json::json!({
                "version": env!("CARGO_PKG_VERSION"),
                "tee": self.hub.attester().tee(),
                "simulated": self.hub.attester().simulated(),
                "feature": if self.attestation { "all" } else { "resource" },
            })),
            "/aa/token" | "/aa/evidence" | "/aa/additional-evidence" | "/aa/aael" | "/info" => not_allowed(),
            _ => plain(StatusCode::NOT_FOUND, "URL NOT FOUND"),
        }
    }

    async fn resource(&self, path: &str) -> Answer {
        if self.allowed.as_ref().is_some_and(|allowed| !allowed.contains(path)) {
            let failure = Failure::new(
                Code::ReleaseDenied,
                format!("the plan gives no resource {path:?} to the workload"),
            );
            return failed(&failure);
        }
        match self.hub.resource(&format!("kbs:///{path}")).await {
            Ok(secret) => octets(secret.to_vec()),
            Err(failure) => failed(&failure),
        }
    }

    /// Records an event of the workload's: `{"domain", "operation", "content"}`.
    async fn measure(&self, body: Incoming) -> Answer {
        let bad = || plain(StatusCode::BAD_REQUEST, "BAD REQUEST");
        let Ok(body) = Limited::new(body, MAX_EVENT).collect().await else { return bad() };
        let Ok(event) = serde_json::from_slice::<Event>(&body.to_bytes()) else { return bad() };
        let Event { domain, operation, content } = &event;
        match self.hub.attester().measure(&Aael { domain, operation, content }).await {
            Ok(true) => json(&serde_json::json!({"success": "true"})),
            // As CoCo's guests say it, so that programs written for them understand.
            Ok(false) => json(&serde_json::json!({
                "success": "false",
                "message": "The platform does not support runtime measurement",
            })),
            Err(failure) => failed(&failure),
        }
    }

    async fn token(&self, query: &str) -> Answer {
        if parameter(query, "token_type").as_deref() != Some("kbs") {
            return plain(StatusCode::BAD_REQUEST, "BAD REQUEST");
        }
        match self.hub.token().await {
            // The session's private key stays here: with it a workload could fetch image keys and registry
            // credentials, which only the guest itself may use.
            Ok(token) => octets(serde_json::json!({"token": token}).to_string().into_bytes()),
            Err(failure) => failed(&failure),
        }
    }

    async fn evidence(&self, query: &str) -> Answer {
        let Some(data) = parameter(query, "runtime_data") else {
            return plain(StatusCode::BAD_REQUEST, "BAD REQUEST");
        };
        let data = match parameter(query, "encoding").as_deref() {
            None => Ok(data.into_bytes()),
            Some("base64") => cocoon_protocol::b64::url_decode(&data).map_err(|_| ()),
            Some(_) => Err(()),
        };
        let Ok(data) = data else { return plain(StatusCode::BAD_REQUEST, "BAD REQUEST") };
        match self.hub.attester().evidence(&data).await {
            Ok(evidence) => octets(evidence.to_string().into_bytes()),
            Err(failure) => failed(&failure),
        }
    }
}

fn not_allowed() -> Answer {
    plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

/// A query parameter, percent-decoded; `None` where it is absent, too long or not UTF-8.
fn parameter(query: &str, name: &str) -> Option<String> {
    let raw = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    if raw.len() > MAX_RUNTIME_DATA * 3 {
        return None;
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes().iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let pair = [*rest.next()?, *rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?
            }
            b'+' => b' ',
            other => *other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_bounded() {
        assert_eq!(parameter("a=1&runtime_data=x%20y+z", "runtime_data").unwrap(), "x y z");
        assert_eq!(parameter("runtime_data=%", "runtime_data"), None);
        assert_eq!(parameter("runtime_data=%f", "runtime_data"), None);
        assert_eq!(parameter("runtime_data=%zz", "runtime_data"), None);
        assert_eq!(parameter("runtime_data=%ff", "runtime_data"), None);
        assert_eq!(parameter("other=1", "runtime_data"), None);
        assert_eq!(parameter(&format!("runtime_data={}", "a".repeat(1000)), "runtime_data"), None);
    }
}
