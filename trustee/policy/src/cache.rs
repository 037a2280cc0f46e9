//! Policies in force, compiled, and when what is remembered may still be used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Compiled;
use crate::record::Active;

/// Most policies that are kept compiled.
const MAX_ENTRIES: usize = 256;

/// Compiled policies by id.
#[derive(Default)]
pub(crate) struct Cache {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Counts changes made through this process. What was read before a change is not remembered after it.
    changes: u64,
    entries: HashMap<String, Entry>,
}

struct Entry {
    record: Active,
    compiled: Arc<Compiled>,
    checked: Instant,
}

impl Cache {
    // Every critical section leaves the map consistent, so a poisoned lock is still usable.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of changes so far, to be read before the store is.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// What is remembered, if it was checked within `age`; without an age, however old.
    pub fn fresh(&self, id: &str, age: Option<Duration>) -> Option<Arc<Compiled>> {
        let state = self.state();
        let entry = state.entries.get(id)?;
        let usable = age.is_none_or(|age| entry.checked.elapsed() < age);
        usable.then(|| entry.compiled.clone())
    }

    /// What is remembered for exactly this record, which was just read from the store.
    pub fn confirmed(&self, id: &str, record: &Active, changes: u64) -> Option<Arc<Compiled>> {
        let mut state = self.state();
        let current = state.changes == changes;
        let entry = state.entries.get_mut(id).filter(|entry| entry.record == *record)?;
        if current {
            entry.checked = Instant::now();
        }
        Some(entry.compiled.clone())
    }

    /// Remembers what was read when there were `changes` changes.
    pub fn put(&self, id: &str, record: Active, compiled: &Arc<Compiled>, changes: u64) {
        let mut state = self.state();
        if state.changes != changes {
            return;
        }
        if state.entries.len() >= MAX_ENTRIES && !state.entries.contains_key(id) {
            state.entries.clear();
        }
        let entry = Entry { record, compiled: compiled.clone(), checked: Instant::now() };
        state.entries.insert(id.to_owned(), entry);
    }

    /// Forgets a policy that was changed, or that is not there.
    pub fn forget(&self, id: &str) {
        let mut state = self.state();
        state.changes += 1;
        state.entries.remove(id);
    }
}
