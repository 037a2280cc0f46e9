//! What can go wrong inside the embedded file.

use std::path::Path;

use redb::{DatabaseError, StorageError};

use crate::Error;
use crate::error::is_full;

/// A failure inside an operation, before it is tied to a path.
pub(super) enum Problem {
    Own(Error),
    Io(std::io::Error),
    Corrupt(String),
    /// The handle met an error before and wants to be opened again.
    Stale,
    Busy,
}

impl Problem {
    pub(super) fn breaks_handle(&self) -> bool {
        !matches!(self, Problem::Own(_))
    }

    pub(super) fn into_error(self, path: &Path) -> Error {
        let file = path.display();
        match self {
            Problem::Own(error) => error,
            Problem::Io(error) if is_full(&error) => Error::Full(file.to_string()),
            // redb reports a file that ends early or whose header is wrong as these kinds.
            Problem::Io(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
                ) =>
            {
                Error::Corrupt(format!("{file}: {error}"))
            }
            Problem::Io(source) => Error::Io { path: file.to_string(), source },
            Problem::Corrupt(reason) => Error::Corrupt(format!("{file}: {reason}")),
            Problem::Stale => Error::Corrupt(format!("{file}: an earlier failure left it unusable")),
            Problem::Busy => Error::Busy(file.to_string()),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Problem::Own(error)
    }
}

impl From<redb::Error> for Problem {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => Problem::Io(error),
            redb::Error::PreviousIo | redb::Error::DatabaseClosed => Problem::Stale,
            redb::Error::DatabaseAlreadyOpen => Problem::Busy,
            other => Problem::Corrupt(other.to_string()),
        }
    }
}

macro_rules! from_redb {
    ($($kind:ty),*) => { $(
        impl From<$kind> for Problem {
            fn from(error: $kind) -> Self {
                redb::Error::from(error).into()
            }
        }
    )* };
}
from_redb!(StorageError, redb::TableError, redb::TransactionError, redb::CommitError, DatabaseError);
