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
    /// The verification service failed.
    #[error(transparent)]
    Attestation(#[from] cocoon_attestation::Error),
    /// A reference value was refused.
    #[error(transparent)]
    Reference(#[from] cocoon_reference::Error),
    /// A policy was refused.
    #[error(transparent)]
    Policy(#[from] cocoon_policy::Error),
    /// The audit log failed, or is not what it was.
    #[error(transparent)]
    Audit(#[from] cocoon_audit::Error),
    /// The settings of administration cannot be used.
    #[error(transparent)]
    Access(#[from] cocoon_access::Error),
    /// A tenant that cannot be made, or whose record is damaged.
    #[error("tenant: {0}")]
    Tenant(String),
    /// Traces cannot be sent where they should go.
    #[error("telemetry: {0}")]
    Telemetry(String),
    /// A tenant's quota is used up.
    #[error("the tenant's quota of {most} {what} is used up")]
    Quota {
        /// Of what.
        what: &'static str,
        /// How many it may have.
        most: usize,
    },
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
            Error::Reference(error) => return error.into(),
            Error::Policy(error) => return error.into(),
            Error::Audit(error) => return error.into(),
            Error::Access(error) => return error.into(),
            Error::Tenant(_) | Error::Telemetry(_) => Code::UsageInvalid,
            Error::Quota { .. } => Code::StoreQuota,
            Error::Key(_) => Code::StoreCorrupt,
            Error::SimulatedRoot(_) | Error::Tls(_) => Code::UsageInvalid,
            Error::Io { .. } | Error::Internal(_) => Code::Internal,
        };
        Failure::new(code, error.to_string())
    }
}
