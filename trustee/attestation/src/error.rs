//! What can go wrong beside the verdict itself.

use cocoon_stage::{Code, Failure};

/// A reference value that cannot be kept, or storage that failed. Never a verdict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A reference value breaks a limit.
    #[error("reference value {name:?}: {reason}")]
    ReferenceValue {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A stored reference value does not parse.
    #[error("the stored reference value {0} is damaged")]
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
            Error::ReferenceValue { .. } => Failure::new(Code::RegisterFailed, error.to_string()),
        }
    }
}
