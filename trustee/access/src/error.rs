//! What can be wrong with the settings of access, and with the keys they name.

use cocoon_stage::{Code, Failure};

/// A failure of construction or of [`crate::Access::refresh`]. Refused requests are [`crate::Denied`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is not usable.
    #[error("access setting: {0}")]
    Setting(String),
    /// An endpoint's regular expression is not usable.
    #[error("access rule of role {role}: {regex:?}: {reason}")]
    Endpoint {
        /// Role of the rule.
        role: String,
        /// The expression.
        regex: String,
        /// Why it is refused.
        reason: String,
    },
    /// Keys of an identity provider could not be read or fetched.
    #[error("keys of an identity provider, {origin}: {reason}")]
    Keys {
        /// File, URL, or where in the settings.
        origin: String,
        /// Why.
        reason: String,
    },
    /// Unrestricted administration was asked for without the second setting that says it is meant.
    #[error("insecure_allow_all is set but not acknowledged")]
    Unacknowledged,
    /// The crypto provider failed (no randomness).
    #[error("the crypto provider failed")]
    Crypto,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error {
            Error::Crypto => Code::Internal,
            _ => Code::ConfigInvalid,
        };
        Failure::new(code, error.to_string())
    }
}
