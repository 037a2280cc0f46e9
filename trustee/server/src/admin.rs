//! Administration over HTTP. Everything here needs the admin token; without a configured one it is off.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{delete, get, put};
use cocoon_protocol::b64;
use cocoon_release::{MinStatus, Registration, ResourcePath};
use cocoon_stage::{Code, Failure};
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::reply::{self, Refusal, Variant};
use crate::router::{Body, bearer, bytes, resource_path};
use crate::{Error, Trustee, request_id};

/// Source of reference values that come without one.
const ADMIN: &str = "admin";

type Answer = Result<Response, Refusal>;

/// The paths under `/cocoon/v0`.
pub(crate) fn router() -> Router<Trustee> {
    Router::new()
        .route("/workloads", get(list_workloads))
        .route("/workloads/{digest}", put(put_workload).get(get_workload).delete(delete_workload))
        .route("/explain", get(latest))
        .route("/explain/{id}", get(explain))
        .route("/reference-values", get(list_reference_values).put(put_reference_values))
        .route("/reference-values/{name}", delete(delete_reference_values))
        .route("/secrets", get(list_secrets))
}

impl Trustee {
    /// Checks the admin token and then does the work on a thread that may block. Nothing of the request but its
    /// headers is looked at before the check.
    async fn administer(
        &self,
        headers: &HeaderMap,
        work: impl FnOnce(&Trustee, &str) -> Answer + Send + 'static,
    ) -> Response {
        let id = request_id::new(self.inner.now());
        let answer = match self.authorize(headers) {
            Ok(()) => {
                let work_id = id.clone();
                let outcome = self.writing(move |t| work(t, &work_id).map_err(Refusal::for_admin)).await;
                outcome.unwrap_or_else(|failure| Err(Refusal::internal(failure).for_admin()))
            }
            Err(refusal) => Err(refusal),
        };
        answer.unwrap_or_else(|refusal| refusal.response(&id))
    }

    fn authorize(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let refused = |reason| Refusal::coded(Variant::AdminAuthAccess, Code::UsageInvalid, reason);
        let Some(expected) = &self.inner.config.admin_token_hash else {
            return Err(
                refused("administration over HTTP is switched off").with_status(StatusCode::FORBIDDEN)
            );
        };
        let token = bearer(headers).ok_or_else(|| refused("no admin token"))?;
        // Both sides are hashes, so neither length nor content of the token shows in the time taken.
        verify_slices_are_equal(digest(&SHA256, token.as_bytes()).as_ref(), expected)
            .map_err(|_| refused("wrong admin token"))
    }
}

/// A failure in an administrator's request: what they sent is 400, what Trustee could not do 500.
fn refusal(variant: Variant, error: impl Into<Error>) -> Refusal {
    let failure: Failure = error.into().into();
    let status = match failure.code {
        Code::RegisterFailed => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refusal::new(variant, failure).with_status(status)
}

fn bad(reason: impl Into<String>) -> Refusal {
    Refusal::coded(Variant::SerdeError, Code::UsageInvalid, reason).with_status(StatusCode::BAD_REQUEST)
}

fn missing() -> Refusal {
    Refusal::coded(Variant::InvalidRequestPath, Code::UsageInvalid, "there is none")
        .with_status(StatusCode::NOT_FOUND)
}

fn parse<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    serde_json::from_slice(&bytes(body)?).map_err(|e| bad(e.to_string()))
}

fn ok(body: &impl serde::Serialize, id: &str) -> Answer {
    Ok(reply::json(StatusCode::OK, body, id))
}

/// `POST|PUT /kbs/v0/resource/{repo}/{type}/{tag}`: the body is the secret.
pub(crate) async fn put_resource(
    State(trustee): State<Trustee>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let put = move |t: &Trustee, id: &str| {
        let path = resource_path(&uri)?;
        t.put_secret(&path, &bytes(body)?).map_err(|e| refusal(Variant::PluginInternalError, e))?;
        tracing::info!(request_id = %id, %path, "secret set");
        Ok(reply::done(id))
    };
    trustee.administer(&headers, put).await
}

/// `DELETE /kbs/v0/resource/…`.
pub(crate) async fn delete_resource(
    State(trustee): State<Trustee>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let delete = move |t: &Trustee, id: &str| {
        let path = resource_path(&uri)?;
        let there = t.delete_secret(&path).map_err(|e| refusal(Variant::PluginInternalError, e))?;
        tracing::info!(request_id = %id, %path, there, "secret removed");
        if there { Ok(reply::done(id)) } else { Err(missing()) }
    };
    trustee.administer(&headers, delete).await
}

/// Upstream's reference value message (trustee.md §1.9).
#[derive(Deserialize)]
struct RvpsMessage {
    #[serde(rename = "type")]
    kind: String,
    payload: String,
}

/// `POST /kbs/v0/reference-value`: type `sample`, the payload base64 of a JSON map from name to value or values.
pub(crate) async fn post_reference_values(
    State(trustee): State<Trustee>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let post = move |t: &Trustee, id: &str| {
        let message: RvpsMessage = parse(body)?;
        if message.kind != "sample" {
            return Err(Refusal::coded(
                Variant::RvpsError,
                Code::UsageInvalid,
                "only type `sample` is known",
            ));
        }
        let payload = b64::std_decode(&message.payload).map_err(|e| bad(e.to_string()))?;
        let map: BTreeMap<String, Value> =
            serde_json::from_slice(&payload).map_err(|e| bad(e.to_string()))?;
        let list = |value| match value {
            Value::Array(values) => values,
            single => vec![single],
        };
        let values: BTreeMap<String, Vec<Value>> = map.into_iter().map(|(n, v)| (n, list(v))).collect();
        t.put_reference_values(ADMIN, &values, None).map_err(|e| refusal(Variant::RvpsError, e))?;
        tracing::info!(request_id = %id, count = values.len(), "reference values set");
        Ok(reply::done(id))
    };
    trustee.administer(&headers, post).await
}

/// `GET /kbs/v0/reference-value/{name}`: the values that count now.
pub(crate) async fn get_reference_value(
    State(trustee): State<Trustee>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let get = move |t: &Trustee, id: &str| {
        let values = t.accepted_reference_values(&name).map_err(|e| refusal(Variant::RvpsError, e))?;
        if values.is_empty() {
            return Err(Refusal::coded(Variant::RvpsError, Code::UsageInvalid, "no such reference value"));
        }
        ok(&values, id)
    };
    trustee.administer(&headers, get).await
}

/// A registration on the wire; the digest is in the path.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRegistration {
    name: String,
    /// Standard base64 by path.
    #[serde(default)]
    secrets: BTreeMap<ResourcePath, Zeroizing<String>>,
    #[serde(default)]
    allow: BTreeSet<ResourcePath>,
    #[serde(default)]
    min_status: MinStatus,
    #[serde(default)]
    accept_simulated: bool,
    #[serde(default)]
    expires_unix: Option<u64>,
}

async fn put_workload(
    State(trustee): State<Trustee>,
    Path(digest): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let put = move |t: &Trustee, id: &str| {
        let wire: WireRegistration = parse(body)?;
        let mut secrets = BTreeMap::new();
        for (path, text) in wire.secrets {
            let value =
                b64::std_decode(&text).map_err(|_| bad(format!("the secret {path} is not base64")))?;
            secrets.insert(path, Zeroizing::new(value));
        }
        let registration = Registration {
            digest_hex: digest,
            name: wire.name,
            secrets,
            allow: wire.allow,
            min_status: wire.min_status,
            accept_simulated: wire.accept_simulated,
            expires_unix: wire.expires_unix,
        };
        let workload =
            t.register_workload(&registration).map_err(|e| refusal(Variant::PluginInternalError, e))?;
        tracing::info!(request_id = %id, digest = %workload.digest_hex, name = %workload.name, "workload registered");
        ok(&workload, id)
    };
    trustee.administer(&headers, put).await
}

async fn get_workload(
    State(trustee): State<Trustee>,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Response {
    let get = move |t: &Trustee, id: &str| {
        let workload = t.workload(&digest).map_err(|e| refusal(Variant::PluginInternalError, e))?;
        ok(&workload.ok_or_else(missing)?, id)
    };
    trustee.administer(&headers, get).await
}

async fn delete_workload(
    State(trustee): State<Trustee>,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Response {
    let delete = move |t: &Trustee, id: &str| {
        let there = t.unregister_workload(&digest).map_err(|e| refusal(Variant::PluginInternalError, e))?;
        tracing::info!(request_id = %id, there, "workload unregistered");
        if there { Ok(reply::done(id)) } else { Err(missing()) }
    };
    trustee.administer(&headers, delete).await
}

async fn list_workloads(State(trustee): State<Trustee>, headers: HeaderMap) -> Response {
    let list =
        |t: &Trustee, id: &str| ok(&t.workloads().map_err(|e| refusal(Variant::PluginInternalError, e))?, id);
    trustee.administer(&headers, list).await
}

async fn list_secrets(State(trustee): State<Trustee>, headers: HeaderMap) -> Response {
    let list =
        |t: &Trustee, id: &str| ok(&t.secrets().map_err(|e| refusal(Variant::PluginInternalError, e))?, id);
    trustee.administer(&headers, list).await
}

async fn explain(State(trustee): State<Trustee>, Path(wanted): Path<String>, headers: HeaderMap) -> Response {
    let explain = move |t: &Trustee, id: &str| {
        let found = t.explain(&wanted).map_err(|e| refusal(Variant::PluginInternalError, e))?;
        ok(&found.ok_or_else(missing)?, id)
    };
    trustee.administer(&headers, explain).await
}

#[derive(Deserialize)]
struct Limit {
    limit: Option<usize>,
}

async fn latest(
    State(trustee): State<Trustee>,
    Query(Limit { limit }): Query<Limit>,
    headers: HeaderMap,
) -> Response {
    let latest = move |t: &Trustee, id: &str| {
        let found = t.latest_explanations(limit.unwrap_or(20).min(1000));
        ok(&found.map_err(|e| refusal(Variant::PluginInternalError, e))?, id)
    };
    trustee.administer(&headers, latest).await
}

async fn list_reference_values(State(trustee): State<Trustee>, headers: HeaderMap) -> Response {
    let list =
        |t: &Trustee, id: &str| ok(&t.reference_values().map_err(|e| refusal(Variant::RvpsError, e))?, id);
    trustee.administer(&headers, list).await
}

/// Reference values of one source on the wire.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireReferenceValues {
    source: String,
    values: BTreeMap<String, Vec<Value>>,
    #[serde(default)]
    expires_unix: Option<u64>,
}

async fn put_reference_values(State(trustee): State<Trustee>, headers: HeaderMap, body: Body) -> Response {
    let put = move |t: &Trustee, id: &str| {
        let wire: WireReferenceValues = parse(body)?;
        t.put_reference_values(&wire.source, &wire.values, wire.expires_unix)
            .map_err(|e| refusal(Variant::RvpsError, e))?;
        tracing::info!(request_id = %id, source = %wire.source, count = wire.values.len(), "reference values set");
        Ok(reply::done(id))
    };
    trustee.administer(&headers, put).await
}

#[derive(Deserialize)]
struct BySource {
    source: Option<String>,
}

async fn delete_reference_values(
    State(trustee): State<Trustee>,
    Path(name): Path<String>,
    Query(BySource { source }): Query<BySource>,
    headers: HeaderMap,
) -> Response {
    let delete = move |t: &Trustee, id: &str| {
        let removed = t
            .delete_reference_values(&name, source.as_deref())
            .map_err(|e| refusal(Variant::RvpsError, e))?;
        tracing::info!(request_id = %id, %name, removed, "reference values removed");
        if removed == 0 { Err(missing()) } else { ok(&json!({ "removed": removed }), id) }
    };
    trustee.administer(&headers, delete).await
}
