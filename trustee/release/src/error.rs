//! What can be wrong with a registration or a resource.

use cocoon_stage::{Code, Failure};

/// A registration or resource that cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not `repository/type/tag`.
    #[error("{0:?} is not a resource path: three parts of letters, digits, `_`, `-` and (not first) `.`")]
    Path(String),
    /// The registration breaks a limit or contradicts itself.
    #[error("registration: {0}")]
    Registration(String),
    /// A secret or resource above the limit.
    #[error("a secret of {0} bytes is too large")]
    TooLarge(usize),
    /// A stored record does not parse.
    #[error("the record of workload {0} is damaged")]
    Record(String),
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] cocoon_store::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) => error.into(),
            Error::Record(_) => Failure::new(Code::StoreCorrupt, error.to_string()),
            Error::Path(_) | Error::Registration(_) | Error::TooLarge(_) => {
                Failure::new(Code::RegisterFailed, error.to_string())
            }
        }
    }
}
