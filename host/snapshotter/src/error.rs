//! What a caller is told, in containerd's terms.

use std::io;
use std::path::{Path, PathBuf};

use cocoon_grpc::{Code, Status};
use cocoon_stage::Failure;

/// Why something is refused or fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such snapshot.
    #[error("snapshot {0} does not exist")]
    NotFound(String),
    /// There is one of this name already.
    #[error("snapshot {0} exists already")]
    AlreadyExists(String),
    /// The request cannot be meant.
    #[error("{0}")]
    Invalid(String),
    /// The state does not allow it.
    #[error("{0}")]
    Precondition(String),
    /// There is no room for more snapshots.
    #[error("there are {0} snapshots already")]
    TooMany(usize),
    /// Another process serves the folder.
    #[error("{} is served by another process", .0.display())]
    InUse(PathBuf),
    /// The file system failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        let code = match &error {
            Error::NotFound(_) => Code::NotFound,
            Error::AlreadyExists(_) => Code::AlreadyExists,
            Error::Invalid(_) => Code::InvalidArgument,
            Error::Precondition(_) => Code::FailedPrecondition,
            Error::TooMany(_) => Code::ResourceExhausted,
            Error::InUse(_) => Code::Unavailable,
            Error::Io { .. } => Code::Unknown,
        };
        Status::new(code, error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let code = match &error {
            Error::InUse(_) => cocoon_stage::Code::StoreBusy,
            _ => cocoon_stage::Code::HostUnsupported,
        };
        Failure::new(code, format!("snapshotter: {error}"))
    }
}
