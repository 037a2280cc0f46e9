//! Paths and methods: the guests' side (`/kbs/v0/…`), health, metrics and public keys, tenants under `/t/NAME`, and
//! administration.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body as HttpBody;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use cocoon_protocol::messages::AttestResponse;
use cocoon_release::ResourcePath;
use cocoon_stage::{Code, Failure};
use http::header::{AUTHORIZATION, CONTENT_TYPE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use serde_json::json;
use tower_service::Service;

use crate::admin::{self, Head};
use crate::plugins::{self, PluginRequest};
use crate::reply::{self, Refusal, Variant};
use crate::session::{Attributes, Session};
use crate::{Trustee, discovery, request_id, tpm_enrolment};

/// Prefix of resource paths.
pub(crate) const RESOURCE: &str = "/kbs/v0/resource/";

/// Marks requests that came over TLS.
#[derive(Clone, Copy)]
pub(crate) struct Secured;

/// From where a request came.
#[derive(Clone, Copy)]
pub(crate) struct Peer(pub SocketAddr);

/// The path as the client asked for it, where a tenant's prefix was taken off.
#[derive(Clone)]
pub(crate) struct AskedPath(pub String);

/// A body, or the refusal of one that is too large or broke off.
pub(crate) type Body = Result<Bytes, BytesRejection>;

pub(crate) fn router(trustee: Trustee) -> Router {
    let kbs = Router::new()
        .route("/auth", post(auth))
        .route("/attest", post(attest))
        .route(
            "/resource/{*path}",
            get(resource).post(admin::put_resource).put(admin::put_resource).delete(admin::delete_resource),
        )
        .route("/resource-policy", get(admin::kbs).post(admin::kbs))
        .route("/attestation-policy", post(admin::kbs))
        .route("/reference-value", post(admin::kbs))
        .route("/reference-value/{*name}", get(admin::kbs))
        .route("/{plugin}", any(plugin))
        .route("/{plugin}/{*path}", any(plugin));
    let mut router = Router::new()
        .nest("/kbs/v0", kbs)
        .route("/cocoon/v0/report", post(report))
        .route("/cocoon/v0/tpm/challenge", post(tpm_enrolment::challenge))
        .route("/cocoon/v0/tpm/activate", post(tpm_enrolment::activate))
        .route("/cocoon/v0/openapi.json", get(openapi))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/.well-known/jwks.json", get(jwks))
        .route("/.well-known/openid-configuration", get(discovery::openid))
        .nest("/cocoon/v0", admin::router());
    if trustee.tenants.is_some() {
        router = router.route("/metrics", get(metrics)).route("/t/{tenant}/{*path}", any(tenant));
    }
    router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(trustee.clone(), admit))
        .with_state(trustee)
}

/// Sets the largest body, as it is configured now: reading it fails beyond. A path that is no text is an unknown one.
async fn admit(State(trustee): State<Trustee>, mut request: Request, next: Next) -> Response {
    if !is_text(request.uri().path()) {
        return unknown(State(trustee), request.uri().clone()).await;
    }
    DefaultBodyLimit::max(trustee.inner.judge().config.body_limit).apply(&mut request);
    next.run(request).await
}

/// Whether a path is UTF-8 once its escapes are decoded.
fn is_text(path: &str) -> bool {
    if !path.contains('%') {
        return true;
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| *first == b'%').and_then(|digits| hex::decode(digits).ok());
        match (escaped.as_deref(), after.get(2..)) {
            (Some([byte]), Some(beyond)) => {
                bytes.push(*byte);
                rest = beyond;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).is_ok()
}

async fn auth(
    State(trustee): State<Trustee>,
    secured: Option<Extension<Secured>>,
    peer: Option<Extension<Peer>>,
    body: Body,
) -> Response {
    let inner = &trustee.inner;
    let (start, now) = (std::time::Instant::now(), inner.now());
    let id = request_id::new(now);
    inner.shared.metrics.auth_requests.inc();
    let answered = bytes(body).and_then(|body| {
        if let Some(Extension(Peer(address))) = peer
            && !inner.shared.peers.handshake(address.ip(), now)
        {
            let reason = format!("{} begins too many handshakes", address.ip());
            return Err(Refusal::coded(Variant::AttestationError, Code::ServerBusy, reason)
                .with_status(StatusCode::TOO_MANY_REQUESTS));
        }
        let (challenge, challenged) = inner.challenge(&body, now)?;
        let cookie =
            Session::challenge_cookie(&challenged, &inner.cookies, trustee.cookie(secured.is_some()));
        with_cookie(reply::json(StatusCode::OK, &challenge, &id), cookie)
    });
    let counted = match &answered {
        Ok(_) => &inner.shared.metrics.auth_successes,
        Err(_) => &inner.shared.metrics.auth_errors,
    };
    counted.inc();
    inner.shared.metrics.stage(crate::metrics::Stage::auth, start.elapsed());
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
    let work = trustee.attesting(move |t| t.inner.attest(&session, &body, &work_id, now)).await;
    let (outcome, recorded) = work.unwrap_or_else(|failure| (Err(Refusal::internal(failure)), None));
    let outcome = match (outcome, recorded) {
        // No token leaves that is not in the log.
        (Ok(token), Some(recorded)) => {
            recorded.durable(&trustee.inner).await.map(|()| token).map_err(Refusal::internal)
        }
        (Ok(_), None) => Err(Refusal::internal(Failure::new(Code::Internal, "a token without a record"))),
        (Err(refusal), recorded) => {
            if let Some(recorded) = recorded {
                recorded.later();
            }
            Err(refusal)
        }
    };
    let answered = outcome.and_then(|token| {
        let cookie = Session::token_cookie(&token, &trustee.inner.cookies, trustee.cookie(secured.is_some()));
        with_cookie(reply::json(StatusCode::OK, &AttestResponse { token }, &id), cookie)
    });
    answered.unwrap_or_else(|refusal| refusal.response(&id))
}

async fn resource(
    State(trustee): State<Trustee>,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let now = trustee.inner.now();
    let id = request_id::new(now);
    let path = match resource_path(&uri) {
        Ok(path) => path,
        Err(refusal) => return refusal.response(&id),
    };
    let token = trustee.token(&headers);
    let (work_id, query) = (id.clone(), json!(query));
    let work =
        trustee.reading(move |t| t.inner.release(token.as_deref(), &path, &query, &work_id, now)).await;
    let (outcome, recorded) = work.unwrap_or_else(|failure| (Err(Refusal::internal(failure)), None));
    match (outcome, recorded) {
        (Ok(jwe), Some(recorded)) => match recorded.durable(&trustee.inner).await {
            Ok(()) => reply::json(StatusCode::OK, &jwe, &id),
            Err(failure) => Refusal::internal(failure).response(&id),
        },
        (Ok(_), None) => {
            Refusal::internal(Failure::new(Code::Internal, "a release without a record")).response(&id)
        }
        (Err(refusal), recorded) => {
            if let Some(recorded) = recorded {
                recorded.later();
            }
            refusal.response(&id)
        }
    }
}

/// Everything else under `/kbs/v0`: the plugin that the first segment names.
async fn plugin(
    State(trustee): State<Trustee>,
    Path(segments): Path<BTreeMap<String, String>>,
    Query(query): Query<BTreeMap<String, String>>,
    head: Head,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let id = head.id.clone();
    let answered = async {
        let body = bytes(body)?;
        let name = segments.get("plugin").map(String::as_str).unwrap_or_default();
        let rest = segments.get("path").map(String::as_str).unwrap_or_default();
        let path: Vec<String> = rest.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect();
        if path.len() > 16 || path.iter().any(|s| s == "." || s == ".." || s.chars().any(char::is_control)) {
            return Err(Refusal::coded(Variant::InvalidRequestPath, Code::UsageInvalid, "a plugin's path")
                .with_status(StatusCode::NOT_FOUND));
        }
        let request =
            PluginRequest { method: head.method.to_string(), path, query, body, init_data_claims: None };
        plugins::answer(&trustee, name, request, &head, trustee.token(&headers)).await
    };
    answered.await.unwrap_or_else(|refusal: Refusal| refusal.response(&id))
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

/// A tenant's requests: the same paths below `/t/NAME`. An unknown tenant looks like an unknown path.
async fn tenant(
    State(trustee): State<Trustee>,
    Path((name, rest)): Path<(String, String)>,
    mut request: Request<HttpBody>,
) -> Response {
    let id = request_id::new(trustee.inner.now());
    let no_such = || {
        Refusal::coded(Variant::InvalidRequestPath, Code::UsageInvalid, "no such path")
            .with_status(StatusCode::NOT_FOUND)
            .response(&id)
    };
    let wanted = name.clone();
    let opened = trustee
        .writing(move |t| t.tenants.as_ref().map_or(Ok(None), |tenants| tenants.open(&t.inner, &wanted)));
    let opened = match opened.await {
        Ok(Ok(Some(opened))) => opened,
        Ok(Ok(None)) => return no_such(),
        Ok(Err(error)) => return Refusal::internal(error).response(&id),
        Err(failure) => return Refusal::internal(failure).response(&id),
    };
    let asked = request.uri().path().to_owned();
    // The rest as it stands in the request line, not decoded.
    let Some(inner_path) = asked.strip_prefix(&format!("/t/{name}")).map(str::to_owned) else {
        return no_such();
    };
    debug_assert!(!rest.is_empty());
    let target = match request.uri().query() {
        Some(query) => format!("{inner_path}?{query}"),
        None => inner_path,
    };
    let Ok(uri) = target.parse::<Uri>() else { return no_such() };
    *request.uri_mut() = uri;
    request.extensions_mut().insert(AskedPath(asked));
    let mut opened = opened;
    let answered = opened.call(request).await;
    answered.unwrap_or_else(|never| match never {})
}

async fn metrics(State(trustee): State<Trustee>) -> Response {
    if !trustee.inner.judge().config.metrics {
        return unknown(State(trustee), Uri::from_static("/metrics")).await;
    }
    let text = trustee.inner.shared.metrics.text();
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(CONTENT_TYPE, kind)], text).into_response()
}

/// Whether the state can be read: 200, or 503.
async fn ready(State(trustee): State<Trustee>) -> Response {
    let id = request_id::new(trustee.inner.now());
    match trustee.writing(|t| t.inner.store.get("trustee", "ready")).await {
        Ok(Ok(_)) => reply::raw("text/plain", b"ready".to_vec(), &id),
        Ok(Err(error)) => Refusal::internal(error).with_status(StatusCode::SERVICE_UNAVAILABLE).response(&id),
        Err(failure) => Refusal::internal(failure).response(&id),
    }
}

async fn jwks(State(trustee): State<Trustee>) -> Response {
    reply::json(StatusCode::OK, &trustee.jwks(), &request_id::new(trustee.inner.now()))
}

async fn openapi(State(trustee): State<Trustee>) -> Response {
    reply::json(StatusCode::OK, &admin::openapi(), &request_id::new(trustee.inner.now()))
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
    // Nested routers see the path with or without its prefix.
    let path = uri.path();
    let path = path.strip_prefix(RESOURCE).or_else(|| path.strip_prefix("/resource/")).unwrap_or_default();
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
        let max_age = self.inner.judge().config.session_lifetime.as_secs();
        Attributes { path: self.inner.cookie_path(), secure, max_age }
    }

    /// The token of a request: of its session's cookie, else of its `Authorization` header.
    fn token(&self, headers: &HeaderMap) -> Option<String> {
        match Session::read(headers, &self.inner.cookies) {
            Session::Attested(token) => Some(token),
            _ => bearer(headers).map(str::to_owned),
        }
    }
}
