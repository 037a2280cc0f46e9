//! `[server]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where Trustee listens, as whom, and how much clients may take.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Addresses, at least one.
    pub listen: Vec<SocketAddr>,
    /// What it shows to clients.
    pub identity: ServerIdentity,
    /// TLS versions to speak, at least one.
    pub tls_versions: Vec<TlsVersion>,
    /// PEM file of the authorities whose client certificates are asked for.
    pub client_ca: Option<PathBuf>,
    /// URL under which guests reach it.
    pub public_url: Option<String>,
    /// `[server.limits]`.
    pub limits: Limits,
}

/// The server's identity.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerIdentity {
    /// Made by Trustee, kept in the state folder.
    SelfSigned,
    /// PEM files.
    Files {
        /// The chain, own certificate first.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// No TLS. Checked: only loopback addresses unless the owner said otherwise.
    PlainHttp,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

/// How much clients may take.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Connections at a time from one address.
    pub connections_per_peer: usize,
    /// Attestation handshakes one address may begin in a minute.
    pub handshakes_per_peer_per_minute: u64,
    /// Largest request body, in bytes.
    pub body_bytes: usize,
    /// Most headers of a request, in bytes.
    pub header_bytes: usize,
    /// For a TLS handshake, and for the headers of each request.
    pub header_time: Duration,
    /// From a request's headers to its answer.
    pub request_time: Duration,
    /// Without a byte in either direction.
    pub idle_time: Duration,
    /// For requests in progress at the stop.
    pub drain_time: Duration,
}
