//! Proxies: which one a request goes through, and the tunnel to a TLS server behind one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::Error;
use crate::connect::Stream;
use crate::no_proxy::NoProxy;

/// The longest answer to CONNECT, in bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// Proxies between this client and servers. Addresses are `http://[user:password@]host[:port]` or `https://…`, the
/// latter meaning TLS to the proxy itself (its certificate is checked like a server's). Ports default to 80 and 443.
/// User and password, percent-encoded where needed, go to the proxy alone (RFC 9110 §11.7).
#[derive(Clone, Default)]
pub struct Proxy {
    /// For `https` servers: a tunnel by CONNECT, through which the proxy sees names and amounts only.
    pub https: Option<String>,
    /// For `http` servers: requests in absolute form, which the proxy reads and could change.
    pub http: Option<String>,
    /// Who is reached directly: host names (with what is below them), `.domain` or `*.domain`, addresses, networks
    /// `address/bits`, each with `:port` where wanted, or `*`; separated by commas. Loopback always is.
    pub no_proxy: String,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Addresses may hold passwords.
        let (https, http) = (self.https.is_some(), self.http.is_some());
        f.debug_struct("Proxy")
            .field("https", &https)
            .field("http", &http)
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// A proxy's address, understood.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) https: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `Proxy-Authorization`; marked sensitive.
    pub(crate) authorization: Option<HeaderValue>,
}

/// [`Proxy`], understood.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    https: Option<Server>,
    http: Option<Server>,
    no_proxy: NoProxy,
}

impl Proxies {
    pub(crate) fn new(proxy: &Proxy) -> Result<Proxies, Error> {
        let server = |url: &Option<String>| url.as_deref().map(Server::parse).transpose();
        Ok(Proxies {
            https: server(&proxy.https)?,
            http: server(&proxy.http)?,
            no_proxy: NoProxy::parse(&proxy.no_proxy)?,
        })
    }

    /// The proxy for a server; `None`: directly.
    pub(crate) fn route(&self, https: bool, host: &str, port: u16) -> Option<&Server> {
        let server = if https { self.https.as_ref() } else { self.http.as_ref() };
        server.filter(|_| !self.no_proxy.covers(host, port))
    }
}

impl Server {
    fn parse(url: &str) -> Result<Server, Error> {
        // Never quoted: it may hold a password.
        let bad = || Error::Proxy("a proxy's address is not http://… or https://… with a host".to_owned());
        let (https, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(bad()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, authority) = match rest.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, rest),
        };
        let uri: Uri = format!("http://{authority}").parse().map_err(|_| bad())?;
        let whole = uri.authority().ok_or_else(bad)?;
        if whole.as_str() != authority || whole.host().is_empty() || authority.ends_with(':') {
            return Err(bad());
        }
        let authorization = match user {
            None => None,
            Some(user) => Some(basic(user).ok_or_else(bad)?),
        };
        let default = if https { 443 } else { 80 };
        let port = match whole.port() {
            None if whole.as_str() == whole.host() => default,
            None => return Err(bad()),
            Some(port) => port.as_str().parse().map_err(|_| bad())?,
        };
        Ok(Server { https, host: whole.host().to_owned(), port, authorization })
    }
}

/// `Basic …` of percent-encoded `user[:password]`.
fn basic(user: &str) -> Option<HeaderValue> {
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let mut pair = Zeroizing::new(Vec::with_capacity(user.len() + password.len() + 1));
    decode(user, &mut pair)?;
    // Of the pair the first colon counts, so a user's name has none.
    if pair.contains(&b':') {
        return None;
    }
    pair.push(b':');
    decode(password, &mut pair)?;
    let text = Zeroizing::new(format!("Basic {}", Zeroizing::new(STANDARD.encode(&pair)).as_str()));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn decode(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let digit = |b: Option<u8>| char::from(b?).to_digit(16).and_then(|d| u8::try_from(d).ok());
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            out.push(high * 16 + low);
        } else {
            out.push(b);
        }
    }
    Some(())
}

/// Asks the proxy for a tunnel to `host:port` (RFC 9110 §9.3.6). Afterwards the stream is the server's.
pub(crate) async fn tunnel(
    stream: &mut Box<dyn Stream>,
    proxy: &Server,
    host: &str,
    port: u16,
) -> Result<(), Error> {
    let failed = |problem: String| Error::Connect { host: proxy.host.clone(), port: proxy.port, problem };
    let mut ask =
        Zeroizing::new(format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes());
    if let Some(value) = &proxy.authorization {
        ask.extend_from_slice(b"Proxy-Authorization: ");
        ask.extend_from_slice(value.as_bytes());
        ask.extend_from_slice(b"\r\n");
    }
    ask.extend_from_slice(b"\r\n");
    stream.write_all(&ask).await.map_err(|e| failed(format!("the proxy broke off: {e}")))?;
    stream.flush().await.map_err(|e| failed(format!("the proxy broke off: {e}")))?;
    let mut answer = Vec::new();
    let mut byte = [0_u8; 1];
    // One at a time: what follows the empty line is the server's and must stay in the stream. It is short and rare.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MAX_ANSWER {
            return Err(failed("the proxy's answer is too long".to_owned()));
        }
        match stream.read(&mut byte).await {
            Ok(1) => answer.extend_from_slice(&byte),
            Ok(_) => return Err(failed("the proxy closed the connection".to_owned())),
            Err(e) => return Err(failed(format!("the proxy broke off: {e}"))),
        }
    }
    let line = answer.split(|b| *b == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let is_http = words.next().is_some_and(|w| w.starts_with("HTTP/1."));
    match words.next() {
        Some(status) if is_http && status.len() == 3 && status.starts_with('2') => Ok(()),
        Some("407") if is_http => Err(failed("the proxy wants a user and password (HTTP 407)".to_owned())),
        _ => {
            let shown: String = line.chars().filter(|c| !c.is_control()).take(80).collect();
            Err(failed(format!("the proxy refuses {host}:{port}: {shown:?}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_and_never_quoted() {
        let server = Server::parse("https://us%40er:p%3Aw:x@proxy.io:3128/").unwrap();
        assert_eq!((server.https, server.host.as_str(), server.port), (true, "proxy.io", 3128));
        let value = format!("Basic {}", STANDARD.encode("us@er:p:w:x"));
        assert_eq!(server.authorization.as_ref().unwrap(), value.as_str());
        assert!(!format!("{server:?}").contains("Basic"));
        assert_eq!(Server::parse("http://[::1]").unwrap().port, 80);
        assert_eq!(Server::parse("https://p").unwrap().port, 443);
        for bad in [
            "socks5://secret@p",
            "p:3128",
            "http://",
            "http://secret@",
            "http://p:secret",
            "http://p/secret",
            "http://p:0x1",
            "http://a%3Ab:secret@p",
            "http://sec%ret@p",
            "http://p?secret",
        ] {
            let e = Server::parse(bad).unwrap_err();
            assert!(matches!(e, Error::Proxy(_)) && !e.to_string().contains("sec"), "{bad}: {e}");
        }
        let proxy = Proxy { https: Some("http://u:secret@p".into()), ..Proxy::default() };
        assert!(!format!("{proxy:?}").contains("secret"));
    }

    #[test]
    fn routes_follow_the_scheme_and_spare_loopback() {
        let proxy = Proxy { https: Some("http://p:1".into()), http: None, no_proxy: "r.io".into() };
        let proxies = Proxies::new(&proxy).unwrap();
        assert!(proxies.route(true, "x.io", 443).is_some());
        assert!(proxies.route(false, "x.io", 80).is_none());
        assert!(proxies.route(true, "a.r.io", 443).is_none());
        assert!(proxies.route(true, "localhost", 443).is_none());
    }
}
