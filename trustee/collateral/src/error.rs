//! Why a document is not at hand.

use cocoon_evidence::collateral::Vendor;
use cocoon_stage::{Code, Failure};

/// A failure to get, keep or exchange a document. `at` names the source: a host, a folder, a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The need cannot be one of its vendor's; nothing was asked.
    #[error("not a possible need: {0}")]
    Need(cocoon_evidence::Error),
    /// Nobody to ask.
    #[error("no source of {0} documents is configured")]
    NoSource(Vendor),
    /// The source has no such document.
    #[error("{at} has no such document")]
    NotFound {
        /// Who was asked.
        at: String,
    },
    /// The source was asked as often as its pace allows, or said so itself.
    #[error("{at} may be asked again in {seconds} s")]
    Limited {
        /// Who would be asked.
        at: String,
        /// When to ask again.
        seconds: u64,
    },
    /// The source cannot be reached.
    #[error("{at} cannot be reached: {problem}")]
    Unreachable {
        /// Who was asked.
        at: String,
        /// What happened.
        problem: String,
    },
    /// The source gave something else than the document.
    #[error("{at} gave a wrong answer: {problem}")]
    Answer {
        /// Who was asked.
        at: String,
        /// What is wrong.
        problem: String,
    },
    /// The caller's time is over; the fetch may go on for others.
    #[error("still being fetched when the time was over")]
    TimedOut,
    /// Too many documents are being fetched at once.
    #[error("too many documents are being fetched")]
    Busy,
    /// A setting cannot be used.
    #[error("{0}")]
    Settings(String),
    /// The folder or a file cannot be used.
    #[error("{path}: {problem}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        problem: String,
    },
    /// A bundle or a file of documents is not what it should be.
    #[error("{0}")]
    Bundle(String),
    /// A document is not of its kind.
    #[error("not the document it should be: {0}")]
    Document(cocoon_evidence::Error),
}

impl Error {
    pub(crate) fn file(path: &std::path::Path, problem: impl std::fmt::Display) -> Self {
        Error::File { path: path.display().to_string(), problem: printable(&problem.to_string()) }
    }

    pub(crate) fn bundle(problem: impl std::fmt::Display) -> Self {
        Error::Bundle(printable(&problem.to_string()))
    }
}

/// A message that may quote a hostile document, short and printable.
pub(crate) fn printable(text: &str) -> String {
    const MAX: usize = 200;
    let mut out: String =
        text.chars().take(MAX).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
    if text.chars().nth(MAX).is_some() {
        out.push_str("...");
    }
    out
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Settings(_) => Code::ConfigInvalid,
            Error::File { .. } => Code::StoreUnavailable,
            Error::Bundle(_) | Error::Document(_) => Code::AttestCollateralInvalid,
            Error::Need(_) => Code::UsageInvalid,
            Error::Busy => Code::ServerBusy,
            _ => Code::AttestCollateralMissing,
        };
        Failure::new(code, error.to_string())
    }
}
