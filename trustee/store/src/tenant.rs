//! One tenant's view of a store, and the removal of all that a tenant keeps.
//!
//! A tenant's record `ns`/`key` is the inner store's record `tenant`/`TENANT U+0001 ns U+0001 key`. Neither a
//! tenant's name nor a namespace can hold U+0001, and keys that do are refused, so no call reaches outside.

use std::sync::Arc;

use crate::{Change, Condition, Error, MAX_KEY, PutMode, Record, Store, check_namespace};

/// The inner store's namespace of all tenants' records.
pub(crate) const NAMESPACE: &str = "tenant";

/// Longest text before a tenant's own key: tenant, namespace and two separators.
pub(crate) const MAX_PREFIX: usize = MAX_TENANT + 64 + 2;

const MAX_TENANT: usize = 40;
const SEPARATOR: char = '\u{1}';

/// Keys removed in one step by [`remove_all`].
const BATCH: usize = 500;

/// A [`Store`] that holds exactly one tenant's records.
///
/// `snapshot` reads past the other tenants' records without giving them out.
pub struct TenantStore {
    inner: Arc<dyn Store>,
    tenant: String,
}

impl TenantStore {
    /// The view of `tenant` (1–40 characters of `a-z`, `0-9` and `-`, else [`Error::InvalidKey`]).
    pub fn new(inner: Arc<dyn Store>, tenant: &str) -> Result<Self, Error> {
        check_tenant(tenant)?;
        Ok(TenantStore { inner, tenant: tenant.to_owned() })
    }

    /// Whose view it is.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    fn prefix(&self, ns: &str, key: &str) -> Result<String, Error> {
        check_namespace(ns)?;
        if key.len() > MAX_KEY || key.contains(['\0', SEPARATOR]) {
            return Err(Error::InvalidKey(format!("{} bytes in namespace {ns}", key.len())));
        }
        Ok(format!("{}{SEPARATOR}{ns}{SEPARATOR}{key}", self.tenant))
    }

    fn key(&self, ns: &str, key: &str) -> Result<String, Error> {
        if key.is_empty() {
            return Err(Error::InvalidKey(format!("0 bytes in namespace {ns}")));
        }
        self.prefix(ns, key)
    }

    /// The tenant's own key of a key found in the inner store.
    fn own(&self, ns: &str, full: &str) -> Result<String, Error> {
        let (found, key) = self.split(full).ok_or_else(damaged)?;
        if found == ns { Ok(key.to_owned()) } else { Err(damaged()) }
    }

    fn split<'a>(&self, full: &'a str) -> Option<(&'a str, &'a str)> {
        full.strip_prefix(self.tenant.as_str())?.strip_prefix(SEPARATOR)?.split_once(SEPARATOR)
    }
}

fn damaged() -> Error {
    Error::Corrupt("a tenant's stored key is damaged".into())
}

fn check_tenant(tenant: &str) -> Result<(), Error> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if tenant.is_empty() || tenant.len() > MAX_TENANT || !tenant.bytes().all(allowed) {
        return Err(Error::InvalidKey(format!("tenant {tenant:?}")));
    }
    Ok(())
}

/// Removes every record of `tenant`, 500 at a time; how many. Where others go on writing for that tenant, it ends
/// only when none is found: stop them first.
pub fn remove_all(inner: &dyn Store, tenant: &str) -> Result<u64, Error> {
    check_tenant(tenant)?;
    let prefix = format!("{tenant}{SEPARATOR}");
    let mut removed = 0;
    loop {
        let keys = inner.list(NAMESPACE, &prefix, BATCH)?;
        if keys.is_empty() {
            return Ok(removed);
        }
        let changes: Vec<_> = keys.iter().map(|key| Change::Delete { ns: NAMESPACE, key }).collect();
        inner.apply(&changes)?;
        removed += u64::try_from(keys.len()).unwrap_or(u64::MAX);
    }
}

/// Names the tenant's own place instead of the inner store's.
fn renamed(error: Error, ns: &str, key: &str) -> Error {
    match error {
        Error::Exists { .. } => Error::Exists { ns: ns.to_owned(), key: key.to_owned() },
        Error::Missing { .. } => Error::Missing { ns: ns.to_owned(), key: key.to_owned() },
        other => other,
    }
}

impl Store for TenantStore {
    fn get(&self, ns: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.inner.get(NAMESPACE, &self.key(ns, key)?)
    }

    fn put(&self, ns: &str, key: &str, value: &[u8], mode: PutMode) -> Result<(), Error> {
        let full = self.key(ns, key)?;
        self.inner.put(NAMESPACE, &full, value, mode).map_err(|error| renamed(error, ns, key))
    }

    fn delete(&self, ns: &str, key: &str) -> Result<bool, Error> {
        self.inner.delete(NAMESPACE, &self.key(ns, key)?)
    }

    fn list(&self, ns: &str, prefix: &str, limit: usize) -> Result<Vec<String>, Error> {
        let found = self.inner.list(NAMESPACE, &self.prefix(ns, prefix)?, limit)?;
        found.iter().map(|full| self.own(ns, full)).collect()
    }

    fn scan(&self, ns: &str, prefix: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.scan_from(ns, prefix, "", limit)
    }

    fn scan_from(
        &self,
        ns: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let (prefix, after) = (self.prefix(ns, prefix)?, self.prefix(ns, after)?);
        let found = self.inner.scan_from(NAMESPACE, &prefix, &after, limit)?;
        found.into_iter().map(|(full, value)| Ok((self.own(ns, &full)?, value))).collect()
    }

    fn take(&self, ns: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.inner.take(NAMESPACE, &self.key(ns, key)?)
    }

    fn put_if_absent(&self, ns: &str, key: &str, value: &[u8]) -> Result<bool, Error> {
        self.inner.put_if_absent(NAMESPACE, &self.key(ns, key)?, value)
    }

    fn apply_if(&self, conditions: &[Condition<'_>], changes: &[Change<'_>]) -> Result<bool, Error> {
        let demanded: Vec<_> = conditions.iter().map(|c| self.key(c.ns, c.key)).collect::<Result<_, _>>()?;
        let changed: Vec<_> = changes
            .iter()
            .map(|change| match change {
                Change::Put { ns, key, .. } | Change::Delete { ns, key } => self.key(ns, key),
            })
            .collect::<Result<_, _>>()?;
        let conditions: Vec<_> = conditions
            .iter()
            .zip(&demanded)
            .map(|(c, key)| Condition { ns: NAMESPACE, key, value: c.value })
            .collect();
        let changes: Vec<_> = changes
            .iter()
            .zip(&changed)
            .map(|(change, key)| match change {
                Change::Put { value, .. } => Change::Put { ns: NAMESPACE, key, value },
                Change::Delete { .. } => Change::Delete { ns: NAMESPACE, key },
            })
            .collect();
        self.inner.apply_if(&conditions, &changes)
    }

    fn snapshot(&self, each: &mut dyn FnMut(Record) -> Result<(), Error>) -> Result<(), Error> {
        self.inner.snapshot(&mut |record| {
            if record.ns != NAMESPACE {
                return Ok(());
            }
            let Some((ns, key)) = self.split(&record.key) else { return Ok(()) };
            let (ns, key) = (ns.to_owned(), key.to_owned());
            each(Record { ns, key, value: record.value })
        })
    }

    fn shared(&self) -> bool {
        self.inner.shared()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    #[test]
    fn no_name_or_key_leads_outside_the_tenant() {
        let inner = Arc::new(MemoryStore::new());
        for bad in ["", "A", "a b", "a\u{1}", "a/b", "ä", &"a".repeat(41)] {
            assert!(matches!(TenantStore::new(inner.clone(), bad), Err(Error::InvalidKey(_))), "{bad:?}");
            assert!(remove_all(inner.as_ref(), bad).is_err(), "{bad:?}");
        }
        let a = TenantStore::new(inner.clone(), "a").unwrap();
        let other = TenantStore::new(inner.clone(), "a-b").unwrap();
        other.put("n", "k", b"other", PutMode::Create).unwrap();
        inner.put("n", "k", b"outside", PutMode::Create).unwrap();
        inner.put(NAMESPACE, "a", b"no separator", PutMode::Create).unwrap();
        a.put("n", "k", b"own", PutMode::Create).unwrap();

        for key in ["x\u{1}y", "\u{1}", "\u{1}n\u{1}k"] {
            assert!(matches!(a.get("n", key), Err(Error::InvalidKey(_))));
            assert!(matches!(a.put("n", key, b"", PutMode::Upsert), Err(Error::InvalidKey(_))));
            assert!(matches!(a.take("n", key), Err(Error::InvalidKey(_))));
            assert!(matches!(a.delete("n", key), Err(Error::InvalidKey(_))));
            assert!(matches!(a.put_if_absent("n", key, b""), Err(Error::InvalidKey(_))));
            assert!(matches!(a.list("n", key, 9), Err(Error::InvalidKey(_))));
            assert!(matches!(a.scan("n", key, 9), Err(Error::InvalidKey(_))));
            assert!(matches!(a.scan_from("n", "", key, 9), Err(Error::InvalidKey(_))));
            assert!(matches!(a.apply(&[Change::Delete { ns: "n", key }]), Err(Error::InvalidKey(_))));
            let condition = [Condition { ns: "n", key, value: None }];
            assert!(matches!(a.apply_if(&condition, &[]), Err(Error::InvalidKey(_))));
        }
        assert_eq!(a.list("n", "", 9).unwrap(), ["k"]);
        let mut seen = Vec::new();
        a.snapshot(&mut |r| {
            seen.push((r.ns, r.key, r.value));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [("n".to_owned(), "k".to_owned(), b"own".to_vec())]);
        match a.put("n", "k", b"", PutMode::Create).unwrap_err() {
            Error::Exists { ns, key } => assert_eq!((ns.as_str(), key.as_str()), ("n", "k")),
            error => panic!("{error}"),
        }
    }

    #[test]
    fn remove_all_takes_one_tenant_in_batches() {
        let inner = Arc::new(MemoryStore::new());
        let (a, b) =
            (TenantStore::new(inner.clone(), "a").unwrap(), TenantStore::new(inner.clone(), "aa").unwrap());
        for i in 0..1203 {
            a.put(if i % 2 == 0 { "n" } else { "m" }, &i.to_string(), b"", PutMode::Create).unwrap();
        }
        b.put("n", "k", b"kept", PutMode::Create).unwrap();
        assert_eq!(remove_all(inner.as_ref(), "a").unwrap(), 1203);
        assert_eq!(remove_all(inner.as_ref(), "a").unwrap(), 0);
        assert_eq!(b.get("n", "k").unwrap().unwrap(), b"kept");
    }
}
