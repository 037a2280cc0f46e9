//! What can be wrong with a message, a key, a token or an initdata document.

use cocoon_stage::{Code, Failure};

/// A protocol error; it names the part and the problem, never a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Text is not valid base64 (or base64url) or has trailing bits.
    #[error("{0}: not valid base64")]
    Base64(&'static str),
    /// A value is longer than allowed.
    #[error("{what} is {size} bytes; at most {limit} are allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// JSON that cannot be read or written.
    #[error("{what}: {problem}")]
    Json {
        /// Which document.
        what: &'static str,
        /// The parser's words.
        problem: String,
    },
    /// A value that is not allowed.
    #[error("{what}: {problem}")]
    Invalid {
        /// Which value.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// An algorithm that is not supported.
    #[error("algorithm {0:?} is not supported")]
    Algorithm(String),
    /// Initdata that is not of the format.
    #[error("initdata: {0}")]
    InitData(String),
    /// A signature that does not verify, or by an untrusted key.
    #[error("signature: {0}")]
    Signature(&'static str),
    /// A token that is malformed or of a kind that is not accepted.
    #[error("token: {0}")]
    Token(&'static str),
    /// A token outside its validity.
    #[error("token is expired or not yet valid")]
    Expired,
    /// Ciphertext that does not decrypt.
    #[error("ciphertext does not decrypt")]
    Undecryptable,
    /// The crypto library refused an operation that should not fail.
    #[error("crypto operation failed: {0}")]
    Crypto(&'static str),
}

impl Error {
    pub(crate) fn invalid(what: &'static str, problem: impl Into<String>) -> Self {
        Error::Invalid { what, problem: problem.into() }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        let code = match &e {
            Error::InitData(_) => Code::InitdataMalformed,
            Error::Expired | Error::Signature(_) | Error::Token(_) => Code::ReleaseTokenInvalid,
            Error::Undecryptable => Code::FetchUndecryptable,
            _ => Code::AttestProtocol,
        };
        Failure::new(code, e.to_string())
    }
}
