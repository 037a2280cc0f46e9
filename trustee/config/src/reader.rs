//! Typed access to the settings in force, once nothing is wrong with them.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::Secret;
use crate::effective::Effective;
use crate::kind::Set;
use crate::settings::{Given, TokenChoice};

/// Reads one section. A value the table promises but does not give is noted in `missing`; tests show there is none.
pub(crate) struct Reader<'a> {
    settings: &'a Effective,
    section: String,
    missing: &'a RefCell<Vec<String>>,
}

impl<'a> Reader<'a> {
    pub fn new(
        settings: &'a Effective,
        section: impl Into<String>,
        missing: &'a RefCell<Vec<String>>,
    ) -> Self {
        Reader { settings, section: section.into(), missing }
    }

    fn get(&self, name: &str) -> Option<&'a Set> {
        let path = format!("{}.{name}", self.section);
        let entry = self.settings.entries.get(&path);
        if entry.is_none() {
            self.missing.borrow_mut().push(path);
        }
        entry?.value.as_ref()
    }

    fn must<T>(&self, name: &str, value: Option<T>, otherwise: T) -> T {
        value.unwrap_or_else(|| {
            self.missing.borrow_mut().push(format!("{}.{name}", self.section));
            otherwise
        })
    }

    pub fn flag(&self, name: &str) -> bool {
        let value = if let Some(Set::Bool(b)) = self.get(name) { Some(*b) } else { None };
        self.must(name, value, false)
    }

    pub fn maybe_int(&self, name: &str) -> Option<u64> {
        if let Some(Set::Int(number)) = self.get(name) { Some(*number) } else { None }
    }

    pub fn int(&self, name: &str) -> u64 {
        self.must(name, self.maybe_int(name), 0)
    }

    pub fn size(&self, name: &str) -> usize {
        usize::try_from(self.int(name)).unwrap_or(usize::MAX)
    }

    pub fn seconds(&self, name: &str) -> Duration {
        Duration::from_secs(self.int(name))
    }

    pub fn ratio(&self, name: &str) -> f64 {
        let value = if let Some(Set::Ratio(number)) = self.get(name) { Some(*number) } else { None };
        self.must(name, value, 0.0)
    }

    pub fn maybe_text(&self, name: &str) -> Option<String> {
        if let Some(Set::Text(text)) = self.get(name) { Some(text.to_string()) } else { None }
    }

    pub fn text(&self, name: &str) -> String {
        self.must(name, self.maybe_text(name), String::new())
    }

    pub fn maybe_path(&self, name: &str) -> Option<PathBuf> {
        self.maybe_text(name).map(PathBuf::from)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(self.text(name))
    }

    pub fn maybe_socket(&self, name: &str) -> Option<SocketAddr> {
        self.maybe_text(name).and_then(|text| text.parse().ok())
    }

    pub fn texts(&self, name: &str) -> Vec<String> {
        let value = if let Some(Set::Texts(texts)) = self.get(name) {
            Some(texts.iter().map(|t| t.to_string()).collect())
        } else {
            None
        };
        self.must(name, value, Vec::new())
    }

    /// A secret from a key, or the file another key names.
    pub fn secret(&self, name: &str, file: &str) -> Given {
        match (self.get(name), self.maybe_path(file)) {
            (_, Some(path)) => Given::File(path),
            (Some(Set::Text(text)), None) => Given::Inline(Secret::new(text.as_str())),
            _ => self.must(name, None, Given::File(PathBuf::new())),
        }
    }

    /// `token_label` or `slot`.
    pub fn token(&self) -> TokenChoice {
        match (self.maybe_text("token_label"), self.maybe_int("slot")) {
            (Some(label), _) => TokenChoice::Label(label),
            (None, Some(slot)) => TokenChoice::Slot(slot),
            (None, None) => self.must("slot", None, TokenChoice::Slot(0)),
        }
    }
}
