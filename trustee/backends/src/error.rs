//! What can go wrong in a foreign home.

use cocoon_stage::{Code, Failure};

/// A failure of a foreign home of secrets or keys. No variant's text holds a secret, a token or a PIN.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that cannot work.
    #[error("{0}")]
    Config(String),
    /// A file with a token or PIN is unusable.
    #[error("file {path}: {problem}")]
    SecretFile {
        /// Path of the file.
        path: String,
        /// Why.
        problem: String,
    },
    /// The Vault could not be reached, did not answer in time, is sealed, or is no active node.
    #[error("Vault: {0}")]
    Unavailable(String),
    /// The Vault refused: wrong or expired token, or no right to that path.
    #[error("Vault refused the token from {0}: it is wrong, expired, or has no right to this path")]
    TokenRefused(String),
    /// The Vault answered something that is not what its API says.
    #[error("Vault: {0}")]
    Answer(String),
    /// A value over the limit of [`cocoon_release::MAX_SECRET`].
    #[error("a secret of {0} bytes or more is too large")]
    TooLarge(usize),
    /// The PKCS#11 module or its token did not do what was asked.
    #[error("PKCS#11: {0}")]
    Token(String),
    /// The protected key cannot be had from what is stored: damaged, or made with another key.
    #[error("protected key: {0}")]
    Blob(String),
    /// The operator's command failed.
    #[error("command {program} {step}: {problem}")]
    Command {
        /// The program, without its arguments.
        program: String,
        /// `wrap` or `unwrap`.
        step: &'static str,
        /// What happened, with a bounded part of its standard error.
        problem: String,
    },
    /// A plugin request that is malformed.
    #[error("request: {0}")]
    Request(String),
    /// The guest's initdata does not name the resource it asks for.
    #[error("the guest's initdata does not name this resource")]
    NotBound,
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] cocoon_store::Error),
    /// The crypto provider failed (no randomness).
    #[error("the crypto provider failed")]
    Crypto,
    /// A thread or runtime could not be started, or ended early.
    #[error("background thread: {0}")]
    Thread(String),
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Error::Config(_) | Error::SecretFile { .. } => Code::ConfigInvalid,
            Error::Unavailable(_)
            | Error::TokenRefused(_)
            | Error::Answer(_)
            | Error::Token(_)
            | Error::Command { .. } => Code::StoreUnavailable,
            Error::TooLarge(_) | Error::Request(_) => Code::RegisterFailed,
            Error::Blob(_) => Code::StoreCorrupt,
            Error::NotBound => Code::ReleaseDenied,
            Error::Store(error) => error.code(),
            Error::Crypto | Error::Thread(_) => Code::Internal,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::new(error.code(), error.to_string())
    }
}
