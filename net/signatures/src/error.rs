//! Why it could not be found out which signatures an image has.

use cocoon_stage::{Code, Failure};

/// A place of signatures that could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The registry.
    #[error("signatures in the registry: {0}")]
    Registry(#[from] cocoon_registry::Error),
    /// A look-aside place could not be reached, or fell silent.
    #[error("look-aside signature {url}: {problem}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// The last problem.
        problem: String,
    },
    /// A look-aside place answered something else than a signature or that there is none, or may not be read here.
    #[error("look-aside signature {url}: {problem}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is wrong.
        problem: String,
    },
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        let code = match e {
            Error::Registry(e) => return e.into(),
            Error::Unreachable { .. } => Code::ImageRegistryUnreachable,
            Error::Answer { .. } => Code::ImageRegistryAnswer,
        };
        Failure::new(code, e.to_string())
    }
}
