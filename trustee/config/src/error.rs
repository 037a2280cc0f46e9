//! What is wrong with a settings file, and what is worth knowing about one that is right.

use std::fmt;

use cocoon_stage::{Code, Failure};

/// Most problems that are told; a hostile file cannot ask for more.
const MAX_PROBLEMS: usize = 100;
/// Most characters of a key path that are shown.
const MAX_SHOWN: usize = 120;

/// One thing that is wrong. Holds no value of a secret key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Key path as the file writes it, e.g. `server.listen` or `plugins[1].endpoint`; empty for the file itself.
    pub key: String,
    /// Line in the file, from 1, where known (TOML only).
    pub line: Option<u32>,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub advice: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        write!(f, "{}; {}", self.what, self.advice)
    }
}

/// Something that is not wrong but differs from what the reader of an upstream file may expect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Key path in the upstream file.
    pub key: String,
    /// Line in the file, from 1, where known.
    pub line: Option<u32>,
    /// What to know.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        write!(f, "`{}`: {}", self.key, self.text)
    }
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The problems, at least one, one a line.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

impl From<Vec<Problem>> for Error {
    fn from(problems: Vec<Problem>) -> Self {
        Error::Invalid(problems)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::new(Code::ConfigInvalid, error.to_string())
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Gathers problems, at most [`MAX_PROBLEMS`] and one that says how many more there are.
#[derive(Default)]
pub(crate) struct Problems {
    list: Vec<Problem>,
    more: usize,
}

impl Problems {
    /// Adds one.
    pub fn add(&mut self, key: &str, line: Option<u32>, what: impl Into<String>, advice: impl Into<String>) {
        if self.list.len() >= MAX_PROBLEMS {
            self.more = self.more.saturating_add(1);
            return;
        }
        self.list.push(Problem { key: shown(key), line, what: what.into(), advice: advice.into() });
    }

    /// All of them in the order of the file, or none.
    pub fn finish(mut self) -> Result<(), Vec<Problem>> {
        if self.list.is_empty() {
            return Ok(());
        }
        self.list.sort_by_key(|p| p.line.unwrap_or(u32::MAX));
        if self.more > 0 {
            self.list.push(Problem {
                key: String::new(),
                line: None,
                what: format!("{} more problems", self.more),
                advice: "correct those above first".into(),
            });
        }
        Err(self.list)
    }

    /// Whether further ones are only counted, so that looking for advice is a waste.
    pub fn full(&self) -> bool {
        self.list.len() >= MAX_PROBLEMS
    }
}

/// A key path or value from the file, safe to print: short and without control characters.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(MAX_SHOWN) {
        if matches!(c, '"' | '\'' | '\\') {
            out.push(c);
        } else {
            out.extend(c.escape_debug());
        }
    }
    if text.chars().nth(MAX_SHOWN).is_some() {
        out.push('…');
    }
    out
}
