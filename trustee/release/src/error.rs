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
    /// A release rule that says nothing clear.
    #[error("release rule: {0}")]
    Rule(String),
    /// A foreign home of secrets did not do what was asked.
    #[error("{0}")]
    Source(String),
    /// A stored record does not parse.
    #[error("the record of {0} is damaged")]
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
            Error::Source(_) => Failure::new(Code::StoreUnavailable, error.to_string()),
            Error::Path(_) | Error::Registration(_) | Error::Rule(_) | Error::TooLarge(_) => {
                Failure::new(Code::RegisterFailed, error.to_string())
            }
        }
    }
}
