//! What relying parties look up before they check a token: OpenID Connect discovery (issuer and key set).

use axum::extract::{Extension, State};
use axum::response::Response;
use http::header::HOST;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::router::Secured;
use crate::{Trustee, reply, request_id};

/// `GET /.well-known/openid-configuration`.
///
/// The address is the configured one; without it the one by which the client came, which then only it is told.
pub(crate) async fn openid(
    State(trustee): State<Trustee>,
    secured: Option<Extension<Secured>>,
    headers: HeaderMap,
) -> Response {
    let judge = trustee.inner.judge();
    let tenant = trustee.inner.tenant.as_ref().map(|t| format!("/t/{}", t.name)).unwrap_or_default();
    let base = match &judge.config.public_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => {
            let host = headers.get(HOST).and_then(|h| h.to_str().ok()).filter(|h| plain_host(h));
            let scheme = if secured.is_some() { "https" } else { "http" };
            format!("{scheme}://{}", host.unwrap_or("localhost"))
        }
    };
    let body = json!({
        "issuer": judge.config.issuer,
        "jwks_uri": format!("{base}{tenant}/.well-known/jwks.json"),
        "id_token_signing_alg_values_supported": ["ES256"],
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
    });
    reply::json(StatusCode::OK, &body, &request_id::new(trustee.inner.now()))
}

/// A host and port, and nothing that could break out of a URL.
fn plain_host(host: &str) -> bool {
    host.len() <= 255
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'))
}
