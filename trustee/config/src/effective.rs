//! The settings as they are in force: every key with its value and where it came from.

use std::collections::BTreeMap;
use std::fmt;

use crate::key::{Key, Section};
use crate::kind::Set;

/// Where a value came from.
#[derive(Clone, PartialEq)]
pub(crate) enum Origin {
    /// Nobody said anything.
    Default,
    /// The file; `source` is the upstream key it was translated from.
    File { line: Option<u32>, source: Option<String> },
    /// An environment variable.
    Environment,
    /// A command line flag.
    Flag,
    /// Follows from other settings.
    Derived(&'static str),
}

/// One key in force.
#[derive(Clone)]
pub(crate) struct Entry {
    pub key: &'static Key,
    /// `None` if not set, or given but wrong.
    pub value: Option<Set>,
    pub origin: Origin,
    /// Its condition holds, so the value means something.
    pub applies: bool,
}

/// All keys in force.
#[derive(Clone, Default)]
pub(crate) struct Effective {
    /// By concrete path, e.g. `plugins[0].name`.
    pub entries: BTreeMap<String, Entry>,
    /// How many tables each repeated section has, by its path without `[]`.
    pub counts: BTreeMap<String, usize>,
}

impl Effective {
    /// The value at a concrete path.
    pub fn value(&self, path: &str) -> Option<&Set> {
        self.entries.get(path)?.value.as_ref()
    }

    /// A boolean, false if unset.
    pub fn flag(&self, path: &str) -> bool {
        matches!(self.value(path), Some(Set::Bool(true)))
    }

    /// A text.
    pub fn text(&self, path: &str) -> Option<&str> {
        if let Some(Set::Text(text)) = self.value(path) { Some(text.as_str()) } else { None }
    }

    /// An integer.
    pub fn int(&self, path: &str) -> Option<u64> {
        if let Some(Set::Int(number)) = self.value(path) { Some(*number) } else { None }
    }

    /// A list.
    pub fn texts(&self, path: &str) -> Vec<&str> {
        match self.value(path) {
            Some(Set::Texts(texts)) => texts.iter().map(|t| t.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether somebody gave this key, rightly or wrongly.
    pub fn given(&self, path: &str) -> bool {
        self.entries.get(path).is_some_and(|e| !matches!(e.origin, Origin::Default | Origin::Derived(_)))
    }

    /// The path as the reader's file writes it, and its line.
    pub fn place(&self, path: &str) -> (String, Option<u32>) {
        match self.entries.get(path).map(|e| &e.origin) {
            Some(Origin::File { line, source: Some(source) }) => (source.clone(), *line),
            Some(Origin::File { line, source: None }) => (path.to_owned(), *line),
            _ => (path.to_owned(), None),
        }
    }

    /// How many tables a repeated section has.
    pub fn count(&self, section: &str) -> usize {
        self.counts.get(section).copied().unwrap_or(0)
    }

    /// The concrete paths of a section: itself, or one per table.
    pub fn instances(&self, section: &Section) -> Vec<String> {
        if section.repeated() {
            (0..self.count(section.plain())).map(|i| format!("{}[{i}]", section.plain())).collect()
        } else {
            vec![section.path.to_owned()]
        }
    }
}

impl fmt::Debug for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.entries.len())
    }
}
