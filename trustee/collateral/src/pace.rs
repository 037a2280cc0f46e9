//! How often a source is asked.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::transport::MAX_RETRY_AFTER;

/// A source's pace: `burst` requests at once, then one per `every`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// At once; at least one.
    pub burst: u32,
    /// Between two.
    pub every: Duration,
}

impl Pace {
    /// What AMD's service allows an address.
    pub const AMD: Pace = Pace { burst: 2, every: Duration::from_secs(10) };
    /// For services that publish no limit.
    pub const MODEST: Pace = Pace { burst: 8, every: Duration::from_secs(1) };
}

/// Hands out turns in order. Times are milliseconds of any one clock; a clock that is set back delays nobody for long.
#[derive(Debug)]
pub(crate) struct Turns {
    every: u64,
    burst: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the turns given out are used up.
    spent: u64,
    /// The source said: not before.
    paused: u64,
}

impl Turns {
    pub fn new(pace: Pace) -> Self {
        let every = u64::try_from(pace.every.as_millis()).unwrap_or(u64::MAX).max(1);
        Turns { every, burst: u64::from(pace.burst.max(1)), state: Mutex::default() }
    }

    /// Takes the next turn: how long to wait for it, or, where that is longer than `patience`, `Err` with how long it would
    /// have been; then no turn is taken.
    pub fn take(&self, now: u64, patience: u64) -> Result<u64, u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let room = self.every.saturating_mul(self.burst - 1);
        let longest = room.saturating_add(self.every).saturating_add(patience);
        let spent = state.spent.clamp(now, now.saturating_add(longest));
        // Kept also where no turn is taken: it then runs out by the clock as it is now.
        state.spent = spent;
        state.paused = state.paused.min(now.saturating_add(MAX_RETRY_AFTER * 1000));
        let wait = spent.saturating_sub(now).saturating_sub(room).max(state.paused.saturating_sub(now));
        if wait > patience {
            return Err(wait);
        }
        state.spent = spent.saturating_add(self.every);
        Ok(wait)
    }

    /// Gives no turn for so long.
    pub fn pause(&self, now: u64, millis: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.paused = state.paused.max(now.saturating_add(millis));
    }

    /// How long the source is still paused.
    pub fn paused(&self, now: u64) -> Option<u64> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = state.paused.saturating_sub(now).min(MAX_RETRY_AFTER * 1000);
        (left > 0).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_keep_the_pace() {
        let turns = Turns::new(Pace { burst: 2, every: Duration::from_secs(10) });
        assert_eq!(turns.take(1_000, 0), Ok(0));
        assert_eq!(turns.take(1_000, 0), Ok(0));
        assert_eq!(turns.take(1_000, 0), Err(10_000));
        assert_eq!(turns.take(1_000, 10_000), Ok(10_000), "the next turn, in order");
        assert_eq!(turns.take(1_000, 10_000), Err(20_000));
        assert_eq!(turns.take(21_000, 0), Ok(0));
        assert_eq!(turns.take(900_000, 0), Ok(0));
        assert_eq!(turns.take(900_000, 0), Ok(0), "never more than the burst is saved up");
        assert_eq!(turns.take(900_000, 0), Err(10_000));
    }

    #[test]
    fn a_pause_holds_and_ends() {
        let turns = Turns::new(Pace::MODEST);
        turns.pause(0, 30_000);
        assert_eq!(turns.take(1_000, 5_000), Err(29_000));
        assert_eq!(turns.paused(1_000), Some(29_000));
        assert_eq!(turns.take(30_000, 0), Ok(0));
        assert_eq!(turns.paused(30_000), None);
        turns.pause(0, u64::MAX);
        assert!(turns.take(0, 0).unwrap_err() <= MAX_RETRY_AFTER * 1000);
    }

    #[test]
    fn a_clock_set_back_delays_nobody_for_long() {
        let turns = Turns::new(Pace { burst: 1, every: Duration::from_secs(10) });
        assert_eq!(turns.take(1_000_000_000, 0), Ok(0));
        assert!(turns.take(1_000, 0).unwrap_err() <= 10_000);
        assert_eq!(turns.take(11_001, 0), Ok(0));
    }
}
