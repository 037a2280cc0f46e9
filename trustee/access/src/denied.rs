//! A refused request.

use std::fmt;

use cocoon_stage::{Code, Failure};

/// Which of the two kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No credentials, or none that are valid: HTTP 401.
    Unauthenticated,
    /// The caller is known, or nobody is allowed: HTTP 403.
    Forbidden,
}

/// Why a request was refused: one short sentence without secrets, for the log and for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Denied {
    kind: Refusal,
    reason: String,
}

impl Denied {
    pub(crate) fn unauthenticated(reason: impl Into<String>) -> Self {
        Denied { kind: Refusal::Unauthenticated, reason: reason.into() }
    }

    pub(crate) fn forbidden(reason: impl Into<String>) -> Self {
        Denied { kind: Refusal::Forbidden, reason: reason.into() }
    }

    /// Which kind of refusal.
    pub fn kind(&self) -> Refusal {
        self.kind
    }

    /// HTTP status: 401 or 403.
    pub fn status(&self) -> u16 {
        match self.kind {
            Refusal::Unauthenticated => 401,
            Refusal::Forbidden => 403,
        }
    }

    /// The stable code, always [`Code::AccessDenied`].
    pub fn code(&self) -> Code {
        Code::AccessDenied
    }

    /// The reason.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        Failure::new(denied.code(), denied.reason)
    }
}
