//! Where a peer is and how it proves to be itself.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Scheme};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use zeroize::Zeroizing;

use crate::Error;

/// A certificate and key to show to the peer.
#[derive(Clone)]
pub struct ClientIdentity {
    /// Certificates in PEM, the client's own first.
    pub cert_chain_pem: String,
    /// Private key in PEM (PKCS#8, SEC1 or PKCS#1).
    pub key_pem: Zeroizing<String>,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity")
    }
}

/// A gRPC peer.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The peer's name in errors and logs.
    pub name: String,
    /// `https://HOST[:PORT]`, or `http://HOST[:PORT]` on this machine's loopback only.
    pub endpoint: String,
    /// Certificates to trust, in PEM; for https there are no others, so it is needed.
    pub ca_pem: Option<String>,
    /// What to show to the peer, if it asks; https only.
    pub identity: Option<ClientIdentity>,
    /// From the start of a call to its answer, connecting included; at most an hour.
    pub timeout: Duration,
}

/// An endpoint, understood.
pub(crate) struct Target {
    pub name: String,
    pub scheme: Scheme,
    pub authority: Authority,
    /// Host without the brackets of IPv6.
    pub host: String,
    pub port: u16,
    /// The server's name and the settings; none in the clear.
    pub tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
    pub timeout: Duration,
}

impl Endpoint {
    /// Checks the settings without connecting.
    ///
    /// # Errors
    /// [`Error::Endpoint`].
    pub(crate) fn target(self) -> Result<Target, Error> {
        let name = crate::failure::plain(&self.name);
        let wrong = |reason: &str| Error::Endpoint { name: name.clone(), reason: reason.to_owned() };
        let uri: Uri = self.endpoint.parse().map_err(|_| wrong("the address is not a URL"))?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(wrong("the address is not a URL"));
        };
        if parts.path_and_query.is_some_and(|path| path.as_str() != "/") || authority.as_str().contains('@') {
            return Err(wrong("the address may not hold a path, a query or a user"));
        }
        let port = match (authority.port_u16(), authority.as_str().rsplit_once(']')) {
            (Some(0), _) => return Err(wrong("port 0")),
            (Some(port), _) => port,
            // A port that is none must not become the default one.
            (None, None) if authority.as_str().contains(':') => {
                return Err(wrong("the port is not a number"));
            }
            (None, Some((_, after))) if !after.is_empty() => return Err(wrong("the port is not a number")),
            (None, _) if scheme == Scheme::HTTPS => 443,
            (None, _) => 80,
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if self.timeout.is_zero() || self.timeout > Duration::from_secs(3600) {
            return Err(wrong("the time-out must be above zero and at most an hour"));
        }
        let tls = if scheme == Scheme::HTTPS {
            let ca = self.ca_pem.ok_or_else(|| wrong("https needs a CA certificate"))?;
            let server = ServerName::try_from(host.clone()).map_err(|_| wrong("the host is not a name"))?;
            Some((server, Arc::new(client_config(&ca, self.identity).map_err(|reason| wrong(&reason))?)))
        } else if scheme == Scheme::HTTP {
            if self.identity.is_some() || self.ca_pem.is_some() {
                return Err(wrong("certificates need https"));
            }
            let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
            if !loopback {
                return Err(wrong("http is for this machine's loopback only"));
            }
            None
        } else {
            return Err(wrong("the address is neither https nor http"));
        };
        Ok(Target { name, scheme, authority, host, port, tls, timeout: self.timeout })
    }
}

fn client_config(ca_pem: &str, identity: Option<ClientIdentity>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        let der = der.map_err(|e| format!("CA certificate: {e}"))?;
        roots.add(der).map_err(|e| format!("CA certificate: {e}"))?;
    }
    if roots.is_empty() {
        return Err("there is no CA certificate".into());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(identity.cert_chain_pem.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| format!("client certificate: {e}"))?;
            // The parser's words could quote the key.
            let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())
                .map_err(|_| "the client key is not one in PEM".to_owned())?;
            builder.with_client_auth_cert(chain, key).map_err(|e| format!("client certificate: {e}"))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(endpoint: &str, ca_pem: Option<&str>) -> Result<Target, Error> {
        let ca_pem = ca_pem.map(str::to_owned);
        let timeout = Duration::from_secs(1);
        Endpoint { name: "p".into(), endpoint: endpoint.into(), ca_pem, identity: None, timeout }.target()
    }

    #[test]
    fn plain_is_for_loopback_only() {
        for (url, host, port) in [
            ("http://127.0.0.1:50051", "127.0.0.1", 50051),
            ("http://[::1]:7/", "::1", 7),
            ("http://localhost", "localhost", 80),
            ("http://[::1]", "::1", 80),
        ] {
            let target = target(url, None).unwrap();
            assert_eq!(
                (target.host.as_str(), target.port, target.tls.is_none()),
                (host, port, true),
                "{url}"
            );
        }
        for bad in [
            "http://10.0.0.1:1",
            "http://localhost.example.org",
            "http://127.0.0.1.example.org",
            "http://0.0.0.0:1",
            "http://127.0.0.1:1/path",
            "http://127.0.0.1:1/?q",
            "http://user@127.0.0.1:1",
            "http://127.0.0.1:0",
            "http://127.0.0.1:99999",
            "http://[::1]:x",
            "https://example.org",
            "ftp://127.0.0.1:1",
            "127.0.0.1:1",
            "unix:/x",
            "",
        ] {
            assert!(matches!(target(bad, None), Err(Error::Endpoint { .. })), "{bad}");
        }
    }

    #[test]
    fn https_needs_a_usable_ca() {
        let ca = rcgen::generate_simple_self_signed(["example.org".to_owned()]).unwrap().cert.pem();
        let target_of = target("https://example.org", Some(&ca)).unwrap();
        assert_eq!((target_of.port, target_of.tls.is_some()), (443, true));
        for bad in ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(target("https://example.org", Some(bad)).is_err(), "{bad}");
        }
        assert!(target("http://127.0.0.1:1", Some(&ca)).is_err());
    }

    #[test]
    fn a_key_is_never_shown() {
        let key_pem = Zeroizing::new("hunter2".to_owned());
        let identity = ClientIdentity { cert_chain_pem: String::new(), key_pem };
        assert!(!format!("{identity:?}").contains("hunter2"));
        assert!(!client_config("x", Some(identity)).unwrap_err().contains("hunter2"));
    }
}
