//! Idle connections, kept a while for the next request to the same server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;

use crate::sending::Sending;

/// Longest list of idle connections kept to one server.
const MAX_IDLE: usize = 4;
/// Servers to which connections are kept at a time. Redirects lead to any number of them.
const MAX_SERVERS: usize = 64;

pub(crate) type Sender = SendRequest<Sending>;

/// The idle connections of a client and its clones.
#[derive(Clone)]
pub(crate) struct Pool {
    keep: Duration,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    servers: HashMap<String, Vec<(Sender, Instant)>>,
    /// Whether a task is on its way that closes what was idle for too long.
    is_swept: bool,
}

impl Kept {
    fn sweep(&mut self, keep: Duration) {
        self.servers.retain(|_, idle| {
            idle.retain(|(sender, since)| since.elapsed() < keep && !sender.is_closed());
            !idle.is_empty()
        });
    }
}

impl Pool {
    /// A pool that keeps connections for so long.
    pub(crate) fn new(keep: Duration) -> Pool {
        Pool { keep, kept: Arc::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle connection to a server, the one used last.
    pub(crate) fn take(&self, server: &str) -> Option<Sender> {
        let mut kept = self.kept();
        let idle = kept.servers.get_mut(server)?;
        let live =
            |(s, since): (Sender, Instant)| (since.elapsed() < self.keep && !s.is_closed()).then_some(s);
        let found = std::iter::from_fn(|| idle.pop()).find_map(live);
        if idle.is_empty() {
            kept.servers.remove(server);
        }
        found
    }

    /// Keeps a connection, where there is room for it.
    pub(crate) fn keep(&self, server: String, sender: Sender) {
        let mut kept = self.kept();
        if kept.servers.len() >= MAX_SERVERS && !kept.servers.contains_key(&server) {
            kept.sweep(self.keep);
            if kept.servers.len() >= MAX_SERVERS {
                return;
            }
        }
        if sender.is_closed() {
            return;
        }
        let idle = kept.servers.entry(server).or_default();
        if idle.len() < MAX_IDLE {
            idle.push((sender, Instant::now()));
        }
        if !std::mem::replace(&mut kept.is_swept, true) {
            self.sweep_later();
        }
    }

    /// Closes connections in their time though nobody asks for one; ends when none is left.
    fn sweep_later(&self) {
        let (kept, keep) = (Arc::downgrade(&self.kept), self.keep);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(keep).await;
                let Some(kept) = kept.upgrade() else { return };
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.sweep(keep);
                if kept.servers.is_empty() {
                    kept.is_swept = false;
                    return;
                }
            }
        });
    }

    #[cfg(test)]
    pub(crate) fn servers(&self) -> usize {
        self.kept().servers.len()
    }
}
