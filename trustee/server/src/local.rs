//! The admin API without a network: for the owner's program in whose process this Trustee runs.

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use cocoon_stage::{Code, Failure};
use http::{Method, Request};
use tower_service::Service;

use crate::Trustee;
use crate::admin::Owner;

/// Largest answer taken.
const MAX_ANSWER: usize = 64 << 20;

/// What the API answered.
#[derive(Clone, Debug)]
pub struct LocalAnswer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

impl Trustee {
    /// Makes a request of the admin API as the owner, who needs no credentials here. `path` begins with a slash
    /// (`/cocoon/v0/…`).
    ///
    /// # Errors
    /// A failure of the request itself; a refusal is an answer.
    pub async fn local(&self, method: Method, path: &str, body: Bytes) -> Result<LocalAnswer, Failure> {
        let failed = |reason: String| Failure::new(Code::Internal, reason);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::from(body))
            .map_err(|e| failed(e.to_string()))?;
        request.extensions_mut().insert(Owner);
        let answer = self.router().call(request).await.unwrap_or_else(|never| match never {});
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), MAX_ANSWER).await.map_err(|e| failed(e.to_string()))?;
        Ok(LocalAnswer { status, body })
    }
}
