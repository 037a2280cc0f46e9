//! What can go wrong with a Trustee itself, as its owner sees it.

use cocoon_stage::{Code, Failure};

/// Failure of a call of the embedding program or of start-up. Guests see codes only.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] cocoon_store::Error),
    /// A registration or secret was refused.
    #[error(transparent)]
    Release(#[from] cocoon_release::Error),
    /// A reference value was refused.
    #[error(transparent)]
    Attestation(#[from] cocoon_attestation::Error),
    /// A key kept in the store cannot be used.
    #[error("Trustee's own {0} cannot be used")]
    Key(&'static str),
    /// A simulated root that is none.
    #[error("simulated root: {0}")]
    SimulatedRoot(String),
    /// The TLS certificate or key cannot be used or made.
    #[error("TLS: {0}")]
    Tls(String),
    /// Reading or writing failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// Something that should not occur.
    #[error("{0}")]
    Internal(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error {
            Error::Store(error) => return error.into(),
            Error::Release(error) => return error.into(),
            Error::Attestation(error) => return error.into(),
            Error::Key(_) => Code::StoreCorrupt,
            Error::SimulatedRoot(_) | Error::Tls(_) => Code::UsageInvalid,
            Error::Io { .. } | Error::Internal(_) => Code::Internal,
        };
        Failure::new(code, error.to_string())
    }
}
