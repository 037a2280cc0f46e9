//! Trustee's state: namespaced keys and values, kept in memory or in one embedded file, and the sealing of
//! values at rest.
//!
//! Runs on the workload owner's side, inside Trustee. It never interprets values and never logs them; what must
//! not be readable on disk is sealed by the caller with a [`Sealer`] before it is put.
//!
//! Promises: a write that returned `Ok` survives `kill -9` and power loss ([`RedbStore`]); [`Store::apply`] is all
//! or nothing; `take` and `put_if_absent` are atomic among all processes that share the file. Every error keeps
//! the stored state as it was.

mod error;
mod lock;
mod memory;
mod redb_store;
mod sealer;

pub use error::Error;
pub use memory::MemoryStore;
pub use redb_store::RedbStore;
pub use sealer::Sealer;

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

    /// Reads and removes in one step: of several callers exactly one gets the value.
    fn take(&self, ns: &str, key: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Writes a value only where there is none; whether it did. Of several callers exactly one is told `true`.
    fn put_if_absent(&self, ns: &str, key: &str, value: &[u8]) -> Result<bool, Error>;

    /// Does all changes in order, or none of them.
    fn apply(&self, changes: &[Change<'_>]) -> Result<(), Error>;

    /// Whether other processes may read and change the same state while this one uses it.
    fn shared(&self) -> bool;
}

/// Checks a namespace and key; the stored form is `namespace NUL key`.
fn storage_key(ns: &str, key: &str) -> Result<Vec<u8>, Error> {
    check_namespace(ns)?;
    if key.is_empty() || key.len() > MAX_KEY || key.contains('\0') {
        return Err(Error::InvalidKey(format!("{} bytes in namespace {ns}", key.len())));
    }
    Ok(joined(ns, key))
}

/// The stored form of a key prefix, which may be empty.
fn storage_prefix(ns: &str, prefix: &str) -> Result<Vec<u8>, Error> {
    check_namespace(ns)?;
    if prefix.len() > MAX_KEY || prefix.contains('\0') {
        return Err(Error::InvalidKey(format!("prefix of {} bytes in namespace {ns}", prefix.len())));
    }
    Ok(joined(ns, prefix))
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
