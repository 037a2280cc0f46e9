//! One request: scheme, credentials, tokens, redirects, and what is tried again.

use std::sync::PoisonError;

use bytes::Bytes;
use cocoon_http::Response;
use cocoon_image::Reference;
use http::{HeaderName, Method, StatusCode, Uri, header};
use zeroize::Zeroizing;

use crate::challenge::{Challenge, TokenAnswer, query_value};
use crate::{Client, Error};

const MAX_REDIRECTS: u32 = 5;
const MAX_TOKEN_ANSWER: usize = 256 * 1024;

/// A request to a registry, before it is known how to authorise it.
pub(crate) struct Ask {
    method: Method,
    /// Path below `/v2/`, or an absolute URL (upload locations).
    target: String,
    headers: Vec<(HeaderName, String)>,
    body: Bytes,
    push: bool,
}

impl Ask {
    pub(crate) fn new(method: Method, target: &str) -> Self {
        let push = method != Method::GET && method != Method::HEAD;
        Ask { method, target: target.to_owned(), headers: Vec::new(), body: Bytes::new(), push }
    }

    /// Asks for the right to push too, though the request itself only reads.
    pub(crate) fn for_push(mut self) -> Self {
        self.push = true;
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, kind: &str, body: Bytes) -> Self {
        self.body = body;
        self.header(header::CONTENT_TYPE, kind)
    }

    fn request(&self, uri: &Uri, authorization: Option<&str>) -> Result<http::Request<Bytes>, Error> {
        let mut builder = http::Request::builder().method(self.method.clone()).uri(uri.clone());
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        if let Some(value) = authorization {
            let mut value = http::HeaderValue::from_str(value)
                .map_err(|_| Error::Auth("the credentials cannot be sent in a header".to_owned()))?;
            value.set_sensitive(true);
            builder = builder.header(header::AUTHORIZATION, value);
        }
        builder.body(self.body.clone()).map_err(|e| Error::Transport(e.to_string()))
    }
}

impl Client {
    /// Whether this registry is spoken to in plain HTTP.
    pub(crate) fn is_plain(&self, reference: &Reference) -> bool {
        reference.is_loopback() || self.plain.contains(&reference.registry)
    }

    /// Whether a redirect may lead to this plain URL: to the registry itself, to loopback or to a listed one.
    fn may_be_plain(&self, to: &Uri, home: &str) -> bool {
        let authority = to.authority().map_or("", |a| a.as_str());
        let loopback = Reference::parse(&format!("{authority}/x")).is_ok_and(|r| r.is_loopback());
        authority == home || loopback || self.plain.contains(authority)
    }

    pub(crate) fn url(&self, reference: &Reference, target: &str) -> Result<Uri, Error> {
        let scheme = if self.is_plain(reference) { "http" } else { "https" };
        let text = if target.contains("://") {
            target.to_owned()
        } else {
            format!("{scheme}://{}/v2/{target}", reference.api_authority())
        };
        text.parse().map_err(|_| Error::Transport(format!("{text:?} is not a URL")))
    }

    /// Sends, authorising as the registry asks, following redirects of reads, and trying again what may pass.
    pub(crate) async fn send(&self, reference: &Reference, ask: &Ask) -> Result<Response, Error> {
        let registry = &reference.registry;
        let url = self.url(reference, &ask.target)?;
        let key = format!("{registry}/{}:{}", reference.repository, if ask.push { "push" } else { "pull" });
        let mut authorised_anew = false;
        let mut failures = 0;
        loop {
            let known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
            let problem = match self.follow(reference, ask, &url, known.as_ref().map(|k| k.as_str())).await? {
                Ok(answer) if answer.status == StatusCode::UNAUTHORIZED && !authorised_anew => {
                    authorised_anew = true;
                    let value = self.authorise(reference, &answer, ask.push).await?;
                    self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), value);
                    continue;
                }
                Ok(answer) if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                    return Err(self.unauthorised(reference, answer.status));
                }
                Ok(answer) if !may_pass(answer.status) => return Ok(answer),
                Ok(answer) => Error::answer(registry, format!("HTTP {} for {}", answer.status, url.path())),
                Err(e @ (cocoon_http::Error::Certificate { .. } | cocoon_http::Error::Url(_))) => {
                    return Err(Error::transport(registry, &e));
                }
                Err(e) => Error::transport(registry, &e),
            };
            failures += 1;
            if failures >= self.retry.attempts {
                return Err(problem);
            }
            tracing::debug!(registry, failures, problem = %problem, "registry request is tried again");
            self.retry.wait(failures).await;
        }
    }

    /// One try, with redirects. The outer error is final, the inner one may pass.
    async fn follow(
        &self,
        reference: &Reference,
        ask: &Ask,
        url: &Uri,
        authorization: Option<&str>,
    ) -> Result<Result<Response, cocoon_http::Error>, Error> {
        let registry = &reference.registry;
        let mut url = url.clone();
        // An upload location may already be another host's.
        let home = reference.api_authority();
        for _ in 0..=MAX_REDIRECTS {
            let at_home = url.authority().is_some_and(|a| a.as_str().eq_ignore_ascii_case(home));
            let answer = self.http.send(ask.request(&url, authorization.filter(|_| at_home))?).await;
            let answer = match answer {
                Err(e) => return Ok(Err(e)),
                Ok(answer) => answer,
            };
            let is_redirect = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            if !is_redirect {
                // Whoever the registry sends us to must not ask for the registry's credentials.
                if answer.status == StatusCode::UNAUTHORIZED && !at_home {
                    return Err(self.unauthorised(reference, answer.status));
                }
                return Ok(Ok(answer));
            }
            if ask.method != Method::GET && ask.method != Method::HEAD {
                return Err(Error::answer(registry, "it redirects an upload"));
            }
            let location = answer.header("location").unwrap_or_default();
            url = join(&url, location)
                .filter(|to| to.scheme_str() == Some("https") || self.may_be_plain(to, home))
                .ok_or_else(|| Error::answer(registry, "its redirect leads nowhere or to plain HTTP"))?;
        }
        Err(Error::answer(registry, format!("it redirects more than {MAX_REDIRECTS} times")))
    }

    /// The `Authorization` value that answers a challenge.
    async fn authorise(
        &self,
        reference: &Reference,
        answer: &Response,
        push: bool,
    ) -> Result<Zeroizing<String>, Error> {
        let registry = &reference.registry;
        let field = answer.header("www-authenticate").unwrap_or_default();
        let credentials = self.auth.lookup(reference);
        match Challenge::parse(field) {
            Some(Challenge::Basic) => match credentials {
                Some(c) => Ok(c.basic()),
                None => Err(self.unauthorised(reference, answer.status)),
            },
            Some(Challenge::Bearer { realm, service, scope }) => {
                let actions = if push { "pull,push" } else { "pull" };
                let scope = scope.unwrap_or_else(|| format!("repository:{}:{actions}", reference.repository));
                let mut url = format!(
                    "{realm}{}scope={}",
                    if realm.contains('?') { '&' } else { '?' },
                    query_value(&scope)
                );
                if let Some(service) = service {
                    url.push_str(&format!("&service={}", query_value(&service)));
                }
                let url: Uri =
                    url.parse().map_err(|_| Error::answer(registry, "its token service has no URL"))?;
                self.token(reference, &url, credentials.map(|c| c.basic())).await
            }
            None => Err(Error::answer(registry, "it asks for credentials in a way that is not known")),
        }
    }

    async fn token(
        &self,
        reference: &Reference,
        url: &Uri,
        basic: Option<Zeroizing<String>>,
    ) -> Result<Zeroizing<String>, Error> {
        let registry = &reference.registry;
        // Credentials and tokens in plain only where the registry itself is spoken to in plain.
        if url.scheme_str() != Some("https") && !self.is_plain(reference) {
            return Err(Error::answer(registry, "its token service is not https"));
        }
        let ask = Ask::new(Method::GET, "");
        let mut failures = 0;
        loop {
            let problem = match self.http.send(ask.request(url, basic.as_ref().map(|b| b.as_str()))?).await {
                Ok(answer) if matches!(answer.status.as_u16(), 400 | 401 | 403) => {
                    return Err(self.unauthorised(reference, answer.status));
                }
                Ok(answer) if answer.status == StatusCode::OK => match answer.bytes(MAX_TOKEN_ANSWER).await {
                    Ok(body) => {
                        let token = serde_json::from_slice::<TokenAnswer>(&body)
                            .ok()
                            .and_then(TokenAnswer::into_token);
                        return match token {
                            Some(token) => Ok(Zeroizing::new(format!("Bearer {token}"))),
                            None => Err(Error::answer(registry, "its token service gave no token")),
                        };
                    }
                    Err(e) => Error::transport(registry, &e),
                },
                Ok(answer) => {
                    Error::answer(registry, format!("its token service says HTTP {}", answer.status))
                }
                Err(e) => Error::transport(registry, &e),
            };
            failures += 1;
            if failures >= self.retry.attempts {
                return Err(problem);
            }
            self.retry.wait(failures).await;
        }
    }

    fn unauthorised(&self, reference: &Reference, status: StatusCode) -> Error {
        let hint = match (self.auth.lookup(reference).is_some(), self.auth.is_with_helper(reference)) {
            (true, _) => format!(" with the credentials of auth.json (HTTP {status})"),
            (false, true) => format!(
                " (HTTP {status}); its credentials are with a credential helper, which is not run here: \
                 write them into auth.json"
            ),
            (false, false) => format!(" without credentials (HTTP {status})"),
        };
        Error::Unauthorized {
            registry: reference.registry.clone(),
            repository: reference.repository.clone(),
            hint,
        }
    }
}

/// Answers that another try may mend.
fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// A `Location` against the URL that gave it; `None` where it is malformed or would step down from https.
pub(crate) fn join(base: &Uri, location: &str) -> Option<Uri> {
    if location.is_empty() {
        return None;
    }
    let absolute = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{}://{rest}", base.scheme_str()?)
    } else if location.starts_with('/') {
        format!("{}://{}{location}", base.scheme_str()?, base.authority()?)
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(d, _)| d);
        format!("{}://{}{directory}/{location}", base.scheme_str()?, base.authority()?)
    };
    let url: Uri = absolute.parse().ok()?;
    let steps_down = base.scheme_str() == Some("https") && url.scheme_str() != Some("https");
    (!steps_down && url.authority().is_some()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined_and_never_step_down() {
        let base: Uri = "https://r.io/v2/a/blobs/x".parse().unwrap();
        for (location, expected) in [
            ("https://cdn.io/y", Some("https://cdn.io/y")),
            ("/z?q=1", Some("https://r.io/z?q=1")),
            ("w", Some("https://r.io/v2/a/blobs/w")),
            ("//cdn.io/y", Some("https://cdn.io/y")),
            ("http://r.io/y", None),
            ("ftp://r.io/y", Some("https://r.io/v2/a/blobs/ftp://r.io/y")),
            ("", None),
        ] {
            assert_eq!(join(&base, location).map(|u| u.to_string()).as_deref(), expected, "{location}");
        }
    }
}
