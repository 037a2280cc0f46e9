//! What can go wrong between a guest and Trustee, and the coded failure each becomes.

use cocoon_stage::{Code, Failure, Stage};

/// A failure of the handshake or of fetching a resource.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable connection or answer.
    #[error("Trustee: {0}")]
    Http(#[from] cocoon_http::Error),
    /// Trustee said no.
    #[error("Trustee refused {path} with status {status}: {detail}")]
    Refused {
        /// Path asked for.
        path: String,
        /// HTTP status.
        status: u16,
        /// Trustee's own code, where it gave one.
        code: Option<Code>,
        /// Trustee's request id, where it gave one.
        request_id: Option<String>,
        /// Trustee's words, at most 500 characters.
        detail: String,
    },
    /// An answer that is not of the protocol.
    #[error("Trustee's answer to {path} is malformed: {problem}")]
    Malformed {
        /// Path asked for.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A message could not be built.
    #[error("protocol: {0}")]
    Protocol(#[from] cocoon_protocol::Error),
    /// Evidence could not be collected.
    #[error(transparent)]
    Evidence(Failure),
    /// The resource could not be decrypted with the guest's key.
    #[error("resource {0} could not be decrypted")]
    Undecryptable(String),
}

impl Error {
    /// Whether a new handshake may help (HTTP 401 without a final code).
    pub fn wants_new_handshake(&self) -> bool {
        matches!(self, Error::Refused { status: 401, code: None | Some(Code::ReleaseTokenInvalid), .. })
    }

    /// Whether the other side has no such path.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Error::Refused { status: 404 | 405, .. })
    }

    /// The coded failure, at this stage where the code itself does not say.
    pub fn into_failure(self, stage: Stage) -> Failure {
        let reason = self.to_string();
        match self {
            Error::Evidence(failure) => failure,
            Error::Http(cocoon_http::Error::Certificate { .. }) => {
                Failure::new(Code::AttestTrusteeCertificate, reason).at(stage)
            }
            Error::Http(_) => Failure::new(Code::AttestTrusteeUnreachable, reason).at(stage),
            Error::Refused { code, request_id, .. } => {
                let code = code.unwrap_or(match stage {
                    Stage::Attest => Code::AttestProtocol,
                    _ => Code::FetchFailed,
                });
                let failure = Failure::new(code, reason);
                match request_id {
                    Some(id) => failure.with_request_id(id),
                    None => failure,
                }
            }
            Error::Malformed { .. } | Error::Protocol(_) => {
                Failure::new(Code::AttestProtocol, reason).at(stage)
            }
            Error::Undecryptable(_) => Failure::new(Code::FetchUndecryptable, reason).at(stage),
        }
    }
}
