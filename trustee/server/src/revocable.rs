//! A tenant's store that can be closed: once the tenant is removed, what is still under way for it writes nothing more,
//! and so leaves nothing to a later tenant of the same name.

use std::sync::{PoisonError, RwLock};

use cocoon_store::{Change, Condition, Error, PutMode, Record, Store, TenantStore};

/// A [`TenantStore`] until it is closed. Reads go on; what there was is gone for them.
pub(crate) struct Revocable {
    inner: TenantStore,
    closed: RwLock<bool>,
}

impl Revocable {
    pub fn new(inner: TenantStore) -> Self {
        Revocable { inner, closed: RwLock::new(false) }
    }

    /// Waits for the write in progress; every later one fails.
    pub fn close(&self) {
        *self.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn writing<T>(&self, work: impl FnOnce(&TenantStore) -> Result<T, Error>) -> Result<T, Error> {
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        if *closed { Err(Error::Unavailable("the tenant was removed".into())) } else { work(&self.inner) }
    }
}

impl Store for Revocable {
    fn get(&self, ns: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.inner.get(ns, key)
    }

    fn put(&self, ns: &str, key: &str, value: &[u8], mode: PutMode) -> Result<(), Error> {
        self.writing(|store| store.put(ns, key, value, mode))
    }

    fn delete(&self, ns: &str, key: &str) -> Result<bool, Error> {
        self.writing(|store| store.delete(ns, key))
    }

    fn list(&self, ns: &str, prefix: &str, limit: usize) -> Result<Vec<String>, Error> {
        self.inner.list(ns, prefix, limit)
    }

    fn scan(&self, ns: &str, prefix: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.inner.scan(ns, prefix, limit)
    }

    fn scan_from(
        &self,
        ns: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.inner.scan_from(ns, prefix, after, limit)
    }

    fn take(&self, ns: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.writing(|store| store.take(ns, key))
    }

    fn put_if_absent(&self, ns: &str, key: &str, value: &[u8]) -> Result<bool, Error> {
        self.writing(|store| store.put_if_absent(ns, key, value))
    }

    fn apply(&self, changes: &[Change<'_>]) -> Result<(), Error> {
        self.writing(|store| store.apply(changes))
    }

    fn apply_if(&self, conditions: &[Condition<'_>], changes: &[Change<'_>]) -> Result<bool, Error> {
        self.writing(|store| store.apply_if(conditions, changes))
    }

    fn snapshot(&self, each: &mut dyn FnMut(Record) -> Result<(), Error>) -> Result<(), Error> {
        self.inner.snapshot(each)
    }

    fn shared(&self) -> bool {
        self.inner.shared()
    }
}
