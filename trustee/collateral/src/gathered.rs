//! What a service hands out: documents, and what is to be told of them.

use std::sync::Arc;

use cocoon_evidence::collateral::{Collateral, Need};
use serde::Serialize;

use crate::Error;
use crate::entry::{Entry, State};
use crate::error::printable;

/// What was found for one need.
#[derive(Clone, Debug)]
pub struct Found {
    /// The document, if there is any; also one that is over.
    pub entry: Option<Arc<Entry>>,
    /// How good it is; without a document nothing.
    pub state: Option<State>,
    /// Why there is none, or none better.
    pub error: Option<Error>,
}

/// What is to be told of one need when a decision is explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The need, printable.
    pub need: String,
    /// The document's state; `None` where it is missing.
    pub state: Option<State>,
    /// When it was fetched, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetched_unix: Option<u64>,
    /// Its last second by its own dates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_until_unix: Option<u64>,
    /// Why there is none, or none better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The documents for one attestation. What is missing is missing; verification says what follows.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// For the verifier, which checks every signature and date.
    pub collateral: Collateral,
    /// For people: one for each need.
    pub notes: Vec<Note>,
}

impl Note {
    pub(crate) fn missing(need: &str, reason: &str) -> Self {
        Note {
            need: need.to_owned(),
            state: None,
            fetched_unix: None,
            valid_until_unix: None,
            reason: Some(reason.to_owned()),
        }
    }

    pub(crate) fn of(need: &Need, found: &Found) -> Self {
        // What did not pass the check may hold anything.
        let label = if need.check().is_ok() { need.to_string() } else { need.kind().to_owned() };
        let entry = found.entry.as_ref();
        Note {
            need: label,
            state: found.state,
            fetched_unix: entry.map(|e| e.fetched_unix),
            valid_until_unix: entry.and_then(|e| e.validity).map(|v| v.not_after),
            reason: found.error.as_ref().map(|e| printable(&e.to_string())),
        }
    }
}
