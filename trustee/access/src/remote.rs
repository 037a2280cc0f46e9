//! The keys at a URL: fetched when first needed, kept for a while, and kept longer while the server is away.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cocoon_http::Client;
use tokio::sync::{Mutex as Gate, OwnedMutexGuard};
use url::Url;

use crate::key::Key;
use crate::provider::keys_error;
use crate::{Error, fetch};

/// For how long keys are not fetched again, in seconds.
const FRESH: u64 = 10 * 60;
/// For how long keys are used while they cannot be fetched again, in seconds.
const STALE: u64 = 24 * 60 * 60;
/// Least time between two fetches that requests cause, in seconds.
const PAUSE: u64 = 10;
/// Limit for a fetch with all its requests.
const DEADLINE: Duration = Duration::from_secs(15);

pub(crate) struct Remote {
    url: Url,
    issuer: Option<String>,
    client: Client,
    state: Mutex<State>,
    /// Held by whoever fetches.
    gate: Arc<Gate<()>>,
}

/// Instants are Unix seconds. Distances are absolute, so that a clock set back does not stretch them.
#[derive(Default)]
struct State {
    keys: Arc<[Key]>,
    fetched: Option<u64>,
    attempted: Option<u64>,
    /// The last attempt failed.
    away: bool,
}

impl State {
    fn age(&self, now: u64) -> Option<u64> {
        self.fetched.map(|fetched| fetched.abs_diff(now))
    }

    /// The keys, unless they are too old even for an outage.
    fn usable(&self, now: u64) -> Arc<[Key]> {
        if self.age(now).is_some_and(|age| age <= STALE) { self.keys.clone() } else { Arc::default() }
    }

    fn knows(&self, kid: Option<&str>) -> bool {
        kid.is_none_or(|kid| self.keys.iter().any(|key| key.kid.as_deref() == Some(kid)))
    }

    fn is_enough(&self, kid: Option<&str>, now: u64) -> bool {
        self.knows(kid) && self.age(now).is_some_and(|age| age < FRESH)
    }

    fn paused(&self, now: u64) -> bool {
        self.attempted.is_some_and(|attempted| attempted.abs_diff(now) < PAUSE)
    }
}

impl Remote {
    pub(crate) fn new(url: Url, issuer: Option<String>, client: Client) -> Self {
        Remote { url, issuer, client, state: Mutex::default(), gate: Arc::default() }
    }

    /// The keys that may have signed a token with this `kid`; empty where there are none.
    ///
    /// Fetches if the keys are old or the `kid` is unknown, but not soon after the last attempt. One fetch is under
    /// way at a time, and others wait for it: what it brings may take a key away. Only while the server is known
    /// to be away do those not wait whose key is there.
    pub(crate) async fn keys(self: &Arc<Self>, kid: Option<&str>, now: u64) -> Arc<[Key]> {
        if self.state().is_enough(kid, now) {
            return self.state().usable(now);
        }
        let guard = match self.gate.clone().try_lock_owned() {
            Ok(guard) => guard,
            Err(_) if self.state().away && self.state().knows(kid) => return self.state().usable(now),
            Err(_) => self.gate.clone().lock_owned().await,
        };
        let wanted = {
            let state = self.state();
            !state.is_enough(kid, now) && !state.paused(now)
        };
        // A failure has been logged; what is left of the old keys has to do.
        if wanted && let Err(e) = self.fetch(guard, now).await {
            tracing::debug!(error = %e, "keeping the keys there are");
        }
        self.state().usable(now)
    }

    /// Fetches now.
    pub(crate) async fn refresh(self: &Arc<Self>, now: u64) -> Result<(), Error> {
        let guard = self.gate.clone().lock_owned().await;
        self.fetch(guard, now).await
    }

    /// Fetches in a task of its own: a caller that goes away neither ends it nor leaves the next with nothing.
    async fn fetch(self: &Arc<Self>, guard: OwnedMutexGuard<()>, now: u64) -> Result<(), Error> {
        let this = self.clone();
        let task = tokio::spawn(async move {
            let _guard = guard;
            this.state().attempted = Some(now);
            let fetch = fetch::keys(&this.client, &this.url, this.issuer.as_deref());
            let outcome = tokio::time::timeout(DEADLINE, fetch)
                .await
                .unwrap_or_else(|_| Err("took too long".to_owned()));
            match outcome {
                Ok(keys) => {
                    tracing::debug!(url = %this.url, count = keys.len(), "fetched an identity provider's keys");
                    let mut state = this.state();
                    state.keys = keys.into();
                    state.fetched = Some(now);
                    state.away = false;
                    Ok(())
                }
                Err(reason) => {
                    this.state().away = true;
                    tracing::warn!(url = %this.url, reason, "an identity provider's keys could not be fetched");
                    Err(keys_error(this.url.as_str(), reason))
                }
            }
        });
        task.await.unwrap_or_else(|e| Err(keys_error(self.url.as_str(), e.to_string())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
