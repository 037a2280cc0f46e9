//! After how long a failed pass is tried again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(300);

/// Failures in a row, by object.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    /// A pass succeeded.
    pub fn succeeded(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// A pass failed: after 1, 2, 4 … seconds, at most five minutes, it is tried again.
    pub fn failed(&self, name: &str) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(name.to_owned()).or_default();
        let pause = Duration::from_secs(1_u64.checked_shl(*count).unwrap_or(u64::MAX)).min(LONGEST);
        *count = count.saturating_add(1).min(16);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_an_end_and_a_success_begins_anew() {
        let failures = Failures::default();
        let pauses: Vec<u64> = (0..12).map(|_| failures.failed("a").as_secs()).collect();
        assert_eq!(pauses[..4], [1, 2, 4, 8]);
        assert_eq!(pauses[11], 300);
        failures.succeeded("a");
        assert_eq!(failures.failed("a").as_secs(), 1);
    }
}
