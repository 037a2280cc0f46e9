//! Whom `cocoon run` tells about a workload: the embedded Trustee, or one at a URL through its admin API.

use std::collections::BTreeMap;

use bytes::Bytes;
use cocoon_http::{Client, Method, Options, Request, Roots, header};
use cocoon_plan::TrusteeConfig;
use cocoon_protocol::b64;
use cocoon_stage::{Code, Failure, Stage};
use cocoon_trustee::Registration;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::args::RunArgs;
use crate::embedded::Embedded;

/// A Trustee, as its owner sees it.
pub enum Registrar {
    /// In this process.
    Embedded(Box<Embedded>),
    /// Behind a URL.
    Remote(Remote),
}

impl Registrar {
    /// Registers a workload.
    pub async fn register(&self, registration: &Registration) -> Result<(), Failure> {
        match self {
            Registrar::Embedded(embedded) => embedded.register(registration),
            Registrar::Remote(remote) => remote.register(registration).await,
        }
    }

    /// Removes a workload and its secrets.
    pub async fn unregister(&self, digest_hex: &str) -> Result<(), Failure> {
        match self {
            Registrar::Embedded(embedded) => embedded.unregister(digest_hex).map(|_| ()),
            Registrar::Remote(remote) => remote
                .send(Method::DELETE, &format!("workloads/{digest_hex}"), Bytes::new())
                .await
                .map(|_| ()),
        }
    }

    /// Registers reference values until a time.
    pub async fn put_references(
        &self,
        source: &str,
        values: &BTreeMap<String, Vec<Value>>,
        expires_unix: u64,
    ) -> Result<(), Failure> {
        match self {
            Registrar::Embedded(embedded) => embedded.put_references(source, values, Some(expires_unix)),
            Registrar::Remote(remote) => {
                let body = json!({"source": source, "values": values, "expires_unix": expires_unix});
                remote.send(Method::PUT, "reference-values", body.to_string().into()).await.map(|_| ())
            }
        }
    }

    /// The verdict behind a request id.
    pub async fn explain(&self, request_id: &str) -> Option<Value> {
        match self {
            Registrar::Embedded(embedded) => embedded.explain(request_id),
            Registrar::Remote(remote) => {
                let body =
                    remote.send(Method::GET, &format!("explain/{request_id}"), Bytes::new()).await.ok()?;
                serde_json::from_slice(&body).ok()
            }
        }
    }
}

/// A Trustee's admin API.
pub struct Remote {
    http: Client,
    url: String,
    token: Zeroizing<String>,
    certificate: Option<String>,
}

/// Largest answer of the admin API, in bytes.
const MAX_ANSWER: usize = 4 << 20;

impl Remote {
    /// The Trustee that the flags name.
    pub fn new(url: &str, args: &RunArgs) -> Result<Self, Failure> {
        let failed = |reason: String| Failure::new(Code::RegisterFailed, reason);
        let plain_ok = url.strip_prefix("http://").is_some_and(|rest| {
            let host = rest.split(['/', ':']).next().unwrap_or_default();
            matches!(host, "localhost" | "127.0.0.1")
        });
        if !url.starts_with("https://") && !plain_ok {
            return Err(failed(format!(
                "{url:?}: secrets go to Trustee over https only (http on this machine's loopback)"
            )));
        }
        let token = match &args.trustee_token {
            Some(file) => {
                std::fs::read_to_string(file).map_err(|e| failed(format!("{}: {e}", file.display())))?
            }
            None => std::env::var("COCOON_TRUSTEE_TOKEN")
                .map_err(|_| failed("--trustee needs --trustee-token FILE or COCOON_TRUSTEE_TOKEN".into()))?,
        };
        let certificate = match &args.trustee_cert {
            Some(file) => {
                Some(std::fs::read_to_string(file).map_err(|e| failed(format!("{}: {e}", file.display())))?)
            }
            None => None,
        };
        let roots = certificate.clone().map_or(Options::default().roots, |pem| Roots::Pinned(vec![pem]));
        let http = Client::new(Options { roots, ..Options::default() }).map_err(|e| failed(e.to_string()))?;
        Ok(Remote {
            http,
            url: url.trim_end_matches('/').to_owned(),
            token: Zeroizing::new(token.trim().to_owned()),
            certificate,
        })
    }

    /// What the guest must know of it.
    pub fn config(&self) -> TrusteeConfig {
        TrusteeConfig { url: self.url.clone(), certificate: self.certificate.clone() }
    }

    async fn register(&self, registration: &Registration) -> Result<(), Failure> {
        let secrets: BTreeMap<&str, String> = registration
            .secrets
            .iter()
            .map(|(path, value)| (path.as_str(), b64::std_encode(value)))
            .collect();
        let allow: Vec<&str> = registration.allow.iter().map(|p| p.as_str()).collect();
        let body = json!({
            "name": registration.name,
            "secrets": secrets,
            "allow": allow,
            "min_status": registration.min_status.to_string(),
            "accept_simulated": registration.accept_simulated,
            "expires_unix": registration.expires_unix,
        });
        let path = format!("workloads/{}", registration.digest_hex);
        self.send(Method::PUT, &path, body.to_string().into()).await.map(|_| ())
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        let failed = |reason: String| Failure::new(Code::RegisterFailed, reason).at(Stage::Register);
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/cocoon/v0/{path}", self.url))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.as_str()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|e| failed(e.to_string()))?;
        let answer =
            self.http.send(request).await.map_err(|e| failed(format!("Trustee at {}: {e}", self.url)))?;
        let status = answer.status;
        let body = answer.bytes(MAX_ANSWER).await.map_err(|e| failed(e.to_string()))?;
        if status.is_success() {
            return Ok(body);
        }
        let words: String =
            String::from_utf8_lossy(&body).chars().filter(|c| !c.is_control()).take(300).collect();
        Err(failed(format!("Trustee at {} answered {status} to {path}: {words}", self.url)))
    }
}
