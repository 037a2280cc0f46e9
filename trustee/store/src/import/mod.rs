//! Reading what upstream Trustee keeps in its `LocalFs` and `LocalJson` storage.
//!
//! Nothing is interpreted or written here: each value is given to the caller, who knows what its namespace means.
//! The files are hostile: links are not followed, sizes and names are checked, and an unusable entry is listed
//! while the rest goes on.

use zeroize::Zeroizing;

use crate::{Error, MAX_KEY};

mod folder;
mod local_fs;
mod local_json;

pub use local_fs::import_local_fs;
pub use local_json::import_local_json;

/// Most problems that a [`Report`] lists.
const MAX_LISTED: usize = 1000;

/// One value found.
pub struct Imported {
    /// Upstream's namespace: 1–64 of `A-Z`, `a-z`, `0-9`, `_`, `-`, `.`, not beginning with a dot.
    pub namespace: String,
    /// Its key: 1–512 bytes, segments between `/` that are not empty, `.` or `..`; no control characters.
    pub key: String,
    /// The value, up to 16 MiB; it may be a secret in plain.
    pub value: Zeroizing<Vec<u8>>,
}

/// An entry that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// File, or file and key, relative to the folder; control characters escaped.
    pub place: String,
    /// Why.
    pub reason: String,
}

/// What an import found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Values given to the caller and accepted by it.
    pub imported: u64,
    /// Their length together in bytes.
    pub bytes: u64,
    /// Entries left out, at most 1000.
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub unlisted: u64,
}

/// Takes one value; the text of an error is listed as that entry's problem.
pub type Each<'a> = dyn FnMut(Imported) -> Result<(), String> + 'a;

impl Report {
    fn problem(&mut self, place: &str, reason: impl Into<String>) {
        if self.problems.len() >= MAX_LISTED {
            self.unlisted += 1;
            return;
        }
        let place = place
            .chars()
            .take(700)
            .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] });
        self.problems.push(Problem { place: place.collect(), reason: reason.into() });
    }

    fn give(&mut self, place: &str, imported: Imported, each: &mut Each<'_>) {
        let length = u64::try_from(imported.value.len()).unwrap_or(u64::MAX);
        match each(imported) {
            Ok(()) => {
                self.imported += 1;
                self.bytes = self.bytes.saturating_add(length);
            }
            Err(reason) => self.problem(place, reason),
        }
    }
}

fn is_namespace(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed)
}

fn is_key(key: &str) -> bool {
    let segment = |s: &str| !matches!(s, "" | "." | "..");
    key.len() <= MAX_KEY && !key.contains(char::is_control) && key.split('/').all(segment)
}

#[cfg(test)]
mod tests;
