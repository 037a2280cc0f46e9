//! What the writer tells readers: how many entries are durable, and how many of them are in the store already.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Error;

/// How long a reader waits for the writer.
const WAIT: Duration = Duration::from_secs(10);

/// Shared by the writer and all readers of one log.
#[derive(Default)]
pub(crate) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Entries that were acknowledged.
    durable: u64,
    /// Those of them that the store holds.
    stored: u64,
    /// Whether a reader waits for the store to hold all.
    wanted: bool,
    /// How often it was tried in vain, and why the last time.
    failures: u64,
    error: Option<Error>,
}

impl Progress {
    // Each critical section leaves a consistent state at every step.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells that so many entries are durable. Before their waiters are told.
    pub(crate) fn durable(&self, size: u64) {
        self.state().durable = size;
    }

    /// Tells that the store holds all of so many entries.
    pub(crate) fn stored(&self, size: u64) {
        let mut state = self.state();
        state.stored = size;
        state.durable = state.durable.max(size);
        state.wanted = false;
        drop(state);
        self.changed.notify_all();
    }

    /// Tells that the store did not take the entries.
    pub(crate) fn failed(&self, error: &Error) {
        let mut state = self.state();
        state.failures += 1;
        state.error = Some(error.clone());
        state.wanted = false;
        drop(state);
        self.changed.notify_all();
    }

    /// Whether a reader waits.
    pub(crate) fn wanted(&self) -> bool {
        self.state().wanted
    }

    /// Waits until the store holds all entries that are durable now; `wake` rouses the writer.
    ///
    /// # Errors
    /// What kept the writer from it; [`Error::Unflushed`] after 10 s.
    pub(crate) fn flush(&self, wake: impl FnOnce()) -> Result<(), Error> {
        let mut state = self.state();
        let (target, failures, begun) = (state.durable, state.failures, Instant::now());
        if state.stored >= target {
            return Ok(());
        }
        state.wanted = true;
        drop(state);
        wake();
        let mut state = self.state();
        loop {
            if state.stored >= target {
                return Ok(());
            }
            if state.failures != failures {
                return Err(state.error.clone().unwrap_or(Error::Unflushed));
            }
            let left = WAIT.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(Error::Unflushed);
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
