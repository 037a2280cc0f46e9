//! Writing a verified backup's records into a store.

use crate::{Change, Error, Record, Store};

/// Records and bytes of one step.
const BATCH_RECORDS: usize = 1000;
const BATCH_BYTES: usize = 8 << 20;

/// What a restore does with records that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreMode {
    /// Refuses a store that is not empty ([`Error::NotEmpty`]).
    EmptyOnly,
    /// Removes them.
    Replace,
}

/// Makes sure that the store is empty.
pub(super) fn prepare(store: &dyn Store, mode: RestoreMode) -> Result<(), Error> {
    loop {
        let keys = some_keys(store, if mode == RestoreMode::Replace { BATCH_RECORDS } else { 1 })?;
        if keys.is_empty() {
            return Ok(());
        }
        if mode == RestoreMode::EmptyOnly {
            return Err(Error::NotEmpty);
        }
        let changes: Vec<_> = keys.iter().map(|(ns, key)| Change::Delete { ns, key }).collect();
        store.apply(&changes)?;
    }
}

/// Up to `limit` places that hold a record. Namespaces are not known beforehand, so this ends a snapshot early.
fn some_keys(store: &dyn Store, limit: usize) -> Result<Vec<(String, String)>, Error> {
    let mut keys = Vec::new();
    let result = store.snapshot(&mut |record| {
        keys.push((record.ns, record.key));
        if keys.len() < limit { Ok(()) } else { Err(Error::NotEmpty) }
    });
    match result {
        Err(Error::NotEmpty) | Ok(()) => Ok(keys),
        Err(error) => Err(error),
    }
}

/// Collects records and writes them in steps of bounded size.
pub(super) struct Batch<'a> {
    store: &'a dyn Store,
    records: Vec<Record>,
    bytes: usize,
}

impl<'a> Batch<'a> {
    pub(super) fn new(store: &'a dyn Store) -> Self {
        Batch { store, records: Vec::new(), bytes: 0 }
    }

    pub(super) fn add(&mut self, record: Record) -> Result<(), Error> {
        self.bytes += record.ns.len() + record.key.len() + record.value.len();
        self.records.push(record);
        if self.records.len() >= BATCH_RECORDS || self.bytes >= BATCH_BYTES { self.finish() } else { Ok(()) }
    }

    /// Writes what is collected.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        let changes: Vec<_> =
            self.records.iter().map(|r| Change::Put { ns: &r.ns, key: &r.key, value: &r.value }).collect();
        if !changes.is_empty() {
            self.store.apply(&changes)?;
        }
        self.records.clear();
        self.bytes = 0;
        Ok(())
    }
}
