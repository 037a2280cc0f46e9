//! What was verified before, remembered: chains of platforms and collateral of platform families.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};

use super::chain::PckChain;
use super::endorse::Endorsed;

/// SHA-256 of everything that an entry follows from.
pub(super) type Key = [u8; 32];

/// A bounded memory of PCK chains that lead to a trusted root and of collateral whose signatures verified.
///
/// An entry's key is the hash of all bytes that it follows from, the trusted roots among them, so other bytes never find
/// it. Only what does not depend on time is remembered; dates, revocation of the platform's certificate and everything a
/// quote says are checked every time. Nothing that failed is remembered.
#[derive(Debug)]
pub struct Cache {
    pub(super) chains: Bounded<PckChain>,
    pub(super) endorsed: Bounded<Endorsed>,
}

impl Default for Cache {
    /// 256 platforms (about 10 kB each) and 32 sets of collateral (about 100 kB each).
    fn default() -> Self {
        Cache::new(256, 32)
    }
}

impl Cache {
    /// A cache of at most so many platforms and sets of collateral; the oldest make room. Zero remembers nothing.
    pub fn new(platforms: usize, collateral: usize) -> Self {
        Cache { chains: Bounded::new(platforms), endorsed: Bounded::new(collateral) }
    }

    /// Number of platforms and of sets of collateral remembered.
    pub fn len(&self) -> (usize, usize) {
        (self.chains.len(), self.endorsed.len())
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }
}

/// Hash of parts, each with its length: no two different lists of parts hash alike.
pub(super) fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Key {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut key = [0; 32];
    key.iter_mut().zip(context.finish().as_ref()).for_each(|(k, d)| *k = *d);
    key
}

/// A map that forgets its oldest entries.
pub(super) struct Bounded<T> {
    capacity: usize,
    entries: Mutex<Entries<T>>,
}

struct Entries<T> {
    known: HashMap<Key, Arc<T>>,
    order: VecDeque<Key>,
}

impl<T> Bounded<T> {
    fn new(capacity: usize) -> Self {
        let entries = Entries { known: HashMap::new(), order: VecDeque::new() };
        Bounded { capacity, entries: Mutex::new(entries) }
    }

    fn len(&self) -> usize {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).known.len()
    }

    /// What is known for the key.
    pub fn get(&self, key: &Key) -> Option<Arc<T>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).known.get(key).cloned()
    }

    /// Remembers.
    pub fn put(&self, key: Key, value: Arc<T>) {
        if self.capacity == 0 {
            return;
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.known.insert(key, value).is_none() {
            entries.order.push_back(key);
        }
        while entries.order.len() > self.capacity {
            if let Some(oldest) = entries.order.pop_front() {
                entries.known.remove(&oldest);
            }
        }
    }
}

impl<T> std::fmt::Debug for Bounded<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.len(), self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keyed_by_parts() {
        let cache = Bounded::new(2);
        for n in 0..5_u8 {
            cache.put(key([&[n][..]]), Arc::new(n));
        }
        assert_eq!(cache.len(), 2);
        assert_eq!(cache.get(&key([&[4][..]])).as_deref(), Some(&4));
        assert!(cache.get(&key([&[1][..]])).is_none());
        assert_ne!(key([&b"ab"[..], b"c"]), key([&b"a"[..], b"bc"]));
        let none = Bounded::new(0);
        none.put([0; 32], Arc::new(1));
        assert_eq!(none.len(), 0);
    }
}
