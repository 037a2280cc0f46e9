//! The [`Store`] calls on the embedded file.

use redb::ReadableTable;

use super::problem::Problem;
use super::{Mode, RedbStore};
use crate::memory::{key_text, record};
use crate::{Change, Condition, Error, PutMode, Record, Store, check_value, storage_key, storage_prefix};

impl RedbStore {
    /// What `take` makes of each entry whose key begins with `prefix`, in key order.
    fn range<T>(
        &self,
        ns: &str,
        prefix: &str,
        after: &str,
        limit: usize,
        take: impl Fn(String, &[u8]) -> T,
    ) -> Result<Vec<T>, Error> {
        let (start, after) = (storage_prefix(ns, prefix)?, storage_prefix(ns, after)?);
        let from = start.clone().max(after.clone());
        self.read(|table| {
            let mut found = Vec::new();
            let Some(table) = table else { return Ok(found) };
            for entry in table.range(from.as_slice()..)? {
                let (key, value) = entry?;
                if key.value() == after {
                    continue;
                }
                if found.len() >= limit || !key.value().starts_with(&start) {
                    break;
                }
                found.push(take(key_text(key.value(), ns)?, value.value()));
            }
            Ok(found)
        })
    }
}

impl Store for RedbStore {
    fn get(&self, ns: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let full = storage_key(ns, key)?;
        self.read(|table| {
            let Some(table) = table else { return Ok(None) };
            Ok(table.get(full.as_slice())?.map(|v| v.value().to_vec()))
        })
    }

    fn put(&self, ns: &str, key: &str, value: &[u8], mode: PutMode) -> Result<(), Error> {
        let full = storage_key(ns, key)?;
        check_value(value)?;
        self.write(|table| {
            let there = mode != PutMode::Upsert && table.get(full.as_slice())?.is_some();
            match (mode, there) {
                (PutMode::Create, true) => Err(Error::Exists { ns: ns.into(), key: key.into() }.into()),
                (PutMode::Replace, false) => Err(Error::Missing { ns: ns.into(), key: key.into() }.into()),
                _ => table.insert(full.as_slice(), value).map(drop).map_err(Problem::from),
            }
        })
    }

    fn delete(&self, ns: &str, key: &str) -> Result<bool, Error> {
        let full = storage_key(ns, key)?;
        self.write(|table| Ok(table.remove(full.as_slice())?.is_some()))
    }

    fn list(&self, ns: &str, prefix: &str, limit: usize) -> Result<Vec<String>, Error> {
        self.range(ns, prefix, "", limit, |key, _| key)
    }

    fn scan(&self, ns: &str, prefix: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.range(ns, prefix, "", limit, |key, value| (key, value.to_vec()))
    }

    fn scan_from(
        &self,
        ns: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.range(ns, prefix, after, limit, |key, value| (key, value.to_vec()))
    }

    fn take(&self, ns: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let full = storage_key(ns, key)?;
        self.write(|table| Ok(table.remove(full.as_slice())?.map(|v| v.value().to_vec())))
    }

    fn put_if_absent(&self, ns: &str, key: &str, value: &[u8]) -> Result<bool, Error> {
        match self.put(ns, key, value, PutMode::Create) {
            Ok(()) => Ok(true),
            Err(Error::Exists { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn apply_if(&self, conditions: &[Condition<'_>], changes: &[Change<'_>]) -> Result<bool, Error> {
        self.write(|table| {
            for Condition { ns, key, value } in conditions {
                let found = table.get(storage_key(ns, key)?.as_slice())?;
                if found.as_ref().map(|v| v.value()) != *value {
                    return Ok(false);
                }
            }
            for change in changes {
                match change {
                    Change::Put { ns, key, value } => {
                        check_value(value)?;
                        table.insert(storage_key(ns, key)?.as_slice(), *value)?;
                    }
                    Change::Delete { ns, key } => {
                        table.remove(storage_key(ns, key)?.as_slice())?;
                    }
                }
            }
            Ok(true)
        })
    }

    fn snapshot(&self, each: &mut dyn FnMut(Record) -> Result<(), Error>) -> Result<(), Error> {
        self.read(|table| {
            let Some(table) = table else { return Ok(()) };
            for entry in table.range::<&[u8]>(..)? {
                let (key, value) = entry?;
                each(record(key.value(), value.value().to_vec())?)?;
            }
            Ok(())
        })
    }

    fn shared(&self) -> bool {
        matches!(self.mode, Mode::Shared { .. })
    }
}
