//! Trustee's state: namespaced keys and values, kept in memory, in one embedded file or in PostgreSQL; views of it
//! for tenants; the sealing of values at rest; backup and restore; and the reading of upstream Trustee's files.
//!
//! Runs on the workload owner's side, inside Trustee. It never interprets values and never logs them; what must
//! not be readable on disk is sealed by the caller with a [`Sealer`] before it is put.
//!
//! Promises: a write that returned `Ok` survives `kill -9` and power loss ([`RedbStore`], [`PostgresStore`]);
//! [`Store::apply`] is all or nothing; `take`, `put_if_absent` and `apply_if` are atomic among all processes that
//! share the file or database. Every error but [`Error::OutcomeUnknown`] keeps the stored state as it was.

mod backup;
mod error;
mod import;
mod keyfile;
mod lock;
mod memory;
mod postgres;
mod redb_store;
mod reseal;
mod sealer;
mod tenant;

#[cfg(test)]
mod conformance;

pub use backup::{BackupKey, RestoreMode, Summary, backup, restore, verify_backup};
pub use error::Error;
pub use import::{Imported, Problem, Report, import_local_fs, import_local_json};
pub use memory::MemoryStore;
pub use postgres::{PostgresOptions, PostgresStore};
pub use redb_store::RedbStore;
pub use reseal::{Resealed, reseal};
pub use sealer::Sealer;
pub use tenant::{TenantStore, remove_all};

/// Longest key in bytes.
pub const MAX_KEY: usize = 512;

/// Longest value in bytes (16 MiB).
pub const MAX_VALUE: usize = 16 * 1024 * 1024;

/// What [`Store::put`] expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Nothing yet; otherwise [`Error::Exists`].
    Create,
    /// An old value; otherwise [`Error::Missing`].
    Replace,
    /// Either.
    Upsert,
}

/// One step of [`Store::apply`].
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// Sets a value, whether or not there was one.
    Put {
        /// Namespace.
        ns: &'a str,
        /// Key.
        key: &'a str,
        /// New value.
        value: &'a [u8],
    },
    /// Removes a value if it is there.
    Delete {
        /// Namespace.
        ns: &'a str,
        /// Key.
        key: &'a str,
    },
}

/// What [`Store::apply_if`] demands before it changes anything.
#[derive(Clone, Copy, Debug)]
pub struct Condition<'a> {
    /// Namespace.
    pub ns: &'a str,
    /// Key.
    pub key: &'a str,
    /// The value that must be there; `None`: there must be none.
    pub value: Option<&'a [u8]>,
}

/// One stored value with its place.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Namespace.
    pub ns: String,
    /// Key.
    pub key: String,
    /// Value as stored, sealed where the caller sealed it.
    pub value: Vec<u8>,
}

/// Namespaced key-value storage.
///
/// Namespaces are 1–64 characters of `a-z` and `_`; keys 1–[`MAX_KEY`] bytes without NUL; values up to
/// [`MAX_VALUE`]. Calls are synchronous: reads take microseconds, durable writes one disk flush, and a shared
/// store may wait for another process up to its time limit – async callers use a blocking thread for those.
pub trait Store: Send + Sync {
    /// The value, if there is one.
    fn get(&self, ns: &str, key: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Writes a value; `mode` says what must have been there.
    fn put(&self, ns: &str, key: &str, value: &[u8], mode: PutMode) -> Result<(), Error>;

    /// Removes a value; whether there was one.
    fn delete(&self, ns: &str, key: &str) -> Result<bool, Error>;

    /// Up to `limit` keys that begin with `prefix`, in byte order.
    fn list(&self, ns: &str, prefix: &str, limit: usize) -> Result<Vec<String>, Error>;

    /// Up to `limit` keys that begin with `prefix`, with their values, in byte order.
    fn scan(&self, ns: &str, prefix: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, Error>;

    /// [`Store::scan`] of the keys that come after `after` in byte order, which need not exist: the next page.
    fn scan_from(
        &self,
        ns: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, Error>;

    /// Reads and removes in one step: of several callers exactly one gets the value.
    fn take(&self, ns: &str, key: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Writes a value only where there is none; whether it did. Of several callers exactly one is told `true`.
    fn put_if_absent(&self, ns: &str, key: &str, value: &[u8]) -> Result<bool, Error>;

    /// Does all changes in order, or none of them.
    fn apply(&self, changes: &[Change<'_>]) -> Result<(), Error> {
        self.apply_if(&[], changes).map(drop)
    }

    /// Does all changes in order if every condition holds, else nothing; whether it did. Conditions and changes are
    /// one step among all users of the state.
    fn apply_if(&self, conditions: &[Condition<'_>], changes: &[Change<'_>]) -> Result<bool, Error>;

    /// Gives every record to `each`, in the order of namespace and key, as of one moment. Ends at the first error
    /// of `each`.
    fn snapshot(&self, each: &mut dyn FnMut(Record) -> Result<(), Error>) -> Result<(), Error>;

    /// Whether other processes may read and change the same state while this one uses it.
    fn shared(&self) -> bool;
}

/// Checks a namespace and key; the stored form is `namespace NUL key`.
fn storage_key(ns: &str, key: &str) -> Result<Vec<u8>, Error> {
    check_namespace(ns)?;
    if key.is_empty() || key.len() > longest_key(ns) || key.contains('\0') {
        return Err(Error::InvalidKey(format!("{} bytes in namespace {ns}", key.len())));
    }
    Ok(joined(ns, key))
}

/// The stored form of a key prefix, which may be empty.
fn storage_prefix(ns: &str, prefix: &str) -> Result<Vec<u8>, Error> {
    check_namespace(ns)?;
    if prefix.len() > longest_key(ns) || prefix.contains('\0') {
        return Err(Error::InvalidKey(format!("prefix of {} bytes in namespace {ns}", prefix.len())));
    }
    Ok(joined(ns, prefix))
}

/// Longest key of a namespace: in that of [`TenantStore`] each key is longer by its tenant and namespace.
fn longest_key(ns: &str) -> usize {
    if ns == tenant::NAMESPACE { MAX_KEY + tenant::MAX_PREFIX } else { MAX_KEY }
}

fn check_namespace(ns: &str) -> Result<(), Error> {
    if ns.is_empty() || ns.len() > 64 || !ns.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
        return Err(Error::InvalidKey(format!("namespace {ns:?}")));
    }
    Ok(())
}

fn joined(ns: &str, key: &str) -> Vec<u8> {
    let mut full = Vec::with_capacity(ns.len() + 1 + key.len());
    full.extend_from_slice(ns.as_bytes());
    full.push(0);
    full.extend_from_slice(key.as_bytes());
    full
}

fn check_value(value: &[u8]) -> Result<(), Error> {
    if value.len() > MAX_VALUE { Err(Error::ValueTooLarge(value.len())) } else { Ok(()) }
}
