//! HTTP requests as text: a line `METHOD PATH`, lines `name: value`, an empty line, the body.

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{Method, Request};
use tower_service::Service;

/// Largest answer that is looked at.
const MAX_ANSWER: usize = 64 << 20;

/// An answer.
pub struct Answer {
    pub status: u16,
    /// Name and value of the cookie that it sets.
    pub cookie: Option<String>,
    pub body: Bytes,
}

/// Method, path and what follows the first line.
pub fn first_line(bytes: &[u8]) -> Option<(Method, &str, &[u8])> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let line = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let (method, path) = line.split_once(' ')?;
    Some((method.parse().ok()?, path, bytes.get(end + 1..)?))
}

/// The request that a text stands for; `None` where no HTTP server would get as far as a handler.
pub fn parse(bytes: &[u8]) -> Option<Request<Body>> {
    let (method, path, mut rest) = first_line(bytes)?;
    let mut request = Request::builder().method(method).uri(path);
    while let Some(end) = rest.iter().position(|b| *b == b'\n') {
        let (line, after) = (rest.get(..end)?, rest.get(end + 1..)?);
        rest = after;
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|b| *b == b':')?;
        request = request.header(line.get(..colon)?, line.get(colon + 1..)?.trim_ascii());
    }
    request.body(Body::from(rest.to_vec())).ok()
}

/// What the service answers.
pub async fn send(mut service: axum::Router, request: Request<Body>) -> Answer {
    let response = service.call(request).await.unwrap_or_else(|never| match never {});
    let cookie = response.headers().get("set-cookie").and_then(|value| value.to_str().ok());
    let cookie = cookie.and_then(|value| value.split(';').next()).map(str::to_owned);
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), MAX_ANSWER).await.expect("a body of bounded length");
    Answer { status, cookie, body }
}

/// A POST with a JSON body.
pub fn post(path: &str, cookie: Option<&str>, body: &[u8]) -> Request<Body> {
    let mut request =
        Request::builder().method(Method::POST).uri(path).header("content-type", "application/json");
    if let Some(cookie) = cookie {
        request = request.header("cookie", cookie);
    }
    request.body(Body::from(body.to_vec())).expect("a request")
}

/// Replaces every occurrence of a word.
pub fn replaced(text: &[u8], word: &str, by: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(word.len()).position(|window| window == word.as_bytes()) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(by.as_bytes());
        rest = &rest[at + word.len()..];
    }
    out.extend_from_slice(rest);
    out
}
