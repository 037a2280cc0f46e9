//! What can go wrong when calling others or listening, as the owner of this Trustee sees it.

use cocoon_stage::{Code, Failure};

use crate::GrpcCode;

/// Failure of a call to a peer, or of setting one up. Texts never hold a message's content or a credential.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An endpoint's settings cannot be used.
    #[error("endpoint {name}: {reason}")]
    Endpoint {
        /// The endpoint's name in the settings.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The limits of a listener cannot be used.
    #[error("limits: {0}")]
    Limits(&'static str),
    /// The peer could not be reached, or the connection to it broke.
    #[error("{name} cannot be reached: {reason}")]
    Unreachable {
        /// The endpoint's name.
        name: String,
        /// What happened.
        reason: String,
    },
    /// The peer did not answer in time.
    #[error("{name} did not answer in time")]
    Deadline {
        /// The endpoint's name.
        name: String,
    },
    /// A message for the peer is larger than it may be.
    #[error("the message for {name} is larger than {limit} bytes")]
    TooLarge {
        /// The endpoint's name.
        name: String,
        /// The most bytes.
        limit: usize,
    },
    /// The peer's answer is not gRPC, malformed or too large.
    #[error("{name} answered with {reason}")]
    Protocol {
        /// The endpoint's name.
        name: String,
        /// What was wrong.
        reason: String,
    },
    /// The peer refused the call.
    #[error("{name} refused: {status}: {message}")]
    Status {
        /// The endpoint's name.
        name: String,
        /// The gRPC status.
        status: GrpcCode,
        /// The peer's words: at most 512 characters, without control characters.
        message: String,
        /// The peer's own code, if it is a Cocoon.
        code: Option<Code>,
    },
    /// An external plugin answered with a status other than 0 or 2xx.
    #[error("the plugin {name} answered with status {status}")]
    Plugin {
        /// The plugin's name.
        name: String,
        /// Its status, in HTTP's terms.
        status: i32,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Endpoint { .. } | Error::Limits(_) => Code::ConfigInvalid,
            Error::Status { code: Some(code), .. } => *code,
            Error::Plugin { status: 404, .. } => Code::ReleaseSecretMissing,
            Error::Plugin { status: 401 | 403, .. } => Code::ReleaseDenied,
            _ => Code::FetchFailed,
        };
        Failure::new(code, error.to_string())
    }
}
