//! gRPC's side of the listener: from a request's path to the backend and back.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use cocoon_stage::Code;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use prost::Message;

use crate::framing::{self, BadFrame};
use crate::gate::Gate;
use crate::messages::{
    AttestationRequest, AttestationResponse, ChallengeRequest, ChallengeResponse, HealthCheckRequest,
    HealthCheckResponse, Nothing, QueryRequest, QueryResponse, RegisterRequest, SERVING, SetPolicyRequest,
};
use crate::{GrpcCode, Operation, RpcFailure, decode, status};

const HEALTH: &str = "/grpc.health.v1.Health/Check";
const JWKS: &str = "/.well-known/jwks.json";
/// What the health service knows; the empty name is the whole server.
const SERVICES: [&str; 3] = ["", "attestation.AttestationService", "reference.ReferenceValueProviderService"];
/// Most bytes of a health request, which anybody may send.
const MAX_HEALTH: usize = 1024;

/// Answers one request of a connection within `limit`: gRPC over HTTP/2, the public keys over either version.
pub(crate) async fn answer(gate: &Gate, request: Request<Incoming>, limit: Duration) -> Response<Body> {
    let (head, body) = request.into_parts();
    if head.method == Method::GET && head.uri.path() == JWKS {
        return json(StatusCode::OK, &gate.backend.jwks());
    }
    if head.method != Method::POST || head.version != Version::HTTP_2 {
        return plain(StatusCode::NOT_FOUND);
    }
    if !status::is_grpc(&head.headers) {
        return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let limit = match status::timeout_of(&head.headers) {
        Ok(asked) => asked.map_or(limit, |asked| asked.min(limit)),
        Err(failure) => return status::refusal(failure),
    };
    match tokio::time::timeout(limit, call(gate, &head, body)).await {
        Ok(Ok(framed)) => status::success(framed),
        Ok(Err(failure)) => status::refusal(failure),
        Err(_) => status::refusal(RpcFailure::new(
            Code::AttestProtocol,
            GrpcCode::DeadlineExceeded,
            "the request took too long",
        )),
    }
}

/// An answer without a body.
pub(crate) fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// An answer of JSON.
pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(crate) async fn read<M: Message + Default>(body: Incoming, limit: usize) -> Result<M, RpcFailure> {
    let read = framing::read(body, limit).await;
    let message = read.and_then(|(framed, _)| framing::decode(&framing::unframe(framed, limit)?));
    message.map_err(|error| {
        let status = match error {
            BadFrame::Compressed => GrpcCode::Unimplemented,
            BadFrame::TooLarge(_) => GrpcCode::ResourceExhausted,
            _ => GrpcCode::InvalidArgument,
        };
        RpcFailure::new(Code::AttestProtocol, status, error.to_string())
    })
}

async fn call(gate: &Gate, head: &Parts, body: Incoming) -> Result<Bytes, RpcFailure> {
    let path = head.uri.path();
    if path == HEALTH {
        let asked: HealthCheckRequest = read(body, MAX_HEALTH).await?;
        if !SERVICES.contains(&asked.service.as_str()) {
            return Err(RpcFailure::new(
                Code::AttestProtocol,
                GrpcCode::NotFound,
                "there is no such service",
            ));
        }
        return Ok(framing::frame(&HealthCheckResponse { status: SERVING }));
    }
    let operation = Operation::from_grpc_path(path).ok_or_else(unimplemented)?;
    let (caller, _slot) = gate.admit(head, operation).await?;
    let limit = gate.message_bytes;
    match operation {
        Operation::Evaluate => {
            let request = decode::evaluate(read::<AttestationRequest>(body, limit).await?)?;
            let attestation_token = gate.backend.evaluate(&caller, request).await?;
            Ok(framing::frame(&AttestationResponse { attestation_token }))
        }
        Operation::Challenge => {
            let parameters = decode::parameters(read::<ChallengeRequest>(body, limit).await?.inner)?;
            let attestation_challenge = gate.backend.challenge(&caller, parameters).await?;
            Ok(framing::frame(&ChallengeResponse { attestation_challenge }))
        }
        Operation::SetPolicy => {
            let SetPolicyRequest { policy_id, policy } = read(body, limit).await?;
            decode::policy_id(&policy_id)?;
            gate.backend.set_policy(&caller, &policy_id, &decode::policy_text(&policy)?).await?;
            Ok(framing::frame(&Nothing {}))
        }
        Operation::QueryReference => {
            let id = read::<QueryRequest>(body, limit).await?.reference_value_id;
            decode::reference_id(&id)?;
            let value = gate.backend.query_reference_value(&caller, &id).await?;
            Ok(framing::frame(&QueryResponse { reference_value_results: value.map(|v| v.to_string()) }))
        }
        Operation::RegisterReference => {
            let message = decode::reference_message(read::<RegisterRequest>(body, limit).await?.message)?;
            gate.backend.register_reference_value(&caller, message).await?;
            Ok(framing::frame(&Nothing {}))
        }
        Operation::ListPolicies | Operation::GetPolicy => Err(unimplemented()),
    }
}

fn unimplemented() -> RpcFailure {
    RpcFailure::new(Code::AttestProtocol, GrpcCode::Unimplemented, "there is no such method")
}
