//! Which connections are taken, and when one has been idle for too long.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds these locks can leave them half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts connections by address.
pub(crate) struct Addresses {
    limit: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

impl Addresses {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Addresses { limit, counts: Mutex::default() })
    }

    /// A place for one more connection of this address, while it is held; `None` if there are enough.
    pub fn enter(self: &Arc<Self>, remote: SocketAddr) -> Option<Place> {
        let address = remote.ip().to_canonical();
        let mut counts = locked(&self.counts);
        let count = counts.entry(address).or_default();
        if *count >= self.limit {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Place { addresses: self.clone(), address })
    }
}

/// One connection of an address.
pub(crate) struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = locked(&self.addresses.counts);
        if let Some(count) = counts.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// What a connection is doing.
pub(crate) struct Activity {
    state: Mutex<State>,
}

struct State {
    in_progress: usize,
    since: Instant,
    served: bool,
}

impl Activity {
    pub fn new() -> Arc<Self> {
        Arc::new(Activity {
            state: Mutex::new(State { in_progress: 0, since: Instant::now(), served: false }),
        })
    }

    /// A request is in progress while this is held.
    pub fn begin(self: &Arc<Self>) -> InProgress {
        let mut state = locked(&self.state);
        state.in_progress = state.in_progress.saturating_add(1);
        state.served = true;
        InProgress(self.clone())
    }

    /// Returns when no request came within `first`, or none was in progress for `idle`.
    pub async fn idle(&self, first: Duration, idle: Duration) {
        loop {
            let now = Instant::now();
            let wake = {
                let state = locked(&self.state);
                let limit = if state.served { idle } else { first };
                let due = state.since.checked_add(limit).unwrap_or(now);
                match state.in_progress {
                    0 if due <= now => return,
                    0 => due,
                    _ => now.checked_add(limit).unwrap_or(now),
                }
            };
            sleep_until(wake).await;
        }
    }
}

/// A request in progress.
pub(crate) struct InProgress(Arc<Activity>);

impl Drop for InProgress {
    fn drop(&mut self) {
        let mut state = locked(&self.0.state);
        state.in_progress = state.in_progress.saturating_sub(1);
        state.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_counted_and_forgotten() {
        let addresses = Addresses::new(2);
        let one: SocketAddr = "10.0.0.1:1".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:2".parse().unwrap();
        let held = (addresses.enter(one).unwrap(), addresses.enter(mapped).unwrap());
        assert!(addresses.enter(one).is_none());
        assert!(addresses.enter("10.0.0.2:1".parse().unwrap()).is_some());
        drop(held.0);
        assert!(addresses.enter(one).is_some());
        drop(held.1);
        assert!(locked(&addresses.counts).is_empty());
    }

    #[tokio::test]
    async fn a_connection_is_idle_after_its_last_request() {
        let millis = Duration::from_millis;
        let waits = async |activity: &Arc<Activity>, within| {
            tokio::time::timeout(within, activity.idle(millis(20), millis(50))).await.is_ok()
        };
        let activity = Activity::new();
        assert!(waits(&activity, millis(500)).await);
        let request = activity.begin();
        assert!(!waits(&activity, millis(150)).await);
        drop(request);
        assert!(waits(&activity, millis(500)).await);
    }
}
