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
use crate::resolve::addresses;

/// Whom an `https` server's certificate must come from.
#[derive(Clone, Debug)]
pub enum Roots {
    /// The certificates in a PEM bundle, such as `/etc/ssl/certs/ca-certificates.crt`. A missing file trusts nobody.
    System(PathBuf),
    /// Exactly these certificates (PEM texts) and nobody else.
    Pinned(Vec<String>),
}

pub(crate) fn tls_config(roots: &Roots) -> Result<Arc<ClientConfig>, Error> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::System(path) => {
            let bundle = std::fs::read(path).unwrap_or_default();
            let certificates = CertificateDer::pem_slice_iter(&bundle).filter_map(Result::ok);
            store.add_parsable_certificates(certificates);
        }
        Roots::Pinned(texts) => {
            for text in texts {
                for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
                    let certificate = certificate.map_err(|e| Error::Roots(e.to_string()))?;
                    store.add(certificate).map_err(|e| Error::Roots(e.to_string()))?;
                }
            }
            if store.is_empty() {
                return Err(Error::Roots("no certificate in the PEM text".into()));
            }
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

/// A byte stream to a server.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(crate) async fn connect(
    host: &str,
    port: u16,
    tls: Option<&Arc<ClientConfig>>,
    loopback: Option<IpAddr>,
    limit: Duration,
) -> Result<Box<dyn Stream>, Error> {
    let work = async {
        let tcp = connect_tcp(host, port, loopback).await?;
        let Some(config) = tls else { return Ok(Box::new(tcp) as Box<dyn Stream>) };
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|e| Error::Url(format!("{host}: {e}")))?;
        let stream =
            TlsConnector::from(config.clone()).connect(name, tcp).await.map_err(|e| tls_error(host, &e))?;
        Ok(Box::new(stream) as Box<dyn Stream>)
    };
    tokio::time::timeout(limit, work).await.unwrap_or(Err(Error::Timeout(limit)))
}

async fn connect_tcp(host: &str, port: u16, loopback: Option<IpAddr>) -> Result<TcpStream, Error> {
    let mut problem = String::from("no address");
    for ip in addresses(host, loopback).await? {
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
