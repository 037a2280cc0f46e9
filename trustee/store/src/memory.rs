//! The store that lives and dies with its process: tests and throw-away Trustees.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Change, Error, PutMode, Store, check_value, storage_key, storage_prefix};

/// State in memory only.
#[derive(Default)]
pub struct MemoryStore {
    values: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    // Every critical section below leaves the map consistent at each step, so a poisoned lock is still usable.
    fn values(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Vec<u8>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn get(&self, ns: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let full = storage_key(ns, key)?;
        Ok(self.values().get(&full).cloned())
    }

    fn put(&self, ns: &str, key: &str, value: &[u8], mode: PutMode) -> Result<(), Error> {
        let full = storage_key(ns, key)?;
        check_value(value)?;
        let mut values = self.values();
        match (mode, values.contains_key(&full)) {
            (PutMode::Create, true) => return Err(Error::Exists { ns: ns.into(), key: key.into() }),
            (PutMode::Replace, false) => return Err(Error::Missing { ns: ns.into(), key: key.into() }),
            _ => values.insert(full, value.to_vec()),
        };
        Ok(())
    }

    fn delete(&self, ns: &str, key: &str) -> Result<bool, Error> {
        Ok(self.take(ns, key)?.is_some())
    }

    fn list(&self, ns: &str, prefix: &str, limit: usize) -> Result<Vec<String>, Error> {
        Ok(self.scan(ns, prefix, limit)?.into_iter().map(|(key, _)| key).collect())
    }

    fn scan(&self, ns: &str, prefix: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let start = storage_prefix(ns, prefix)?;
        let values = self.values();
        let found = values.range(start.clone()..).take_while(|(k, _)| k.starts_with(&start));
        found.take(limit).map(|(k, v)| Ok((key_text(k, ns)?, v.clone()))).collect()
    }

    fn take(&self, ns: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let full = storage_key(ns, key)?;
        Ok(self.values().remove(&full))
    }

    fn put_if_absent(&self, ns: &str, key: &str, value: &[u8]) -> Result<bool, Error> {
        match self.put(ns, key, value, PutMode::Create) {
            Ok(()) => Ok(true),
            Err(Error::Exists { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn apply(&self, changes: &[Change<'_>]) -> Result<(), Error> {
        // Everything that can fail is done before the first change.
        let mut prepared = Vec::with_capacity(changes.len());
        for change in changes {
            prepared.push(match change {
                Change::Put { ns, key, value } => {
                    check_value(value)?;
                    (storage_key(ns, key)?, Some(value.to_vec()))
                }
                Change::Delete { ns, key } => (storage_key(ns, key)?, None),
            });
        }
        let mut values = self.values();
        for (key, value) in prepared {
            match value {
                Some(value) => values.insert(key, value),
                None => values.remove(&key),
            };
        }
        Ok(())
    }

    fn shared(&self) -> bool {
        false
    }
}

/// The key part of a stored `namespace NUL key`.
pub(crate) fn key_text(full: &[u8], ns: &str) -> Result<String, Error> {
    let key = full.get(ns.len() + 1..).unwrap_or_default();
    String::from_utf8(key.to_vec()).map_err(|_| Error::Corrupt(format!("a key of {ns} is not UTF-8")))
}
