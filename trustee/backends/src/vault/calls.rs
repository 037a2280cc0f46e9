//! One request to a Vault and what its status means.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use cocoon_http::{Client, HeaderValue, Method, Request, StatusCode};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::value::MAX_ANSWER;
use crate::{Error, secret};

/// An answer: success or 404, with its body.
pub(super) struct Answer {
    pub(super) found: bool,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// Sends requests with the token.
pub(super) struct Caller {
    pub(super) client: Client,
    pub(super) token_file: PathBuf,
    pub(super) token: Mutex<Option<Zeroizing<String>>>,
    pub(super) namespace: Option<HeaderValue>,
}

impl Caller {
    /// Sends a request. A read is sent once more where the connection fails; any request is sent once more where
    /// the token is refused and the file now holds another one.
    pub(super) async fn call(
        &self,
        method: Method,
        url: &str,
        body: Zeroizing<Vec<u8>>,
    ) -> Result<Answer, Error> {
        // Shared, not copied, so that it is wiped when the last request is gone.
        let body = Bytes::from_owner(body);
        let token = self.current_token()?;
        let mut outcome = self.attempt(&method, url, &body, &token).await;
        if method == Method::GET && outcome.as_ref().is_err_and(is_connection_failure) {
            tracing::debug!("connection to the Vault failed, trying once more");
            outcome = self.attempt(&method, url, &body, &token).await;
        }
        let (mut status, mut text) = outcome.map_err(unreachable)?;
        let mut used = token;
        if status == StatusCode::FORBIDDEN {
            let fresh = self.token_from_file()?;
            if *fresh != *used {
                (status, text) = self.attempt(&method, url, &body, &fresh).await.map_err(unreachable)?;
                used = fresh;
            }
        }
        match status.as_u16() {
            200..=299 => Ok(Answer { found: true, body: text }),
            404 => Ok(Answer { found: false, body: text }),
            403 => Err(Error::TokenRefused(self.token_file.display().to_string())),
            _ => Err(refusal(status, &text, &used)),
        }
    }

    async fn attempt(
        &self,
        method: &Method,
        url: &str,
        body: &Bytes,
        token: &str,
    ) -> Result<(StatusCode, Zeroizing<Vec<u8>>), cocoon_http::Error> {
        let unusable = || cocoon_http::Error::Url(url.to_owned());
        let mut header = HeaderValue::from_str(token).map_err(|_| unusable())?;
        header.set_sensitive(true);
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header("x-vault-token", header)
            .header("x-vault-request", "true");
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(body.clone()).map_err(|_| unusable())?;
        let mut response = self.client.send(request).await?;
        let status = response.status;
        let mut text = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await {
            let chunk = chunk?;
            if text.len().saturating_add(chunk.len()) > MAX_ANSWER {
                return Err(cocoon_http::Error::TooLarge(MAX_ANSWER));
            }
            secret::append(&mut text, &chunk);
        }
        Ok((status, text))
    }

    fn current_token(&self) -> Result<Zeroizing<String>, Error> {
        if let Some(token) = &*self.token.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(token.clone());
        }
        self.token_from_file()
    }

    fn token_from_file(&self) -> Result<Zeroizing<String>, Error> {
        let token = secret::line_from_file(&self.token_file)?;
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        Ok(token)
    }
}

fn is_connection_failure(error: &cocoon_http::Error) -> bool {
    use cocoon_http::Error as E;
    matches!(error, E::Resolve { .. } | E::Connect { .. } | E::Protocol(_))
}

fn unreachable(error: cocoon_http::Error) -> Error {
    match error {
        cocoon_http::Error::TooLarge(limit) => {
            Error::Answer(format!("the answer is longer than {limit} bytes"))
        }
        cocoon_http::Error::Protocol(_) => Error::Answer("the answer is broken or not HTTP".into()),
        other => Error::Unavailable(other.to_string()),
    }
}

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

/// The error for a status that is neither success nor 403 nor 404.
fn refusal(status: StatusCode, body: &[u8], token: &str) -> Error {
    let errors = serde_json::from_slice::<Errors>(body).map(|e| e.errors.join("; ")).unwrap_or_default();
    // A server that echoes the token must not bring it into a log.
    let said = if errors.is_empty() || errors.contains(token) {
        String::new()
    } else {
        format!(": {}", secret::tame(&errors, 200))
    };
    match status.as_u16() {
        503 => Error::Unavailable(format!("it is sealed or down for maintenance (503){said}")),
        472 | 473 => Error::Unavailable(format!("this node is a standby ({}){said}", status.as_u16())),
        429 => Error::Unavailable(format!("this node is a standby or limits requests (429){said}")),
        300..=399 => {
            let code = status.as_u16();
            Error::Unavailable(format!(
                "it sends us to another address ({code}), as a standby does; name the active node or its load balancer"
            ))
        }
        code => Error::Answer(format!("status {code}{said}")),
    }
}
