//! Verified chains, remembered: the RSA work of a chip's certificate is done once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA384};

use super::collateral::Roots;
use super::verify::Endorsement;

/// A bounded memory of leaf certificates whose chain to a trusted root was verified.
///
/// An entry's key is the SHA-384 of the leaf, of the list of revoked certificates and of all roots trusted at that time, so
/// another leaf, list or set of roots never finds it. Only signatures are remembered; dates and everything the report says are checked every time.
pub struct ChainCache {
    capacity: usize,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    known: HashMap<[u8; 48], Arc<Endorsement>>,
    order: VecDeque<[u8; 48]>,
}

impl ChainCache {
    /// A cache of at most `capacity` chains (about 3 kB each); the oldest makes room. Zero remembers nothing.
    pub fn new(capacity: usize) -> Self {
        ChainCache { capacity, entries: Mutex::default() }
    }

    /// Number of chains remembered.
    pub fn len(&self) -> usize {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).known.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn key(leaf: &[u8], crl: Option<&[u8]>, roots: &Roots) -> [u8; 48] {
        let mut context = Context::new(&SHA384);
        let mut part = |bytes: &[u8]| {
            // Lengths first: no two different lists of parts hash alike.
            context.update(&(bytes.len() as u64).to_le_bytes());
            context.update(bytes);
        };
        part(leaf);
        part(&[u8::from(crl.is_some())]);
        part(crl.unwrap_or_default());
        part(&[u8::from(roots.vendor)]);
        for root in &roots.simulated {
            part(&root.ark_der);
            part(&root.ask_der);
        }
        let mut key = [0; 48];
        key.iter_mut().zip(context.finish().as_ref()).for_each(|(k, d)| *k = *d);
        key
    }

    pub(super) fn get(&self, key: &[u8; 48]) -> Option<Arc<Endorsement>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).known.get(key).cloned()
    }

    pub(super) fn put(&self, key: [u8; 48], endorsement: Arc<Endorsement>) {
        if self.capacity == 0 {
            return;
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.known.insert(key, endorsement).is_none() {
            entries.order.push_back(key);
        }
        while entries.order.len() > self.capacity {
            if let Some(oldest) = entries.order.pop_front() {
                entries.known.remove(&oldest);
            }
        }
    }
}

impl std::fmt::Debug for ChainCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChainCache({} of {})", self.len(), self.capacity)
    }
}
