//! Paths and methods of the guests' side: `/kbs/v0/…`, health and public keys.

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use cocoon_protocol::messages::AttestResponse;
use cocoon_release::ResourcePath;
use cocoon_stage::{Code, Failure};
use http::header::{AUTHORIZATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use crate::reply::{self, Refusal, Variant};
use crate::session::{Attributes, Session};
use crate::{Trustee, admin, request_id};

/// Largest request body, as upstream's default.
pub(crate) const MAX_BODY: usize = 2 * 1024 * 1024;

/// Prefix of resource paths.
pub(crate) const RESOURCE: &str = "/kbs/v0/resource/";

/// Marks requests that came over TLS.
#[derive(Clone, Copy)]
pub(crate) struct Secured;

/// A body, or the refusal of one that is too large or broke off.
pub(crate) type Body = Result<Bytes, BytesRejection>;

pub(crate) fn router(trustee: Trustee) -> Router {
    Router::new()
        .route("/kbs/v0/auth", post(auth))
        .route("/kbs/v0/attest", post(attest))
        .route(
            "/kbs/v0/resource/{*path}",
            get(resource).post(admin::put_resource).put(admin::put_resource).delete(admin::delete_resource),
        )
        .route("/kbs/v0/reference-value", post(admin::post_reference_values))
        .route("/kbs/v0/reference-value/{*name}", get(admin::get_reference_value))
        .route("/cocoon/v0/report", post(report))
        .route("/healthz", get(|| async { "ok" }))
        .route("/.well-known/jwks.json", get(jwks))
        .nest("/cocoon/v0", admin::router())
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(trustee)
}

async fn auth(State(trustee): State<Trustee>, secured: Option<Extension<Secured>>, body: Body) -> Response {
    let inner = &trustee.inner;
    let now = inner.now();
    let id = request_id::new(now);
    let answered = bytes(body).and_then(|body| {
        let (challenge, challenged) = inner.challenge(&body, now)?;
        let cookie =
            Session::challenge_cookie(&challenged, &inner.cookies, trustee.cookie(secured.is_some()));
        with_cookie(reply::json(StatusCode::OK, &challenge, &id), cookie)
    });
    answered.unwrap_or_else(|refusal| refusal.response(&id))
}

async fn attest(
    State(trustee): State<Trustee>,
    secured: Option<Extension<Secured>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let now = trustee.inner.now();
    let id = request_id::new(now);
    let body = match bytes(body) {
        Ok(body) => body,
        Err(refusal) => return refusal.response(&id),
    };
    let session = Session::read(&headers, &trustee.inner.cookies);
    let work_id = id.clone();
    let outcome = trustee.reading(move |t| t.inner.attest(&session, &body, &work_id, now)).await;
    let answered = outcome.unwrap_or_else(|failure| Err(Refusal::internal(failure))).and_then(|token| {
        let cookie = Session::token_cookie(&token, &trustee.inner.cookies, trustee.cookie(secured.is_some()));
        with_cookie(reply::json(StatusCode::OK, &AttestResponse { token }, &id), cookie)
    });
    answered.unwrap_or_else(|refusal| refusal.response(&id))
}

async fn resource(State(trustee): State<Trustee>, uri: Uri, headers: HeaderMap) -> Response {
    let now = trustee.inner.now();
    let id = request_id::new(now);
    let path = match resource_path(&uri) {
        Ok(path) => path,
        Err(refusal) => return refusal.response(&id),
    };
    let token = match Session::read(&headers, &trustee.inner.cookies) {
        Session::Attested(token) => Some(token),
        _ => bearer(&headers).map(str::to_owned),
    };
    let work_id = id.clone();
    let outcome = trustee.reading(move |t| t.inner.release(token.as_deref(), &path, &work_id, now)).await;
    match outcome.unwrap_or_else(|failure| Err(Refusal::internal(failure))) {
        Ok(jwe) => reply::json(StatusCode::OK, &jwe, &id),
        Err(refusal) => refusal.response(&id),
    }
}

/// What went wrong inside an attested guest, for its owner: `{"stage", "code", "reason"}` with the token.
async fn report(State(trustee): State<Trustee>, headers: HeaderMap, body: Body) -> Response {
    let now = trustee.inner.now();
    let id = request_id::new(now);
    let body = match bytes(body) {
        Ok(body) => body,
        Err(refusal) => return refusal.response(&id),
    };
    let token = bearer(&headers).map(str::to_owned);
    let work_id = id.clone();
    let outcome =
        trustee.reading(move |t| t.inner.guest_report(token.as_deref(), &body, &work_id, now)).await;
    match outcome.unwrap_or_else(|failure| Err(Refusal::internal(failure))) {
        Ok(()) => reply::done(&id),
        Err(refusal) => refusal.response(&id),
    }
}

async fn jwks(State(trustee): State<Trustee>) -> Response {
    reply::json(StatusCode::OK, trustee.jwks(), &request_id::new(trustee.inner.now()))
}

async fn unknown(State(trustee): State<Trustee>, uri: Uri) -> Response {
    let variant = if uri.path().starts_with("/kbs/v0/") {
        Variant::PluginNotFound
    } else {
        Variant::InvalidRequestPath
    };
    Refusal::coded(variant, Code::UsageInvalid, "no such path")
        .with_status(StatusCode::NOT_FOUND)
        .response(&request_id::new(trustee.inner.now()))
}

async fn wrong_method(State(trustee): State<Trustee>, method: Method) -> Response {
    Refusal::coded(Variant::InvalidRequestPath, Code::UsageInvalid, format!("method {method}"))
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
        .response(&request_id::new(trustee.inner.now()))
}

/// The resource path as it stands in the request line. Escapes are not decoded: no allowed path needs one.
pub(crate) fn resource_path(uri: &Uri) -> Result<ResourcePath, Refusal> {
    let path = uri.path().strip_prefix(RESOURCE).unwrap_or_default();
    path.parse().map_err(|error: cocoon_release::Error| {
        Refusal::new(Variant::InvalidRequestPath, Failure::new(Code::UsageInvalid, error.to_string()))
            .with_status(StatusCode::NOT_FOUND)
    })
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|t| !t.is_empty())
}

pub(crate) fn bytes(body: Body) -> Result<Bytes, Refusal> {
    body.map_err(|rejection| {
        let status = rejection.into_response().status();
        Refusal::coded(Variant::SerdeError, Code::AttestProtocol, "the body is too large or broke off")
            .with_status(status)
    })
}

fn with_cookie(mut response: Response, cookie: Option<String>) -> Result<Response, Refusal> {
    let value = cookie.and_then(|c| HeaderValue::from_str(&c).ok());
    let value =
        value.ok_or_else(|| Refusal::internal(Failure::new(Code::Internal, "no cookie could be made")))?;
    response.headers_mut().insert(SET_COOKIE, value);
    Ok(response)
}

impl Trustee {
    fn cookie(&self, secure: bool) -> Attributes {
        Attributes { secure, max_age: self.inner.config.session_lifetime.as_secs() }
    }
}
