//! Administration over HTTP: one table of operations, from which both the routes and the OpenAPI document are made.
//!
//! Everything here needs an administrator (see `cocoon_access`); by default there is none. Nothing of a request but its
//! head is looked at before the check. Each change is in the audit log before it is answered.

mod audit;
mod backup;
mod head;
mod kbs;
mod openapi;
mod operations;
mod policies;
mod references;
mod rules;
mod secrets;
mod tenants;
mod verdicts;
mod workloads;

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::response::Response;
use axum::routing::{MethodRouter, on};
use bytes::Bytes;
use cocoon_stage::{Code, Failure};
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;

use crate::reply::{self, Refusal, Variant};
use crate::router::bytes;
use crate::{Error, Trustee};

pub(crate) use head::{Admin, Head, Owner, act};
pub(crate) use kbs::kbs;
pub use openapi::openapi;
pub(crate) use secrets::{delete_resource, put_resource};

/// What an operation answers.
pub(crate) type Answer = Result<Response, Refusal>;

/// An admitted request.
pub(crate) struct Call {
    /// Request id.
    pub id: String,
    /// Who asks.
    pub admin: Admin,
    /// Path parameters.
    pub params: BTreeMap<String, String>,
    /// The query.
    pub query: BTreeMap<String, String>,
    /// The body.
    pub body: Bytes,
    /// Now, in seconds since 1970.
    pub now: u64,
}

/// One operation of the API.
pub(crate) struct Operation {
    /// HTTP method.
    pub method: Method,
    /// Path below `/cocoon/v0`, parameters in braces.
    pub path: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Name of the request body's schema, if it takes one.
    pub takes: Option<&'static str>,
    /// Name of the answer's schema, if it has a body.
    pub gives: Option<&'static str>,
    /// Query parameters with their meaning.
    pub query: &'static [(&'static str, &'static str)],
    /// Whether the audit log needs no entry: it changes nothing and reveals no secret.
    pub quiet: bool,
    /// Does it, on a thread that may block.
    pub work: fn(&Trustee, &Call) -> Answer,
}

/// The paths under `/cocoon/v0`.
pub(crate) fn router() -> Router<Trustee> {
    let mut by_path: BTreeMap<&str, MethodRouter<Trustee>> = BTreeMap::new();
    for operation in operations::all() {
        let path = operation.path;
        let Ok(filter) = operation.method.clone().try_into() else { continue };
        let handler = move |State(trustee): State<Trustee>,
                            Path(params): Path<BTreeMap<String, String>>,
                            Query(query): Query<BTreeMap<String, String>>,
                            head: Head,
                            request: Request| async move {
            trustee.administer(head, params, query, request, operation.quiet, operation.work).await
        };
        let methods = by_path.remove(path).unwrap_or_default();
        by_path.insert(path, methods.merge(on(filter, handler)));
    }
    by_path.into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods))
}

impl Trustee {
    /// Admits the caller, does the work on a thread that may block, and keeps the act.
    pub(crate) async fn administer(
        &self,
        head: Head,
        params: BTreeMap<String, String>,
        query: BTreeMap<String, String>,
        request: Request,
        quiet: bool,
        work: impl FnOnce(&Trustee, &Call) -> Answer + Send + 'static,
    ) -> Response {
        let id = head.id.clone();
        let admin = match self.authorize(&head).await {
            Ok(admin) => admin,
            Err(refusal) => return refusal.response(&id),
        };
        // Not read before: who may not administer takes no memory either.
        let body = Bytes::from_request(request, &()).await;
        let (trustee, act, request_id) = (self.clone(), act(&head), id.clone());
        let acting = self.to_its_end(async move {
            let answered = async {
                let body = bytes(body)?;
                let (id, admin, now) = (request_id.clone(), admin.clone(), trustee.inner.now());
                let call = Call { id, admin, params, query, body, now };
                trustee.writing(move |t| work(t, &call)).await.map_err(Refusal::internal)?
            };
            let mut answer = answered.await;
            if !quiet {
                let refused = answer.as_ref().err().map(|r| r.failure.code);
                let recorded = trustee.inner.record_admin(&request_id, &admin.name, &act, refused);
                // The change is made; that it is not in the log is what the administrator must know.
                if let Err(failure) = recorded.durable(&trustee.inner).await {
                    answer = answer.and(Err(Refusal::internal(failure)));
                }
            }
            answer
        });
        let answer = acting.await.unwrap_or_else(|failure| Err(Refusal::internal(failure)));
        answer.map_err(Refusal::for_admin).unwrap_or_else(|refusal| refusal.response(&id))
    }
}

/// A failure in an administrator's request: what they sent is 400, what is used up 429 or 507, what Trustee could not do
/// 500.
pub(crate) fn refusal(variant: Variant, error: impl Into<Error>) -> Refusal {
    let failure: Failure = error.into().into();
    let status = match failure.code {
        Code::RegisterFailed
        | Code::UsageInvalid
        | Code::PolicyInvalid
        | Code::ReferenceInvalid
        | Code::ConfigInvalid => StatusCode::BAD_REQUEST,
        Code::StoreQuota => StatusCode::INSUFFICIENT_STORAGE,
        Code::StoreUnavailable | Code::StoreBusy | Code::ServerBusy => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refusal::new(variant, failure).with_status(status)
}

pub(crate) fn bad(reason: impl Into<String>) -> Refusal {
    Refusal::coded(Variant::SerdeError, Code::UsageInvalid, reason).with_status(StatusCode::BAD_REQUEST)
}

pub(crate) fn missing() -> Refusal {
    Refusal::coded(Variant::InvalidRequestPath, Code::UsageInvalid, "there is none")
        .with_status(StatusCode::NOT_FOUND)
}

impl Call {
    /// The body, a JSON object: a list would be read as the members in their order.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        if self.body.trim_ascii_start().first() != Some(&b'{') {
            return Err(bad("the body is no JSON object"));
        }
        serde_json::from_slice(&self.body).map_err(|e| bad(e.to_string()))
    }

    /// A path parameter; the routes make sure that it is there.
    pub fn param(&self, name: &str) -> &str {
        self.params.get(name).map(String::as_str).unwrap_or_default()
    }

    /// A number of the query.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let parse = |text: &String| text.parse().map_err(|_| bad(format!("{name} is no such number")));
        self.query.get(name).map(parse).transpose()
    }

    /// Answers with JSON.
    pub fn ok(&self, body: &impl serde::Serialize) -> Answer {
        Ok(reply::json(StatusCode::OK, body, &self.id))
    }

    /// Answers that it is done.
    pub fn done(&self) -> Answer {
        Ok(reply::done(&self.id))
    }

    /// Answers that it is done, or that there was nothing of that name.
    pub fn done_if(&self, there: bool) -> Answer {
        if there { self.done() } else { Err(missing()) }
    }
}
