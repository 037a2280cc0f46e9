//! Answers to guests and administrators: errors in upstream's form, with code and request id.

use axum::response::{IntoResponse, Response};
use cocoon_protocol::messages::ErrorInformation;
use cocoon_stage::{Code, Failure};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};

/// Prefix of the error types that upstream's clients expect.
const TYPES: &str = "https://github.com/confidential-containers/kbs/errors/";
/// Header with the stable code; guests tell "attest again" from "denied" by it, since upstream's status is the same.
const CODE: HeaderName = HeaderName::from_static("x-cocoon-code");
/// Header with the request id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Upstream's name of an error (trustee.md §1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    AdminAuthAccess,
    AttestationError,
    InvalidRequestPath,
    JweError,
    PluginInternalError,
    PluginNotFound,
    PolicyDeny,
    PolicyEngineError,
    RvpsError,
    SerdeError,
    TokenNotFound,
    TokenVerifierError,
}

/// A refusal on its way out.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub status: StatusCode,
    pub variant: Variant,
    pub failure: Failure,
    /// Whether the caller has proved to be an administrator, who may read the reason.
    pub to_admin: bool,
    /// Words that the caller may read, or that its program looks for; they tell nothing of what is kept here.
    pub words: Option<String>,
}

impl Refusal {
    /// A refusal with upstream's usual status, 401.
    pub fn new(variant: Variant, failure: Failure) -> Self {
        Refusal { status: StatusCode::UNAUTHORIZED, variant, failure, to_admin: false, words: None }
    }

    pub fn coded(variant: Variant, code: Code, reason: impl Into<String>) -> Self {
        Refusal::new(variant, Failure::new(code, reason))
    }

    /// Trustee's own trouble: no fault of the guest, and attesting again would not help it.
    pub fn internal(failure: impl Into<Failure>) -> Self {
        Refusal {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            ..Refusal::new(Variant::PluginInternalError, failure.into())
        }
    }

    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    #[must_use]
    pub fn saying(mut self, words: impl Into<String>) -> Self {
        self.words = Some(words.into());
        self
    }

    #[must_use]
    pub fn for_admin(mut self) -> Self {
        self.to_admin = true;
        self
    }

    /// The response: to a guest code and id only, to an administrator the reason too.
    pub fn response(self, request_id: &str) -> Response {
        let code = self.failure.code;
        tracing::info!(%request_id, %code, reason = %self.failure.reason, "refused");
        let mut detail = format!("{code} (request {request_id})");
        if let Some(words) = self.words.as_deref().or(self.to_admin.then_some(&*self.failure.reason)) {
            detail.push_str(": ");
            detail.push_str(words);
        }
        let body = ErrorInformation { type_: format!("{TYPES}{:?}", self.variant), detail };
        let mut response = json(self.status, &body, request_id);
        response.headers_mut().insert(CODE, HeaderValue::from_static(code.as_str()));
        if self.variant == Variant::AdminAuthAccess && self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A JSON answer, never to be cached.
pub(crate) fn json(status: StatusCode, body: &impl serde::Serialize, request_id: &str) -> Response {
    let (status, text) = match serde_json::to_vec(body) {
        Ok(text) => (status, text),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, b"{}".to_vec()),
    };
    let mut response = (status, text).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// Bytes as they are, never to be cached.
pub(crate) fn raw(content_type: &str, body: Vec<u8>, request_id: &str) -> Response {
    let mut response = (StatusCode::OK, body).into_response();
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_str(content_type);
    headers
        .insert(CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// Success without content, as upstream answers writes.
pub(crate) fn done(request_id: &str) -> Response {
    let mut response = StatusCode::OK.into_response();
    if let Ok(id) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
