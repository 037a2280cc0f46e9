//! What is decided about each field, and what is wrong.

use std::fmt;

use serde::Serialize;

/// So many things that are wrong are told; a manifest of a million mistakes needs no more.
const MAX_PROBLEMS: usize = 100;
/// Longest value that a decision repeats, in characters.
const MAX_SHOWN: usize = 200;

/// Who has the say over a field of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The plan holds it; the guest lets nobody change it.
    Fixed,
    /// The cluster may change it, or it concerns the cluster alone.
    Open,
    /// No confidential pod can have it.
    Refused,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Fixed => "fixed",
            State::Open => "open",
            State::Refused => "refused",
        })
    }
}

/// What was decided about a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Where it is in the manifest, such as `spec.template.spec.containers[web].image`.
    pub field: String,
    /// Who has the say.
    pub state: State,
    /// What holds, in short.
    pub value: String,
    /// Why, in a sentence.
    pub why: String,
}

/// Something that keeps a manifest from becoming a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where it is in the manifest.
    pub field: String,
    /// What is wrong, and what to do.
    pub problem: String,
    /// Whether the field is sound but nothing that a confidential pod can have; else the manifest itself is wrong.
    pub unsupported: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

/// Decisions and problems, in the order in which they came up.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) decisions: Vec<Decision>,
    pub(crate) problems: Vec<Problem>,
}

impl Log {
    fn decide(&mut self, state: State, field: &str, value: impl Into<String>, why: &str) {
        let value = shown(&value.into());
        self.decisions.push(Decision { field: shown(field), state, value, why: shown_long(why) });
    }

    /// The plan holds it.
    pub(crate) fn fixed(&mut self, field: &str, value: impl Into<String>, why: &str) {
        self.decide(State::Fixed, field, value, why);
    }

    /// The cluster may change it.
    pub(crate) fn open(&mut self, field: &str, value: impl Into<String>, why: &str) {
        self.decide(State::Open, field, value, why);
    }

    /// No confidential pod can have it.
    pub(crate) fn refuse(&mut self, field: &str, why: impl Into<String>) {
        let why = why.into();
        self.decide(State::Refused, field, "", &why);
        self.problem(field, why, true);
    }

    /// The manifest is wrong.
    pub(crate) fn wrong(&mut self, field: &str, problem: impl Into<String>) {
        self.problem(field, problem.into(), false);
    }

    fn problem(&mut self, field: &str, problem: String, unsupported: bool) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { field: shown(field), problem: shown_long(&problem), unsupported });
        }
    }
}

/// A text as one short line.
pub(crate) fn shown(text: &str) -> String {
    cut(text, MAX_SHOWN)
}

fn shown_long(text: &str) -> String {
    cut(text, 4 * MAX_SHOWN)
}

fn cut(text: &str, most: usize) -> String {
    let mut line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most + 1).collect();
    if line.chars().count() > most {
        line.pop();
        line.push('…');
    }
    line
}
