//! What can go wrong with Trustee's state.

use std::io;

use cocoon_stage::{Code, Failure};

/// Storage failure. The stored state is as it was before the call, except where a variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process held the state for longer than the time limit.
    #[error("another process holds {0}")]
    Busy(String),
    /// The disk (or quota) is full.
    #[error("no space left for {0}")]
    Full(String),
    /// The file is not readable as Trustee's state.
    #[error("{0}")]
    Corrupt(String),
    /// A sealed value does not open: other key, altered, or moved from another place.
    #[error("the value {ns}/{key} does not open with this key file")]
    Unsealable {
        /// Namespace it was read from.
        ns: String,
        /// Key it was read from.
        key: String,
    },
    /// The sealing key file is unusable.
    #[error("key file {path}: {reason}")]
    KeyFile {
        /// Path of the file.
        path: String,
        /// Why.
        reason: String,
    },
    /// `PutMode::Create` found a value.
    #[error("{ns}/{key} exists already")]
    Exists {
        /// Namespace.
        ns: String,
        /// Key.
        key: String,
    },
    /// `PutMode::Replace` found no value.
    #[error("there is no {ns}/{key}")]
    Missing {
        /// Namespace.
        ns: String,
        /// Key.
        key: String,
    },
    /// A namespace or key outside the allowed form.
    #[error("invalid storage key: {0}")]
    InvalidKey(String),
    /// A value over `MAX_VALUE`.
    #[error("a value of {0} bytes is too large")]
    ValueTooLarge(usize),
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// File or folder.
        path: String,
        /// Its answer.
        source: io::Error,
    },
    /// The database did not answer, refused, or all connections were busy for too long. Nothing was changed.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The connection broke, or time ran out, after a change was sent and before it was confirmed: it may have
    /// taken place. Read the state before doing it again.
    #[error("it is unknown whether the change took place: {0}")]
    OutcomeUnknown(String),
    /// The settings of a database are unusable or unsafe. Never holds the password.
    #[error("database settings: {0}")]
    Settings(String),
    /// A backup is truncated, altered, encrypted with another key, or not a backup.
    #[error("backup: {0}")]
    Backup(String),
    /// A restore into an empty store found records.
    #[error("the store holds records already")]
    NotEmpty,
    /// The crypto provider failed (no randomness).
    #[error("the crypto provider failed")]
    Crypto,
}

impl Error {
    /// The error for an IO failure on `path`: full disks are told apart, because their cure is another.
    pub(crate) fn io(path: &std::path::Path, source: io::Error) -> Self {
        let path = path.display().to_string();
        if is_full(&source) { Error::Full(path) } else { Error::Io { path, source } }
    }

    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Error::Busy(_) => Code::StoreBusy,
            Error::Full(_) => Code::StoreFull,
            Error::Corrupt(_)
            | Error::Unsealable { .. }
            | Error::KeyFile { .. }
            | Error::Backup(_)
            | Error::Io { .. } => Code::StoreCorrupt,
            Error::Unavailable(_) | Error::OutcomeUnknown(_) => Code::StoreUnavailable,
            Error::Settings(_) => Code::ConfigInvalid,
            Error::NotEmpty => Code::UsageInvalid,
            Error::Exists { .. }
            | Error::Missing { .. }
            | Error::InvalidKey(_)
            | Error::ValueTooLarge(_)
            | Error::Crypto => Code::Internal,
        }
    }
}

/// Whether the error means that there is no room: disk, quota or the process's file size limit.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::new(error.code(), error.to_string())
    }
}
