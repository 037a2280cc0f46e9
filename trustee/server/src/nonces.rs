//! Which challenges were answered already: each may be once, in success or failure.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cocoon_store::{Change, Store};

const NAMESPACE: &str = "nonce";
/// Most used nonces in memory (48 bytes or so each): above 3,000 handshakes a second for five minutes.
const MAX_IN_MEMORY: usize = 1 << 20;
/// Nonces are forgotten only this long (seconds) after their end, in case the clock is set back.
const GRACE: u64 = 3600;

/// The used nonces. Only nonces from cookies of our own making come here, so nobody fills it without handshakes.
pub(crate) enum Nonces {
    /// For a process that has the store for itself; see [`crate::keys::cookies`] for why forgetting is safe.
    Memory(Mutex<Memory>),
    /// For processes that share a store.
    Shared { store: Arc<dyn Store>, count: AtomicU64 },
}

pub(crate) struct Memory {
    /// Most nonces remembered.
    limit: usize,
    /// By end, so that the oldest are found first.
    used: BTreeSet<(u64, [u8; 32])>,
    /// Nothing that ends up to here is remembered any more, so nothing of it is accepted.
    swept: u64,
}

/// What became of a nonce.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// It was fresh; now it is used.
    First,
    /// It was used before, or nobody can tell any more.
    Replayed,
    /// Too many handshakes at once; try later.
    Overloaded,
}

impl Nonces {
    pub fn new(store: &Arc<dyn Store>) -> Self {
        if store.shared() {
            Nonces::Shared { store: store.clone(), count: AtomicU64::new(0) }
        } else {
            Nonces::Memory(Mutex::new(Memory::new(MAX_IN_MEMORY)))
        }
    }

    /// Marks a nonce that ends at `end_unix` as used.
    pub fn consume(
        &self,
        nonce: &[u8; 32],
        end_unix: u64,
        now_unix: u64,
    ) -> Result<Use, cocoon_store::Error> {
        match self {
            Nonces::Memory(memory) => {
                let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(memory.consume(*nonce, end_unix, now_unix))
            }
            Nonces::Shared { store, count } => {
                if count.fetch_add(1, Ordering::Relaxed).is_multiple_of(32) {
                    sweep(store.as_ref(), now_unix)?;
                }
                let key = format!("{end_unix:016x}-{}", hex::encode(nonce));
                Ok(if store.put_if_absent(NAMESPACE, &key, b"")? { Use::First } else { Use::Replayed })
            }
        }
    }
}

impl Memory {
    fn new(limit: usize) -> Self {
        Memory { limit, used: BTreeSet::new(), swept: 0 }
    }

    fn consume(&mut self, nonce: [u8; 32], end_unix: u64, now_unix: u64) -> Use {
        while let Some((end, _)) = self.used.first().copied() {
            if end >= now_unix {
                break;
            }
            self.used.pop_first();
            self.swept = self.swept.max(end);
        }
        if end_unix <= self.swept {
            return Use::Replayed;
        }
        if self.used.len() >= self.limit {
            return Use::Overloaded;
        }
        if self.used.insert((end_unix, nonce)) { Use::First } else { Use::Replayed }
    }
}

/// Forgets up to 256 nonces whose end is long past; keys sort by their end.
fn sweep(store: &dyn Store, now_unix: u64) -> Result<(), cocoon_store::Error> {
    let limit = format!("{:016x}", now_unix.saturating_sub(GRACE));
    let mut keys = store.list(NAMESPACE, "", 256)?;
    keys.retain(|key| *key < limit);
    if keys.is_empty() {
        return Ok(());
    }
    let changes: Vec<Change<'_>> = keys.iter().map(|key| Change::Delete { ns: NAMESPACE, key }).collect();
    store.apply(&changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_nonce_is_used_once_even_if_the_clock_is_set_back() {
        let nonces = Nonces::Memory(Mutex::new(Memory::new(100)));
        let at = |nonce: u8, end, now| nonces.consume(&[nonce; 32], end, now).unwrap();
        assert_eq!(at(1, 100, 50), Use::First);
        assert_eq!(at(1, 100, 60), Use::Replayed);
        assert_eq!(at(2, 100, 60), Use::First);
        assert_eq!(at(3, 500, 300), Use::First);
        assert_eq!(at(1, 100, 50), Use::Replayed, "forgotten, hence refused");
        assert_eq!(at(9, 100, 50), Use::Replayed);
    }

    #[test]
    fn memory_is_bounded_without_forgetting() {
        let mut memory = Memory::new(100);
        for i in 0..100 {
            assert_eq!(memory.consume([i; 32], 100, 50), Use::First);
        }
        assert_eq!(memory.consume([100; 32], 100, 50), Use::Overloaded);
        assert_eq!(memory.consume([100; 32], 300, 101), Use::First);
        assert_eq!(memory.used.len(), 1);
    }

    #[test]
    fn shared_nonces_are_kept_in_the_store_and_swept() {
        let folder = tempfile::tempdir().unwrap();
        let open = || -> Arc<dyn Store> {
            Arc::new(cocoon_store::RedbStore::open_shared(&folder.path().join("s.redb")).unwrap())
        };
        let (store, other) = (open(), open());
        let (nonces, others) = (Nonces::new(&store), Nonces::new(&other));
        assert_eq!(nonces.consume(&[1; 32], 100, 50).unwrap(), Use::First);
        assert_eq!(others.consume(&[1; 32], 100, 50).unwrap(), Use::Replayed);
        assert_eq!(Nonces::new(&store).consume(&[2; 32], 9_000, 8_000).unwrap(), Use::First);
        assert_eq!(store.list(NAMESPACE, "", 9).unwrap().len(), 1, "the old one is swept");
    }
}
