//! What can be wrong with a policy, its evaluation or its storage.

use cocoon_stage::{Code, Failure};

/// A policy that cannot be kept, an evaluation that came to no result, or storage that failed. Never a verdict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is longer than [`crate::MAX_TEXT`].
    #[error("a policy of {0} bytes is too long")]
    TooLong(usize),
    /// The text does not parse, is nested too deeply, or does not define what its kind must.
    #[error("the policy is not valid: {0}")]
    Invalid(String),
    /// The text calls a function that policies do not have.
    #[error("the policy calls {0}, which policies here do not have")]
    Builtin(String),
    /// The id is not 1–64 letters, digits, `_`, `.` and `-`, or not one for this kind of policy.
    #[error("{0:?} is not an id for this kind of policy")]
    Id(String),
    /// Author or note are too long or hold control characters.
    #[error("{0} is too long or holds control characters")]
    Label(&'static str),
    /// There are as many policies as may be.
    #[error("there are {0} policies already")]
    TooMany(usize),
    /// There is no such policy or version.
    #[error("there is no {0}")]
    Missing(String),
    /// The input is too large or too deep.
    #[error("the policy's input is {0}")]
    Input(&'static str),
    /// The evaluation took too long.
    #[error("the policy took more than {0} ms")]
    Time(u128),
    /// The evaluation wanted too much memory.
    #[error("the policy wants too much memory: {0}")]
    Memory(String),
    /// The evaluation failed.
    #[error("the policy failed: {0}")]
    Failed(String),
    /// The policy answered something that has no meaning.
    #[error("the policy's answer has no meaning: {0}")]
    Answer(String),
    /// A reference value could not be looked up.
    #[error("reference value {id:?}: {reason}")]
    Reference {
        /// Its name.
        id: String,
        /// Why.
        reason: String,
    },
    /// All evaluations that may run at once are running.
    #[error("too many policies are being evaluated")]
    Busy,
    /// Other administrators changed the same policy all the time.
    #[error("policy {0} is being changed by others")]
    Contended(String),
    /// A stored record or text is not what was stored.
    #[error("the stored policy {0} is damaged")]
    Damaged(String),
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] cocoon_store::Error),
}

impl Error {
    /// The stable code of this error.
    pub fn code(&self) -> Code {
        match self {
            Error::Store(error) => error.code(),
            Error::Damaged(_) => Code::StoreCorrupt,
            Error::Contended(_) => Code::StoreBusy,
            Error::Busy => Code::ServerBusy,
            Error::TooMany(_) => Code::StoreQuota,
            Error::TooLong(_) | Error::Invalid(_) | Error::Builtin(_) => Code::PolicyInvalid,
            Error::Id(_) | Error::Label(_) | Error::Missing(_) => Code::UsageInvalid,
            Error::Input(_)
            | Error::Time(_)
            | Error::Memory(_)
            | Error::Failed(_)
            | Error::Answer(_)
            | Error::Reference { .. } => Code::PolicyFailed,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::new(error.code(), error.to_string())
    }
}
