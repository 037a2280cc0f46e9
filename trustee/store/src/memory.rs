//! The store that lives and dies with its process: tests and throw-away Trustees.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Change, Condition, Error, PutMode, Record, Store, check_value, storage_key, storage_prefix};

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

    fn scan_from(
        &self,
        ns: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let (start, after) = (storage_prefix(ns, prefix)?, storage_prefix(ns, after)?);
        let values = self.values();
        let from = start.clone().max(after.clone());
        let found =
            values.range(from..).filter(|(k, _)| **k > after).take_while(|(k, _)| k.starts_with(&start));
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

    fn apply_if(&self, conditions: &[Condition<'_>], changes: &[Change<'_>]) -> Result<bool, Error> {
        // Everything that can fail is done before the first change.
        let mut wanted = Vec::with_capacity(conditions.len());
        for condition in conditions {
            wanted.push((storage_key(condition.ns, condition.key)?, condition.value));
        }
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
        if wanted.iter().any(|(key, value)| values.get(key).map(Vec::as_slice) != *value) {
            return Ok(false);
        }
        for (key, value) in prepared {
            match value {
                Some(value) => values.insert(key, value),
                None => values.remove(&key),
            };
        }
        Ok(true)
    }

    fn snapshot(&self, each: &mut dyn FnMut(Record) -> Result<(), Error>) -> Result<(), Error> {
        let values = self.values().clone();
        for (key, value) in values {
            each(record(&key, value)?)?;
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

/// The record stored under `namespace NUL key`.
pub(crate) fn record(full: &[u8], value: Vec<u8>) -> Result<Record, Error> {
    let damaged = || Error::Corrupt("a stored key is damaged".into());
    let end = full.iter().position(|b| *b == 0).ok_or_else(damaged)?;
    let ns = full.get(..end).and_then(|ns| std::str::from_utf8(ns).ok()).ok_or_else(damaged)?.to_owned();
    let key = key_text(full, &ns)?;
    Ok(Record { ns, key, value })
}
