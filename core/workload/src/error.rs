use cocoon_stage::{Code, Failure};

use crate::log::Problem;

/// Why manifests do not become plans.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The text holds no manifests.
    #[error("{0}")]
    Text(String),
    /// Fields of one object are wrong, or nothing that a confidential pod can have.
    #[error("{label}: {}", told(problems))]
    Fields {
        /// Which object, for people.
        label: String,
        /// What is wrong, at least one.
        problems: Vec<Problem>,
    },
    /// The plan came out as one that guests do not take, such as one that is too large.
    #[error("{label}: {problem}")]
    Plan {
        /// Which object, for people.
        label: String,
        /// What is wrong.
        problem: String,
        /// Whether it is too large.
        too_large: bool,
    },
}

fn told(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Error {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Error::Text(_) => Code::PlanManifestInvalid,
            Error::Fields { problems, .. } if problems.iter().any(|p| !p.unsupported) => {
                Code::PlanManifestInvalid
            }
            Error::Fields { .. } => Code::PlanFieldUnsupported,
            Error::Plan { too_large: true, .. } => Code::PlanTooLarge,
            Error::Plan { .. } => Code::PlanInvalid,
        }
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure::new(e.code(), e.to_string())
    }
}
