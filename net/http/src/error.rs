//! What can go wrong between a request and its answer.

/// An HTTP failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is not `http://…` or `https://…` with a host.
    #[error("not a usable URL: {0}")]
    Url(String),
    /// The host's name could not be looked up.
    #[error("name {host} could not be looked up: {problem}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        problem: String,
    },
    /// No TCP connection to the host.
    #[error("no connection to {host}:{port}: {problem}")]
    Connect {
        /// Host as in the URL.
        host: String,
        /// Port.
        port: u16,
        /// What the system said.
        problem: String,
    },
    /// The TLS handshake failed for another reason than the certificate.
    #[error("TLS with {host} failed: {problem}")]
    Tls {
        /// Host as in the URL.
        host: String,
        /// What the TLS library said.
        problem: String,
    },
    /// The server's certificate is not trusted for this host.
    #[error("certificate of {host} is not trusted: {problem}")]
    Certificate {
        /// Host as in the URL.
        host: String,
        /// What the TLS library said.
        problem: String,
    },
    /// The trusted certificates given are unusable.
    #[error("trusted certificates: {0}")]
    Roots(String),
    /// A proxy's address or the list of hosts that need none is unusable.
    #[error("proxy: {0}")]
    Proxy(String),
    /// The address belongs to this machine or to its cloud's internals, and whoever named it has no business there.
    #[error("{0} is an address of this machine or its platform, to which no other host may lead")]
    Forbidden(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(std::time::Duration),
    /// The answer's body stopped arriving.
    #[error("answer stopped: no byte for {0:?}")]
    Stalled(std::time::Duration),
    /// The answer's body is longer than the caller allows.
    #[error("answer is longer than {0} bytes")]
    TooLarge(usize),
    /// The connection broke or the answer is not HTTP.
    #[error("broken answer: {0}")]
    Protocol(String),
}
