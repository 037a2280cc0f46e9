//! A bounded memory of what was verified, by the hash of everything that it follows from.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};

/// SHA-256 of everything that an entry follows from.
pub(crate) type Key = [u8; 32];

/// Hash of parts, each with its length: no two different lists of parts hash alike.
pub(crate) fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Key {
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
pub(crate) struct Bounded<T> {
    capacity: usize,
    entries: Mutex<Entries<T>>,
}

struct Entries<T> {
    known: HashMap<Key, Arc<T>>,
    order: VecDeque<Key>,
}

impl<T> Bounded<T> {
    /// Of at most `capacity` entries; zero remembers nothing.
    pub fn new(capacity: usize) -> Self {
        let entries = Entries { known: HashMap::new(), order: VecDeque::new() };
        Bounded { capacity, entries: Mutex::new(entries) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
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
