//! TCP and TLS connections, within a time limit.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Error;
use crate::proxy::{Server, tunnel};
use crate::resolve::{addresses, is_internal, is_loopback};

/// Whom an `https` server's certificate must come from.
#[derive(Clone, Debug)]
pub enum Roots {
    /// The certificates in a PEM bundle, such as `/etc/ssl/certs/ca-certificates.crt`. A missing file trusts nobody.
    System(PathBuf),
    /// Exactly these certificates (PEM texts) and nobody else.
    Pinned(Vec<String>),
}

/// Trusts `roots` and, beside them, the certificates in `extra` (PEM texts with at least one each).
pub(crate) fn tls_config(roots: &Roots, extra: &[String]) -> Result<Arc<ClientConfig>, Error> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::System(path) => {
            let bundle = std::fs::read(path).unwrap_or_default();
            let certificates = CertificateDer::pem_slice_iter(&bundle).filter_map(Result::ok);
            store.add_parsable_certificates(certificates);
        }
        Roots::Pinned(texts) => {
            for text in texts {
                add_pem(&mut store, text)?;
            }
            if store.is_empty() {
                return Err(Error::Roots("no certificate in the PEM text".into()));
            }
        }
    }
    for text in extra {
        if add_pem(&mut store, text)? == 0 {
            return Err(Error::Roots("no certificate in the PEM text".into()));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Roots(e.to_string()))?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Adds every certificate of a PEM text; gives their number.
fn add_pem(store: &mut RootCertStore, text: &str) -> Result<usize, Error> {
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let certificate = certificate.map_err(|e| Error::Roots(e.to_string()))?;
        store.add(certificate).map_err(|e| Error::Roots(e.to_string()))?;
        count += 1;
    }
    Ok(count)
}

/// A byte stream to a server.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The way to a server.
pub(crate) struct Way<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) https: bool,
    /// The proxy to go through.
    pub(crate) proxy: Option<&'a Server>,
    /// Where loopback hosts are really found.
    pub(crate) loopback: Option<IpAddr>,
    /// Whether internal addresses are out of bounds.
    pub(crate) away: bool,
}

impl Way<'_> {
    /// A stream on which the server speaks HTTP; with a proxy and plain HTTP, the proxy.
    pub(crate) async fn connect(
        &self,
        tls: &Arc<ClientConfig>,
        limit: Duration,
    ) -> Result<Box<dyn Stream>, Error> {
        let work = async {
            let mut stream: Box<dyn Stream> = match self.proxy {
                None => Box::new(self.tcp().await?),
                Some(proxy) => {
                    self.check_literal()?;
                    let tcp =
                        tcp(&proxy.host, proxy.port, addresses(&proxy.host, self.loopback).await?).await?;
                    let mut stream: Box<dyn Stream> = Box::new(tcp);
                    if proxy.https {
                        stream = with_tls(stream, &proxy.host, tls).await?;
                    }
                    if self.https {
                        tunnel(&mut stream, proxy, self.host, self.port).await?;
                    }
                    stream
                }
            };
            if self.https {
                stream = with_tls(stream, self.host, tls).await?;
            }
            Ok(stream)
        };
        tokio::time::timeout(limit, work).await.unwrap_or(Err(Error::Timeout(limit)))
    }

    async fn tcp(&self) -> Result<TcpStream, Error> {
        self.check_literal()?;
        let mut found = addresses(self.host, self.loopback).await?;
        if self.away {
            // A name is as good a way to an internal address as the address itself.
            found.retain(|ip| !is_internal(*ip, self.loopback));
            if found.is_empty() {
                return Err(Error::Forbidden(self.host.to_owned()));
            }
        }
        tcp(self.host, self.port, found).await
    }

    fn check_literal(&self) -> Result<(), Error> {
        let literal = self.host.trim_matches(['[', ']']).parse::<IpAddr>();
        if self.away && (is_loopback(self.host) || literal.is_ok_and(|ip| is_internal(ip, self.loopback))) {
            return Err(Error::Forbidden(self.host.to_owned()));
        }
        Ok(())
    }
}

async fn with_tls(
    stream: Box<dyn Stream>,
    host: &str,
    config: &Arc<ClientConfig>,
) -> Result<Box<dyn Stream>, Error> {
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|e| Error::Url(format!("{host}: {e}")))?;
    let stream =
        TlsConnector::from(config.clone()).connect(name, stream).await.map_err(|e| tls_error(host, &e))?;
    Ok(Box::new(stream))
}

async fn tcp(host: &str, port: u16, found: Vec<IpAddr>) -> Result<TcpStream, Error> {
    let mut problem = String::from("no address");
    for ip in found {
        match TcpStream::connect(SocketAddr::new(ip, port)).await {
            Ok(tcp) => {
                // Requests are written whole; waiting for more bytes only costs a round trip.
                let _ = tcp.set_nodelay(true);
                return Ok(tcp);
            }
            Err(e) => problem = e.to_string(),
        }
    }
    Err(Error::Connect { host: host.to_owned(), port, problem })
}

fn tls_error(host: &str, error: &std::io::Error) -> Error {
    let host = host.to_owned();
    let problem = error.to_string();
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Error::Certificate { host, problem }
        }
        _ => Error::Tls { host, problem },
    }
}
