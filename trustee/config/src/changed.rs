//! What differs between two settings, and whether a reload is enough.

use std::collections::BTreeSet;

use crate::Settings;

/// Key paths whose values differ, sorted. No values, so no secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// A reload is enough.
    pub reloadable: Vec<String>,
    /// Listening addresses, state and seal: only a restart takes them.
    pub needs_restart: Vec<String>,
}

/// Compares what is in force with what was read anew. Where a value came from does not count.
pub fn changed(old: &Settings, new: &Settings) -> Changes {
    let (old, new) = (&old.effective.entries, &new.effective.entries);
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut changes = Changes::default();
    for path in paths {
        let (before, after) = (old.get(path), new.get(path));
        if before.and_then(|e| e.value.as_ref()) == after.and_then(|e| e.value.as_ref()) {
            continue;
        }
        let restart = before.or(after).is_some_and(|e| e.key.restart);
        if restart { &mut changes.needs_restart } else { &mut changes.reloadable }.push(path.clone());
    }
    changes
}
