//! Plugins: parts of the KBS API that are not secrets of the store (trustee.md §1.5).
//!
//! A plugin says of each request whether an administrator must make it; else an attested guest may, if the owner's
//! resource policy allows it. A plugin never decides on evidence, and never sees a token.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use axum::response::Response;
use bytes::Bytes;
use cocoon_release::{Explanation, Step, Subject};
use cocoon_stage::{Code, Failure};
use http::StatusCode;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::Trustee;
use crate::admin::{Head, act};
use crate::reply::{self, Refusal, Variant};

mod external;
mod provisioner;
mod wrap_key;

pub use external::External;
pub use provisioner::Provisioner;
pub use wrap_key::WrapKey;

/// A request to a plugin.
#[derive(Clone, Debug)]
pub struct PluginRequest {
    /// HTTP method.
    pub method: String,
    /// What follows the plugin's name, in segments.
    pub path: Vec<String>,
    /// The query.
    pub query: BTreeMap<String, String>,
    /// The body.
    pub body: Bytes,
    /// The guest's `init_data_claims`, from its token; only of a document that its TEE binds.
    pub init_data_claims: Option<Value>,
}

/// What a plugin answers.
pub struct PluginAnswer {
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
    /// Its type, where it goes out unencrypted.
    pub content_type: String,
}

/// Why a plugin did not do what was asked.
#[derive(Debug)]
pub enum PluginError {
    /// There is no such thing.
    NotFound,
    /// The request makes no sense to it.
    Invalid(String),
    /// This caller may not have it.
    Denied(String),
    /// It, or what it needs, does not work.
    Failed(String),
}

/// A plugin.
#[async_trait]
pub trait PluginHandler: Send + Sync {
    /// Whether only an administrator may make this request.
    async fn needs_admin(&self, request: &PluginRequest) -> Result<bool, PluginError>;
    /// Whether the answer must be encrypted to the guest's key.
    async fn encrypted(&self, request: &PluginRequest) -> Result<bool, PluginError>;
    /// Does what was asked.
    async fn handle(&self, request: &PluginRequest, trustee: &Trustee) -> Result<PluginAnswer, PluginError>;
}

/// A plugin, shared.
pub type Plugin = Arc<dyn PluginHandler>;

impl From<PluginError> for Refusal {
    fn from(error: PluginError) -> Self {
        let (code, status, reason) = match error {
            PluginError::NotFound => {
                (Code::ReleaseSecretMissing, StatusCode::NOT_FOUND, "there is none".into())
            }
            PluginError::Invalid(reason) => (Code::UsageInvalid, StatusCode::BAD_REQUEST, reason),
            PluginError::Denied(reason) => (Code::ReleaseDenied, StatusCode::UNAUTHORIZED, reason),
            PluginError::Failed(reason) => {
                (Code::StoreUnavailable, StatusCode::INTERNAL_SERVER_ERROR, reason)
            }
        };
        Refusal::coded(Variant::PluginInternalError, code, reason).with_status(status)
    }
}

/// Answers a request to the plugin of this name.
pub(crate) async fn answer(
    trustee: &Trustee,
    name: &str,
    mut request: PluginRequest,
    head: &Head,
    token: Option<String>,
) -> Result<Response, Refusal> {
    let judge = trustee.inner.judge();
    let found = judge.config.plugins.iter().find(|(n, _)| n == name).map(|(_, plugin)| plugin.clone());
    let Some(plugin) = found else {
        return Err(Refusal::coded(Variant::PluginNotFound, Code::UsageInvalid, "no such plugin")
            .with_status(StatusCode::NOT_FOUND));
    };
    let metrics = &trustee.inner.shared.metrics;
    metrics.plugin_requests.inc();
    let noted = |error: PluginError| {
        metrics.plugin_errors.inc();
        Refusal::from(error)
    };
    if plugin.needs_admin(&request).await.map_err(noted)? {
        let admin = trustee.authorize(head).await?;
        let (worker, id, act) = (trustee.clone(), head.id.clone(), act(head));
        let acting = trustee.to_its_end(async move {
            let outcome = plugin.handle(&request, &worker).await.map_err(Refusal::from);
            let refused = outcome.as_ref().err().map(|r| r.failure.code);
            let recorded = worker.inner.record_admin(&id, &admin.name, &act, refused);
            (outcome, recorded.durable(&worker.inner).await)
        });
        let (outcome, recorded) = acting.await.map_err(Refusal::internal)?;
        recorded.map_err(Refusal::internal)?;
        let answer = outcome.map_err(|refusal| {
            metrics.plugin_errors.inc();
            refusal.for_admin()
        })?;
        return Ok(reply::raw(&answer.content_type, answer.body.to_vec(), &head.id));
    }
    let verified = trustee.inner.verified(token.as_deref(), trustee.inner.now())?;
    // Where no hardware binds the document, anybody could have written its claims.
    request.init_data_claims = cocoon_release::bound_init_data(&verified.claims).and_then(|_| {
        verified.claims.pointer("/submods/cpu0/ear.veraison.annotated-evidence/init_data_claims").cloned()
    });
    let (asked, path, query) = (name.to_owned(), request.path.clone(), json!(request.query));
    let claims = verified.clone();
    let ask = move |t: &Trustee| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        t.inner.resource_policy(&asked, &path, &query, &claims.claims)
    };
    let allowed = trustee.reading(ask).await.map_err(Refusal::internal)?.map_err(Refusal::internal)?;
    let refusal = match allowed {
        Some(Ok(true)) => None,
        Some(Ok(false)) => Some(Failure::new(Code::ReleaseDenied, "the resource policy does not allow it")),
        Some(Err(problem)) => Some(Failure::new(Code::PolicyFailed, problem)),
        None => Some(Failure::new(Code::ReleaseDenied, "there is no resource policy that allows it")),
    };
    let text = |pointer: &str| verified.claims.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let recorded = trustee.inner.record(Explanation {
        request_id: head.id.clone(),
        at_unix: trustee.inner.now(),
        subject: Subject::Release { path: format!("{name}/{}", request.path.join("/")) },
        code: refusal.as_ref().map(|f| f.code),
        reason: refusal.as_ref().map(|f| f.reason.clone()),
        init_data: text("/submods/cpu0/ear.veraison.annotated-evidence/init_data"),
        workload: None,
        simulated: verified.claims.pointer("/submods/cpu0/ear.cocoon.simulated").is_some(),
        steps: vec![Step::new(
            "release.policy",
            refusal.is_none(),
            refusal.as_ref().map_or(Code::ReleaseDenied, |f| f.code),
            "a resource policy that allows",
            refusal.as_ref().map_or("it allows", |f| f.reason.as_str()),
            "resource policy",
        )],
        inputs: Vec::new(),
    });
    if let Some(failure) = refusal {
        recorded.later();
        return Err(Refusal::new(Variant::PolicyDeny, failure));
    }
    recorded.durable(&trustee.inner).await.map_err(Refusal::internal)?;
    let encrypted = plugin.encrypted(&request).await.map_err(noted)?;
    let answer = plugin.handle(&request, trustee).await.map_err(noted)?;
    if encrypted {
        let jwe = trustee.inner.encrypted(&verified, &answer.body)?;
        return Ok(reply::json(StatusCode::OK, &jwe, &head.id));
    }
    Ok(reply::raw(&answer.content_type, answer.body.to_vec(), &head.id))
}
