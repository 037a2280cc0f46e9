//! The client: one request at a time per connection, idle connections kept for the next.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;

use crate::connect::{Way, tls_config};
use crate::pool::{Pool, Sender};
use crate::proxy::{Proxies, Proxy, Server};
use crate::sending::Sending;
use crate::{Error, Response, Roots};

/// How a [`Client`] behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whom to trust for `https`.
    pub roots: Roots,
    /// Limit for name look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// Limit for the first byte of an answer, and between two pieces of its body; also between two pieces of the
    /// request's body, after the last of which an answer has so much longer as a slow line (32 KiB a second) may need.
    pub idle_timeout: Duration,
    /// How long a connection is kept that nobody uses.
    pub keep_idle: Duration,
    /// Where `localhost`, `127.0.0.0/8` and `::1` are really found from here; `None`: here.
    pub loopback: Option<IpAddr>,
    /// The `User-Agent` field.
    pub user_agent: &'static str,
    /// Certificates of further authorities (PEM texts), trusted beside [`Options::roots`].
    pub extra_roots: Vec<String>,
    /// Proxies to go through.
    pub proxy: Option<Proxy>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            roots: Roots::System("/etc/ssl/certs/ca-certificates.crt".into()),
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(30),
            keep_idle: Duration::from_secs(60),
            loopback: None,
            user_agent: concat!("cocoon/", env!("CARGO_PKG_VERSION")),
            extra_roots: Vec::new(),
            proxy: None,
        }
    }
}

/// An HTTP client; cheap to clone, clones share connections.
#[derive(Clone)]
pub struct Client {
    options: Options,
    tls: Arc<ClientConfig>,
    proxies: Arc<Proxies>,
    pool: Pool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("loopback", &self.options.loopback).finish_non_exhaustive()
    }
}

/// A connection on loan to a [`Response`].
pub(crate) struct Lease {
    pool: Pool,
    key: String,
    sender: Sender,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Lease {
    /// The answer was read to its end: the connection may serve another request.
    pub(crate) fn give_back(self) {
        self.pool.keep(self.key, self.sender);
    }
}

impl Client {
    /// A client with these options.
    ///
    /// # Errors
    /// [`Error::Roots`] where pinned or further certificates cannot be used, [`Error::Proxy`] where a proxy cannot.
    pub fn new(mut options: Options) -> Result<Self, Error> {
        let tls = tls_config(&options.roots, &options.extra_roots)?;
        // Taken out, since its text may hold a password.
        let proxies = options.proxy.take().map(|p| Proxies::new(&p)).transpose()?.unwrap_or_default();
        let pool = Pool::new(options.keep_idle);
        Ok(Client { options, tls, proxies: Arc::new(proxies), pool })
    }

    /// Whether `localhost` and the like are another machine's: [`Options::loopback`] is set, and plain HTTP to them is
    /// read by whoever carries it there.
    pub fn loopback_is_elsewhere(&self) -> bool {
        self.options.loopback.is_some()
    }

    /// Sends a request whose URI is absolute and gives the answer, whatever its status.
    ///
    /// A kept connection that turns out to be dead is replaced by a new one, once; a request that reached a server
    /// is not sent again.
    ///
    /// # Errors
    /// Every [`Error`] but [`Error::TooLarge`] and [`Error::Stalled`], which reading the body gives.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response, Error> {
        self.send_to(request, false).await
    }

    /// As [`Client::send`], to an address that somebody else chose, such as a redirect's: loopback, link-local and the
    /// clouds' metadata and platform addresses are refused, as literals and as what a name resolves to. Where a proxy
    /// resolves the names, it is the proxy's to refuse them.
    ///
    /// # Errors
    /// As [`Client::send`]; [`Error::Forbidden`].
    pub async fn send_away(&self, request: Request<Bytes>) -> Result<Response, Error> {
        self.send_to(request, true).await
    }

    async fn send_to(&self, request: Request<Bytes>, away: bool) -> Result<Response, Error> {
        let (parts, body) = request.into_parts();
        let target = Target::of(&parts.uri)?;
        let proxy = self.proxies.route(target.https, &target.host, target.port);
        let key = target.key(away);
        let mut request = Request::new(Sending::new(body));
        *request.method_mut() = parts.method;
        *request.headers_mut() = parts.headers;
        *request.uri_mut() = target.path;
        let headers = request.headers_mut();
        headers.insert(header::HOST, target.authority.clone());
        headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(self.options.user_agent));
        if let Some(proxy) = proxy.filter(|_| !target.https) {
            forward(&mut request, &parts.uri, proxy)?;
        }

        if let Some(sender) = self.pool.take(&key) {
            match self.exchange(sender, request, &key).await {
                Ok(response) => return Ok(response),
                Err(Attempt::NotSent(returned)) => request = *returned,
                Err(Attempt::Failed(e)) => return Err(e),
            }
        }
        let way = Way {
            host: &target.host,
            port: target.port,
            https: target.https,
            proxy,
            loopback: self.options.loopback,
            away,
        };
        let stream = way.connect(&self.tls, self.options.connect_timeout).await?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|e| Error::Protocol(e.to_string()))?;
        // Ends when the sender and the answer's body are dropped.
        tokio::spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!(error = %e, "connection ended");
            }
        });
        match self.exchange(sender, request, &key).await {
            Ok(response) => Ok(response),
            Err(Attempt::NotSent(_)) => Err(Error::Protocol("connection closed at once".into())),
            Err(Attempt::Failed(e)) => Err(e),
        }
    }

    async fn exchange(
        &self,
        mut sender: Sender,
        mut request: Request<Sending>,
        key: &str,
    ) -> Result<Response, Attempt> {
        let limit = self.options.idle_timeout;
        let progress = request.body_mut().begin();
        let answer = {
            let mut answer = std::pin::pin!(sender.try_send_request(request));
            loop {
                let deadline = progress.deadline(limit);
                match tokio::time::timeout_at(deadline.into(), answer.as_mut()).await {
                    Ok(answer) => break answer,
                    Err(_) if progress.deadline(limit) > deadline => {}
                    Err(_) => return Err(Attempt::Failed(Error::Timeout(limit))),
                }
            }
        };
        let answer = match answer {
            Err(mut e) => {
                return Err(match e.take_message() {
                    Some(request) => Attempt::NotSent(Box::new(request)),
                    None => Attempt::Failed(Error::Protocol(e.into_error().to_string())),
                });
            }
            Ok(answer) => answer,
        };
        let lease = Lease { pool: self.pool.clone(), key: key.to_owned(), sender };
        Ok(Response::new(answer, limit, lease))
    }
}

/// Makes a request one for a proxy: absolute form (RFC 9112 §3.2.2), and the proxy's own credentials.
fn forward(request: &mut Request<Sending>, uri: &Uri, proxy: &Server) -> Result<(), Error> {
    let mut parts = uri.clone().into_parts();
    if parts.path_and_query.is_none() {
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    }
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Error::Url(uri.to_string()))?;
    if let Some(value) = &proxy.authorization {
        request.headers_mut().insert(header::PROXY_AUTHORIZATION, value.clone());
    }
    Ok(())
}

enum Attempt {
    /// The request never left; it may be sent on another connection.
    NotSent(Box<Request<Sending>>),
    Failed(Error),
}

struct Target {
    https: bool,
    host: String,
    port: u16,
    authority: HeaderValue,
    path: Uri,
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, Error> {
        let bad = || Error::Url(uri.to_string());
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad()),
        };
        let authority = uri.authority().ok_or_else(bad)?;
        // A port that is none must not become the default one.
        let is_plain = authority.as_str() == authority.host() || authority.port_u16().is_some();
        if authority.as_str().contains('@') || authority.host().is_empty() || !is_plain {
            return Err(bad());
        }
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        Ok(Target {
            https,
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(if https { 443 } else { 80 }),
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| bad())?,
            path: path.parse().map_err(|_| bad())?,
        })
    }

    /// Connections of [`Client::send`] are not lent to [`Client::send_away`].
    fn key(&self, away: bool) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{}{scheme}://{}:{}", if away { "away " } else { "" }, self.host, self.port)
    }
}

#[cfg(test)]
mod tests;
