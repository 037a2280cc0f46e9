//! What can go wrong with the simulated secure processor.

use std::io;
use std::path::PathBuf;

use cocoon_stage::{Code, Failure};

/// The simulated secure processor cannot be opened, made or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder holds some of its files but not all.
    #[error("the simulated secure processor in {0} is incomplete; remove the folder to make a new one")]
    Incomplete(PathBuf),
    /// The files do not fit together, or were altered.
    #[error(
        "the simulated secure processor in {path} is unusable ({reason}); remove the folder to make a new one"
    )]
    Corrupt {
        /// Which folder.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// Others than the owner may read the key.
    #[error("{0} may be read by others; `chmod 600` it or remove the folder")]
    KeyExposed(PathBuf),
    /// A key or certificate could not be made, or a report not be signed.
    #[error("simulated secure processor: {0}")]
    Crypto(&'static str),
    /// A report's fields contradict each other.
    #[error(transparent)]
    Report(#[from] cocoon_evidence::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => Code::BootDiskFull,
            Error::Io { .. } => Code::HostUnsupported,
            Error::Crypto(_) | Error::Report(_) => Code::Internal,
            _ => Code::BootPlatformUnavailable,
        };
        Failure::new(code, error.to_string())
    }
}
