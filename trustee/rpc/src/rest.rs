//! The same interface over REST (upstream's `restful-as`), with errors as JSON.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use cocoon_stage::Code;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::gate::Gate;
use crate::rest_body::{AttestationBody, PolicyBody, challenge};
use crate::{
    AttestationBackend, Authenticate, GrpcCode, Operation, RpcFailure, RpcLimits, decode, grpc, json,
};

/// The interface as a router: `POST /attestation` (answers with the bare token), `POST` and `GET /policy`,
/// `GET /policy/{id}`, `POST /challenge`, `GET /.well-known/jwks.json` and `GET /healthz`.
///
/// All but the last two need authentication. A refusal's status is 400, 401, 403, 404, 413, 429, 500 or 503, its
/// body `{"code", "detail", "request_id"}`. Bodies are at most 4 MiB, 32 are held at a time. Whoever mounts it bounds
/// the time of requests, and puts a [`crate::Connection`] into their extensions; [`crate::serve_rest`] does both.
pub fn rest_router(backend: Arc<dyn AttestationBackend>, auth: Arc<dyn Authenticate>) -> Router {
    router(Gate::new(backend, auth, &RpcLimits::default()))
}

/// For what has no better code.
const CODE: Code = Code::AttestProtocol;

pub(crate) fn router(gate: Gate) -> Router {
    Router::new()
        .route("/attestation", post(attestation))
        .route("/policy", post(set_policy).get(list_policies))
        .route("/policy/{id}", get(get_policy))
        .route("/challenge", post(get_challenge))
        .route("/.well-known/jwks.json", get(jwks))
        .route("/healthz", get(|| async { StatusCode::OK }))
        .fallback(|| async {
            Refused::from(RpcFailure::new(CODE, GrpcCode::NotFound, "there is no such page"))
        })
        .method_not_allowed_fallback(|| async {
            let failure = RpcFailure::new(CODE, GrpcCode::Unimplemented, "there is no such method");
            Refused(failure, StatusCode::METHOD_NOT_ALLOWED)
        })
        .with_state(Arc::new(gate))
}

type PolicyId = Result<Path<String>, PathRejection>;
type Answer = Result<Response<Body>, Refused>;

/// A refused request: why, and with which HTTP status.
pub(crate) struct Refused(pub RpcFailure, pub StatusCode);

impl From<RpcFailure> for Refused {
    fn from(failure: RpcFailure) -> Self {
        let status = failure.http_status();
        Refused(failure, status)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response<Body> {
        let failure = self.0.identified();
        let body = json!({
            "code": failure.code.as_str(),
            "detail": failure.message,
            "request_id": failure.request_id,
        });
        grpc::json(self.1, &body)
    }
}

fn text(kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

async fn body<T: DeserializeOwned>(gate: &Gate, body: Body) -> Result<T, Refused> {
    let limit = gate.message_bytes;
    let too_large = || {
        let failure = RpcFailure::malformed(format!("the body is larger than {limit} bytes"));
        Refused(failure, StatusCode::PAYLOAD_TOO_LARGE)
    };
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    let read = Limited::new(body, limit).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            too_large()
        } else {
            RpcFailure::malformed("a broken stream").into()
        }
    })?;
    let parsed = json::parse(&read.to_bytes());
    parsed.ok_or_else(|| RpcFailure::malformed("the body is not the JSON of this call").into())
}

async fn attestation(State(gate): State<Arc<Gate>>, request: Request) -> Answer {
    let (head, stream) = request.into_parts();
    let (caller, _slot) = gate.admit(&head, Operation::Evaluate).await?;
    let asked = body::<AttestationBody>(&gate, stream).await?.decode()?;
    let token = gate.backend.evaluate(&caller, asked).await?;
    Ok(text("text/plain", token))
}

async fn set_policy(State(gate): State<Arc<Gate>>, request: Request) -> Answer {
    let (head, stream) = request.into_parts();
    let (caller, _slot) = gate.admit(&head, Operation::SetPolicy).await?;
    let PolicyBody { policy_id, policy } = body(&gate, stream).await?;
    decode::policy_id(&policy_id)?;
    let policy = decode::policy_text(&policy)?;
    gate.backend.set_policy(&caller, &policy_id, &policy).await?;
    Ok(grpc::plain(StatusCode::OK))
}

async fn list_policies(State(gate): State<Arc<Gate>>, request: Request) -> Answer {
    let (head, _) = request.into_parts();
    let (caller, _slot) = gate.admit(&head, Operation::ListPolicies).await?;
    let ids = gate.backend.list_policies(&caller).await?;
    Ok(grpc::json(StatusCode::OK, &ids.into_iter().map(|id| json!({"policy-id": id})).collect::<Value>()))
}

async fn get_policy(State(gate): State<Arc<Gate>>, id: PolicyId, request: Request) -> Answer {
    let (head, _) = request.into_parts();
    let (caller, _slot) = gate.admit(&head, Operation::GetPolicy).await?;
    let Path(id) = id.map_err(|_| RpcFailure::malformed("the policy's id is malformed"))?;
    decode::policy_id(&id)?;
    let missing = || RpcFailure::new(Code::PolicyInvalid, GrpcCode::NotFound, "there is no such policy");
    let policy = gate.backend.get_policy(&caller, &id).await?.ok_or_else(missing)?;
    Ok(text("text/plain; charset=utf-8", policy))
}

async fn get_challenge(State(gate): State<Arc<Gate>>, request: Request) -> Answer {
    let (head, stream) = request.into_parts();
    let (caller, _slot) = gate.admit(&head, Operation::Challenge).await?;
    let parameters = challenge(body(&gate, stream).await?)?;
    Ok(text("text/plain", gate.backend.challenge(&caller, parameters).await?))
}

async fn jwks(State(gate): State<Arc<Gate>>) -> Response<Body> {
    grpc::json(StatusCode::OK, &gate.backend.jwks())
}

/// The answer to a request whose time is up.
pub(crate) fn too_slow() -> Response<Body> {
    let failure = RpcFailure::new(CODE, GrpcCode::DeadlineExceeded, "the request took too long");
    Refused(failure, StatusCode::REQUEST_TIMEOUT).into_response()
}
