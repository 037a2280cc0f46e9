//! The reference values in Trustee's store: registered, listed, removed, looked up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cocoon_store::{Change, Condition, Store};
use serde_json::Value;

use crate::value::SEPARATOR;
use crate::{Error, ReferenceValue};

/// Namespace of the records.
pub(crate) const NAMESPACE: &str = "reference_value";
/// Most records of one name that a look-up reads, and most that one call registers.
const MAX_RECORDS: usize = 1000;
/// Most records that are read for a list.
const MAX_LIST: usize = 20_000;
/// Records read from the store at once.
const PAGE: usize = 500;
/// How often a change is tried when others change the same records.
pub(crate) const TRIES: usize = 16;
/// Most names whose records are remembered.
const MAX_REMEMBERED: usize = 64;

type ByName = HashMap<String, Arc<[ReferenceValue]>>;

/// The reference values in Trustee's store.
#[derive(Clone)]
pub struct ReferenceValues {
    pub(crate) store: Arc<dyn Store>,
    /// Records by name, only while no other process can change them. Each appraisal asks for eleven names.
    remembered: Option<Arc<Mutex<ByName>>>,
}

impl ReferenceValues {
    /// The reference values of this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        let remembered = (!store.shared()).then(Arc::default);
        ReferenceValues { store, remembered }
    }

    /// Registers records, each replacing an earlier one of the same name, source and set; all of them or none. Their
    /// versions are counted on here.
    ///
    /// # Errors
    /// [`Error::ReferenceValue`] for a record over a limit; [`Error::TooMany`] above 1,000 records; [`Error::Busy`];
    /// storage.
    pub fn put(&self, records: &[ReferenceValue]) -> Result<(), Error> {
        if records.len() > MAX_RECORDS {
            return Err(Error::TooMany(MAX_RECORDS));
        }
        records.iter().try_for_each(ReferenceValue::check)?;
        for _ in 0..TRIES {
            let mut writes = Writes::default();
            for record in records {
                writes.record(self, record.clone())?;
            }
            if self.write(&writes)? {
                return Ok(());
            }
        }
        Err(Error::Busy)
    }

    /// All records, expired ones too, in the order of names.
    ///
    /// # Errors
    /// [`Error::TooMany`] above 20,000; [`Error::Record`]; storage.
    pub fn list(&self) -> Result<Vec<ReferenceValue>, Error> {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let page = if after.is_empty() {
                self.store.scan(NAMESPACE, "", PAGE)?
            } else {
                self.store.scan_from(NAMESPACE, "", &after, PAGE)?
            };
            let last = page.len() < PAGE;
            for (key, json) in page {
                all.push(parse(&key, &json)?);
                after = key;
            }
            if last {
                return Ok(all);
            }
            if all.len() >= MAX_LIST {
                return Err(Error::TooMany(MAX_LIST));
            }
        }
    }

    /// Removes the records of a name, or only those of one source, in all sets; how many there were.
    ///
    /// # Errors
    /// Storage.
    pub fn delete(&self, name: &str, source: Option<&str>) -> Result<usize, Error> {
        if name.contains(SEPARATOR) {
            return Ok(0);
        }
        let mut keys = self.store.list(NAMESPACE, &format!("{name}{SEPARATOR}"), MAX_RECORDS)?;
        if let Some(source) = source {
            let exact = format!("{name}{SEPARATOR}{source}");
            let in_set = format!("{exact}{SEPARATOR}");
            keys.retain(|key| *key == exact || key.starts_with(&in_set));
        }
        self.remove(NAMESPACE, &keys)
    }

    /// The values accepted now for a name; empty if there are none.
    ///
    /// # Errors
    /// [`Error::Record`]; storage.
    pub fn accepted(&self, name: &str, now_unix: u64) -> Result<Vec<Value>, Error> {
        let records = self.records(name)?;
        let valid = records.iter().filter(|r| !r.expired(now_unix));
        Ok(valid.flat_map(|r| r.values.iter().cloned()).collect())
    }

    /// What a policy that asks for a name gets now: `None` if there is no unexpired record; the value as it was
    /// registered, single or a list, if there is one record; else the union of all as a list, each value once.
    ///
    /// # Errors
    /// [`Error::Record`]; storage.
    pub fn lookup(&self, name: &str, now_unix: u64) -> Result<Option<Value>, Error> {
        let records = self.records(name)?;
        let valid: Vec<&ReferenceValue> = records.iter().filter(|r| !r.expired(now_unix)).collect();
        Ok(match valid.as_slice() {
            [] => None,
            [one] if one.single => one.values.first().cloned(),
            [one] => Some(Value::Array(one.values.clone())),
            several => {
                let mut union: Vec<Value> = Vec::new();
                for value in several.iter().flat_map(|r| &r.values) {
                    if !union.contains(value) {
                        union.push(value.clone());
                    }
                }
                Some(Value::Array(union))
            }
        })
    }

    /// All records of a name, expired ones too.
    fn records(&self, name: &str) -> Result<Arc<[ReferenceValue]>, Error> {
        if name.contains(SEPARATOR) {
            return Ok(Arc::new([])); // No name; as a prefix it would lead to another name's records.
        }
        let prefix = format!("{name}{SEPARATOR}");
        let Some(remembered) = &self.remembered else { return Ok(self.scan(&prefix)?.into()) };
        // Held while reading, so that what is remembered is never older than the last change.
        let mut remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(records) = remembered.get(name) {
            return Ok(records.clone());
        }
        let records: Arc<[ReferenceValue]> = self.scan(&prefix)?.into();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(name.to_owned(), records.clone());
        Ok(records)
    }

    fn scan(&self, prefix: &str) -> Result<Vec<ReferenceValue>, Error> {
        let found = self.store.scan(NAMESPACE, prefix, MAX_RECORDS)?;
        found.into_iter().map(|(key, json)| parse(&key, &json)).collect()
    }

    /// Removes keys in one step; how many there were when looked at.
    pub(crate) fn remove(&self, ns: &str, keys: &[String]) -> Result<usize, Error> {
        let changes: Vec<Change<'_>> = keys.iter().map(|key| Change::Delete { ns, key }).collect();
        self.changing(|| Ok(self.store.apply(&changes)?))?;
        Ok(keys.len())
    }

    /// Does all of it, or nothing if a record is no longer what it was; whether it did.
    pub(crate) fn write(&self, writes: &Writes) -> Result<bool, Error> {
        let conditions: Vec<Condition<'_>> = writes
            .0
            .iter()
            .map(|w| Condition { ns: w.ns, key: &w.key, value: w.before.as_deref() })
            .collect();
        let changes: Vec<Change<'_>> = writes
            .0
            .iter()
            .map(|w| match &w.after {
                Some(value) => Change::Put { ns: w.ns, key: &w.key, value },
                None => Change::Delete { ns: w.ns, key: &w.key },
            })
            .collect();
        self.changing(|| Ok(self.store.apply_if(&conditions, &changes)?))
    }

    /// Makes a change and forgets what was remembered, even if the change failed half-way.
    fn changing<T>(&self, change: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let mut remembered =
            self.remembered.as_ref().map(|r| r.lock().unwrap_or_else(PoisonError::into_inner));
        let outcome = change();
        if let Some(remembered) = &mut remembered {
            remembered.clear();
        }
        outcome
    }
}

struct Write {
    ns: &'static str,
    key: String,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
}

/// Changes to make in one step, each with the value it was worked out from.
#[derive(Default)]
pub(crate) struct Writes(Vec<Write>);

impl Writes {
    /// Registers a record as the next version of what is stored.
    pub(crate) fn record(&mut self, of: &ReferenceValues, mut record: ReferenceValue) -> Result<(), Error> {
        let key = record.key();
        let before = of.store.get(NAMESPACE, &key)?;
        record.version = match &before {
            Some(json) => parse(&key, json)?.version.saturating_add(1),
            None => 1,
        };
        let after = serde_json::to_vec(&record).map_err(|_| Error::Record(key.clone()))?;
        self.change(NAMESPACE, key, before, Some(after));
        Ok(())
    }

    /// Replaces or removes (`after` = `None`) a value. Of two changes to one key the later counts.
    pub(crate) fn change(
        &mut self,
        ns: &'static str,
        key: String,
        before: Option<Vec<u8>>,
        after: Option<Vec<u8>>,
    ) {
        self.0.push(Write { ns, key, before, after });
    }
}

/// Reads a record. One that was copied to another's key must not count there.
pub(crate) fn parse(key: &str, json: &[u8]) -> Result<ReferenceValue, Error> {
    serde_json::from_slice(json)
        .ok()
        .filter(|record: &ReferenceValue| record.key() == key)
        .ok_or_else(|| Error::Record(key.to_owned()))
}
