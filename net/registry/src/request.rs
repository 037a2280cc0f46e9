//! One request: scheme, credentials, tokens, redirects, and what is tried again.

use std::sync::PoisonError;

use bytes::Bytes;
use cocoon_http::Response;
use cocoon_image::Reference;
use http::{HeaderName, Method, StatusCode, Uri, header};

use crate::place::Place;
use crate::retry::retry_after;
use crate::token::Token;
use crate::{Client, Error};

const MAX_REDIRECTS: u32 = 5;

/// A request to a registry, before it is known how to authorise it.
pub(crate) struct Ask {
    method: Method,
    /// Path below `/v2/`, or an absolute URL (upload locations).
    target: String,
    headers: Vec<(HeaderName, String)>,
    body: Bytes,
    push: bool,
    once: bool,
}

impl Ask {
    pub(crate) fn new(method: Method, target: &str) -> Self {
        let push = method != Method::GET && method != Method::HEAD;
        Ask { method, target: target.to_owned(), headers: Vec::new(), body: Bytes::new(), push, once: false }
    }

    /// Asks for the right to push too, though the request itself only reads.
    pub(crate) fn for_push(mut self) -> Self {
        self.push = true;
        self
    }

    /// Not to be sent again after a failure that leaves open whether it was heeded.
    pub(crate) fn once(mut self) -> Self {
        self.once = true;
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

    pub(crate) fn has_body(&self) -> bool {
        !self.body.is_empty()
    }

    pub(crate) fn request(
        &self,
        uri: &Uri,
        authorization: Option<&str>,
    ) -> Result<http::Request<Bytes>, Error> {
        let mut builder = http::Request::builder().method(self.method.clone()).uri(uri.clone());
        // Content is named by the digest of what it is, not of what a server packed it into.
        builder = builder.header(header::ACCEPT_ENCODING, "identity");
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
    /// Whether an address that the place named (redirect, upload, token service) leaves it, which bars the way to
    /// loopback and the like; `None` where it may not be asked at all. Plain HTTP is for registries that speak it
    /// themselves, and then only to themselves, within loopback, or to a host listed for plain HTTP.
    pub(crate) fn leads_away(&self, place: &Place, to: &Uri) -> Option<bool> {
        let authority = to.authority()?.as_str();
        let at_home = authority.eq_ignore_ascii_case(place.reference.api_authority());
        let is_loopback = || Reference::parse(&format!("{authority}/x")).is_ok_and(|r| r.is_loopback());
        let near = at_home || (place.reference.is_loopback() && is_loopback());
        match to.scheme_str() {
            Some("https") => Some(!near),
            Some("http") if place.plain && (near || self.plain.contains(authority)) => Some(!near),
            _ => None,
        }
    }

    pub(crate) fn url(&self, place: &Place, target: &str) -> Result<Uri, Error> {
        let scheme = if place.plain { "http" } else { "https" };
        let text = if target.contains("://") {
            target.to_owned()
        } else {
            format!("{scheme}://{}/v2/{target}", place.reference.api_authority())
        };
        text.parse().map_err(|_| Error::Transport(format!("{text:?} is not a URL")))
    }

    /// Sends, authorising as the registry asks, following redirects of reads, and trying again what may pass.
    pub(crate) async fn send(&self, place: &Place, ask: &Ask) -> Result<Response, Error> {
        let Reference { registry, repository, .. } = &place.reference;
        let url = self.url(place, &ask.target)?;
        // What was got for TLS must not be sent in plain, so the scheme is part of it.
        let (scheme, right) = (url.scheme_str().unwrap_or_default(), if ask.push { "push" } else { "pull" });
        let key = format!("{scheme}://{registry}/{repository}:{right}");
        let mut authorised_anew = false;
        let mut failures = 0;
        loop {
            let known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
            let known = known.filter(Token::is_fresh);
            let mut asked = None;
            let problem = match self
                .follow(place, ask, &url, known.as_ref().map(|k| k.value.as_str()))
                .await?
            {
                Ok(answer) if answer.status == StatusCode::UNAUTHORIZED && !authorised_anew => {
                    authorised_anew = true;
                    let token = self.authorise(place, &answer, ask.push).await?;
                    self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), token);
                    continue;
                }
                Ok(answer) if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                    return Err(self.unauthorised(place, answer.status));
                }
                Ok(answer) if !may_pass(answer.status) => return Ok(answer),
                Ok(answer) => {
                    asked = retry_after(&answer);
                    Error::answer(registry, format!("HTTP {} for {}", answer.status, url.path()))
                }
                Err(
                    e @ (cocoon_http::Error::Certificate { .. }
                    | cocoon_http::Error::Url(_)
                    | cocoon_http::Error::Forbidden(_)),
                ) => {
                    return Err(Error::transport(registry, &e));
                }
                Err(e) => Error::transport(registry, &e),
            };
            failures += 1;
            if ask.once || failures >= self.retry.attempts {
                return Err(problem);
            }
            tracing::debug!(registry, failures, problem = %problem, "registry request is tried again");
            self.retry.wait(failures, asked).await;
        }
    }

    /// One try, with redirects. The outer error is final, the inner one may pass.
    async fn follow(
        &self,
        place: &Place,
        ask: &Ask,
        url: &Uri,
        authorization: Option<&str>,
    ) -> Result<Result<Response, cocoon_http::Error>, Error> {
        let registry = &place.reference.registry;
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            // An upload location may already be another host's.
            let away = self.leads_away(place, &url).ok_or_else(|| {
                Error::answer(registry, "it leads to plain HTTP or to something that is no web address")
            })?;
            let authority = url.authority().map_or("", |a| a.as_str());
            let at_home = authority.eq_ignore_ascii_case(place.reference.api_authority());
            let request = ask.request(&url, authorization.filter(|_| at_home))?;
            let answer =
                if away { self.http.send_away(request).await } else { self.http.send(request).await };
            let answer = match answer {
                Err(e) => return Ok(Err(e)),
                Ok(answer) => answer,
            };
            let is_redirect = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            if !is_redirect {
                // Whoever the registry sends us to must not ask for the registry's credentials.
                if answer.status == StatusCode::UNAUTHORIZED && !at_home {
                    return Err(self.unauthorised(place, answer.status));
                }
                return Ok(Ok(answer));
            }
            if ask.method != Method::GET && ask.method != Method::HEAD {
                return Err(Error::answer(registry, "it redirects an upload"));
            }
            let location = answer.header("location").unwrap_or_default();
            url = join(&url, location)
                .ok_or_else(|| Error::answer(registry, "its redirect leads nowhere or to plain HTTP"))?;
        }
        Err(Error::answer(registry, format!("it redirects more than {MAX_REDIRECTS} times")))
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
    // Fields of a server are ASCII; a control character could only mean mischief.
    if location.chars().any(char::is_control) {
        return None;
    }
    let is_scheme = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_alphabetic())
            && s.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    };
    let has_scheme = location.split_once(':').is_some_and(|(s, _)| is_scheme(s));
    let absolute = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if has_scheme {
        return None;
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{}://{rest}", base.scheme_str()?)
    } else if location.starts_with('/') {
        format!("{}://{}{location}", base.scheme_str()?, base.authority()?)
    } else if location.starts_with('?') {
        format!("{}://{}{}{location}", base.scheme_str()?, base.authority()?, base.path())
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
            ("ftp://r.io/y", None),
            ("file:///etc/passwd", None),
            ("data:,x", None),
            ("HTTPS://cdn.io/y", None),
            ("?digest=sha256:x", Some("https://r.io/v2/a/blobs/x?digest=sha256:x")),
            ("/a\u{1}", None),
            ("", None),
        ] {
            assert_eq!(join(&base, location).map(|u| u.to_string()).as_deref(), expected, "{location}");
        }
    }
}
