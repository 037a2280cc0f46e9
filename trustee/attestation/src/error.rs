//! What can go wrong beside the verdict itself.

use cocoon_stage::Failure;

/// Storage that failed, or a policy that could not be loaded. Never a verdict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A reference value could not be read.
    #[error(transparent)]
    Reference(#[from] cocoon_reference::Error),
    /// A policy could not be loaded.
    #[error(transparent)]
    Policy(#[from] cocoon_policy::Error),
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] cocoon_store::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Reference(error) => error.into(),
            Error::Policy(error) => error.into(),
            Error::Store(error) => error.into(),
        }
    }
}
