//! HTTP within limits: one base URL that an operator chose, no redirect, bounded time and size.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use cocoon_http::{Client, HeaderMap, Options, Request, Response, Roots, StatusCode};
use url::{Host, Url};

use crate::Error;
use crate::error::printable;

/// Longest pause that a server may impose.
pub(crate) const MAX_RETRY_AFTER: u64 = 3600;
/// The pause where a server says "too many" and not until when.
const DEFAULT_RETRY_AFTER: u64 = 60;
/// Most that is read of a server's reasons for a refusal.
const MAX_WORDS: usize = 4096;

/// A vendor's service or a mirror of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `https://host[:port][/path]`; `http` on loopback only. No user, query or fragment.
    pub url: String,
    /// Certificates (PEM) that its TLS certificate must come from, and nobody else's; `None`: the system's.
    pub roots: Option<String>,
}

impl Endpoint {
    /// An endpoint whose certificate comes from an authority that the system trusts.
    pub fn new(url: impl Into<String>) -> Self {
        Endpoint { url: url.into(), roots: None }
    }
}

/// How long a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Name look-up, TCP and TLS.
    pub connect: Duration,
    /// Silence.
    pub idle: Duration,
    /// Everything together, to the last byte.
    pub total: Duration,
}

impl Default for Times {
    /// 4, 5 and 10 seconds.
    fn default() -> Self {
        Times {
            connect: Duration::from_secs(4),
            idle: Duration::from_secs(5),
            total: Duration::from_secs(10),
        }
    }
}

/// A body and the fields that came with it.
pub(crate) struct Answer {
    pub body: Bytes,
    pub headers: HeaderMap,
}

/// Why there is no answer.
enum Refused {
    /// The server will not answer this question; with what it says.
    Status(StatusCode, String),
    /// Anything else.
    Error(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Error(error)
    }
}

/// Asks one server.
#[derive(Debug)]
pub(crate) struct Transport {
    name: String,
    base: String,
    client: Client,
    total: Duration,
}

impl Transport {
    /// # Errors
    /// [`Error::Settings`] for a URL or certificates that cannot be used.
    pub fn new(endpoint: &Endpoint, times: Times) -> Result<Self, Error> {
        let bad = |reason: &str| Error::Settings(format!("{:?}: {reason}", endpoint.url));
        let url = Url::parse(&endpoint.url).map_err(|e| bad(&e.to_string()))?;
        let host = url.host().ok_or_else(|| bad("no host"))?;
        let here = match &host {
            Host::Domain(name) => *name == "localhost",
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
        };
        if !(url.scheme() == "https" || url.scheme() == "http" && here) {
            return Err(bad("only https, or http on loopback"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("a user in it"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("a query or fragment in it"));
        }
        let name = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        let mut options =
            Options { connect_timeout: times.connect, idle_timeout: times.idle, ..Options::default() };
        if let Some(pem) = &endpoint.roots {
            options.roots = Roots::Pinned(vec![pem.clone()]);
        }
        let client = Client::new(options).map_err(|e| bad(&e.to_string()))?;
        Ok(Transport {
            name,
            base: url.as_str().trim_end_matches('/').to_owned(),
            client,
            total: times.total,
        })
    }

    /// Host and port.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The base URL without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The same server under another base.
    pub fn with_base(mut self, base: &str) -> Self {
        self.base = base.trim_end_matches('/').to_owned();
        self
    }

    /// GET of base and `path`, which begins with a slash; at most `limit` bytes.
    ///
    /// # Errors
    /// By status: [`Error::NotFound`], [`Error::Limited`], [`Error::Answer`]; [`Error::Unreachable`] without one.
    pub async fn get(&self, path: &str, limit: usize) -> Result<Answer, Error> {
        let request = Request::get(format!("{}{path}", self.base)).body(Bytes::new());
        let request = request.map_err(|e| self.wrong(e.to_string()))?;
        match self.within(self.exchange(request, limit)).await {
            // AMD's and Intel's services answer 400 for ids that no platform has.
            Err(Refused::Status(StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::BAD_REQUEST, _)) => {
                Err(self.not_found())
            }
            result => result.map_err(|refused| self.error(refused)),
        }
    }

    /// POST of JSON, otherwise as [`Transport::get`].
    ///
    /// # Errors
    /// The same, but that a server that will not answer the question gives [`Error::Answer`] with what it says.
    pub async fn post(&self, path: &str, json: Vec<u8>, limit: usize) -> Result<Answer, Error> {
        let request = Request::post(format!("{}{path}", self.base))
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .body(Bytes::from(json))
            .map_err(|e| self.wrong(e.to_string()))?;
        self.within(self.exchange(request, limit)).await.map_err(|refused| self.error(refused))
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, Refused>>) -> Result<T, Refused> {
        let late = |_| self.unreachable(format!("no whole answer within {:?}", self.total));
        tokio::time::timeout(self.total, work).await.map_err(late)?
    }

    async fn exchange(&self, request: Request<Bytes>, limit: usize) -> Result<Answer, Refused> {
        let response = self.client.send(request).await.map_err(|e| self.unreachable(e.to_string()))?;
        match response.status {
            StatusCode::OK => {
                let headers = response.headers.clone();
                let body = response.bytes(limit).await.map_err(|e| match e {
                    cocoon_http::Error::TooLarge(_) => self.wrong(e.to_string()),
                    e => self.unreachable(e.to_string()),
                })?;
                Ok(Answer { body, headers })
            }
            StatusCode::TOO_MANY_REQUESTS => Err(self.limited(&response).into()),
            StatusCode::SERVICE_UNAVAILABLE if response.header("retry-after").is_some() => {
                Err(self.limited(&response).into())
            }
            status if status.is_redirection() => {
                let what = format!("a redirect (status {}), which is not followed", status.as_u16());
                Err(self.wrong(what).into())
            }
            status if status.is_server_error() => {
                Err(self.unreachable(format!("status {}", status.as_u16())).into())
            }
            status => {
                let words = response.bytes(MAX_WORDS).await.unwrap_or_default();
                Err(Refused::Status(status, String::from_utf8_lossy(&words).into_owned()))
            }
        }
    }

    fn error(&self, refused: Refused) -> Error {
        match refused {
            Refused::Error(error) => error,
            Refused::Status(status, words) if words.is_empty() => {
                self.wrong(format!("status {}", status.as_u16()))
            }
            Refused::Status(status, words) => self.wrong(format!("status {}: {words}", status.as_u16())),
        }
    }

    fn limited(&self, response: &Response) -> Error {
        // A date instead of seconds is rare; the default will do.
        let seconds = response.header("retry-after").and_then(|text| text.trim().parse().ok());
        let seconds = seconds.unwrap_or(DEFAULT_RETRY_AFTER).clamp(1, MAX_RETRY_AFTER);
        Error::Limited { at: self.name.clone(), seconds }
    }

    pub fn wrong(&self, problem: impl Into<String>) -> Error {
        Error::Answer { at: self.name.clone(), problem: printable(&problem.into()) }
    }

    fn unreachable(&self, problem: String) -> Error {
        Error::Unreachable { at: self.name.clone(), problem: printable(&problem) }
    }

    pub fn not_found(&self) -> Error {
        Error::NotFound { at: self.name.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_https_urls_are_endpoints() {
        let open = |url: &str| Transport::new(&Endpoint::new(url), Times::default());
        for (url, base) in [
            ("https://kds.example/", "https://kds.example"),
            ("https://kds.example/mirror/amd/", "https://kds.example/mirror/amd"),
            ("http://127.0.0.1:8081", "http://127.0.0.1:8081"),
            ("http://localhost:1", "http://localhost:1"),
        ] {
            assert_eq!(open(url).unwrap().base(), base);
        }
        for url in [
            "http://kds.example/",
            "http://127.0.0.1.example/",
            "ftp://kds.example/",
            "file:///etc/passwd",
            "https://u:p@kds.example/",
            "https://kds.example/?x=1",
            "https://kds.example/#x",
            "kds.example",
            "",
        ] {
            assert!(matches!(open(url), Err(Error::Settings(_))), "{url}");
        }
        let pinned = Endpoint { url: "https://x.example".into(), roots: Some("nonsense".into()) };
        assert!(matches!(Transport::new(&pinned, Times::default()), Err(Error::Settings(_))));
    }
}
