//! Failures remembered: what a vendor does not have is not asked for again soon, however often evidence names it.

use std::collections::HashMap;
use std::time::Duration;

use cocoon_evidence::collateral::Need;

use crate::Error;

const MAX_REFUSALS: usize = 8192;

/// How long a failure is remembered; doubled at each further one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// After a source that did not answer or answered wrongly.
    pub broken: Duration,
    /// After a source that has no such document.
    pub unknown: Duration,
    /// At most.
    pub most: Duration,
}

impl Default for BackOff {
    /// 5 seconds, 10 minutes, 6 hours.
    fn default() -> Self {
        BackOff {
            broken: Duration::from_secs(5),
            unknown: Duration::from_secs(600),
            most: Duration::from_secs(6 * 3600),
        }
    }
}

struct Refusal {
    error: Error,
    since: u64,
    until: u64,
    count: u32,
}

/// The failures, by need. Times are milliseconds.
#[derive(Default)]
pub(crate) struct Refusals(HashMap<Need, Refusal>);

impl Refusals {
    /// Why not to ask now.
    pub fn get(&self, need: &Need, now: u64) -> Option<Error> {
        let refusal = self.0.get(need)?;
        // A clock that was set back ends it.
        ((refusal.since..refusal.until).contains(&now)).then(|| refusal.error.clone())
    }

    /// Remembers a failure.
    pub fn note(&mut self, need: &Need, error: &Error, now: u64, back_off: &BackOff) {
        let base = match error {
            Error::NotFound { .. } => back_off.unknown,
            // Says nothing about the document; the source's own pause holds.
            Error::Limited { .. } | Error::NoSource(_) | Error::Busy | Error::TimedOut => return,
            _ => back_off.broken,
        };
        let count = self.0.get(need).map_or(0, |r| r.count);
        let wait = base.saturating_mul(1 << count.min(16)).min(back_off.most);
        let until = now.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        if !self.0.contains_key(need) {
            self.make_room(now);
        }
        let refusal = Refusal { error: error.clone(), since: now, until, count: count.saturating_add(1) };
        self.0.insert(need.clone(), refusal);
    }

    /// Forgets a failure: the document came.
    pub fn forget(&mut self, need: &Need) {
        self.0.remove(need);
    }

    fn make_room(&mut self, now: u64) {
        if self.0.len() < MAX_REFUSALS {
            return;
        }
        self.0.retain(|_, refusal| refusal.until > now);
        // A sixteenth at once, so that a flood does not search the whole map each time.
        if self.0.len() >= MAX_REFUSALS {
            let mut ends: Vec<u64> = self.0.values().map(|r| r.until).collect();
            let (_, end, _) = ends.select_nth_unstable(MAX_REFUSALS / 16);
            let end = *end;
            self.0.retain(|_, refusal| refusal.until > end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(number: usize) -> Need {
        Need::HygonCertificates { chip_id: number.to_string() }
    }

    #[test]
    fn failures_last_longer_each_time() {
        let back_off = BackOff::default();
        let error = Error::NotFound { at: "x".into() };
        let mut refusals = Refusals::default();
        refusals.note(&need(1), &error, 1_000, &back_off);
        assert_eq!(refusals.get(&need(1), 600_999), Some(error.clone()));
        assert_eq!(refusals.get(&need(1), 601_000), None);
        assert_eq!(refusals.get(&need(2), 1_000), None);
        refusals.note(&need(1), &error, 601_000, &back_off);
        assert!(refusals.get(&need(1), 601_000 + 1_199_999).is_some());
        for _ in 0..100 {
            refusals.note(&need(1), &error, 0, &back_off);
        }
        assert!(refusals.get(&need(1), 6 * 3600 * 1000).is_none(), "not for ever");
        refusals.note(&need(3), &Error::Limited { at: "x".into(), seconds: 9 }, 0, &back_off);
        assert_eq!(refusals.get(&need(3), 0), None);
        refusals.forget(&need(1));
        assert_eq!(refusals.get(&need(1), 0), None);
    }

    #[test]
    fn a_flood_of_names_takes_no_more_room() {
        let mut refusals = Refusals::default();
        let error = Error::NotFound { at: "x".into() };
        for number in 0..MAX_REFUSALS * 3 {
            refusals.note(&need(number), &error, u64::try_from(number).unwrap(), &BackOff::default());
            assert!(refusals.0.len() <= MAX_REFUSALS);
        }
        assert!(
            refusals.get(&need(MAX_REFUSALS * 3 - 1), u64::try_from(MAX_REFUSALS * 3).unwrap()).is_some()
        );
    }
}
