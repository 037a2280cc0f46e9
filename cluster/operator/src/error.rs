//! What can go wrong in a controller.

/// What went wrong; it is tried again later.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server said no, or nothing.
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    /// An object that has no name; the API server makes none.
    #[error("an object without a name")]
    Nameless,
    /// Something of our own could not be made.
    #[error("{0}")]
    Own(String),
    /// A Trustee in the cluster does not answer.
    #[error("Trustee: {0}")]
    Trustee(String),
    /// A Trustee in the cluster says no.
    #[error("Trustee refused it: {0}")]
    Refused(String),
    /// Another operator has the lease.
    #[error("the lease was lost: {0}")]
    LeaseLost(String),
    /// The port of probes and metrics.
    #[error("port {port}: {source}")]
    Port {
        /// The port.
        port: u16,
        /// The system's answer.
        source: std::io::Error,
    },
}
