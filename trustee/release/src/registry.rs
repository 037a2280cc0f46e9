//! Where workloads, their secrets and shared resources are kept.

use std::sync::Arc;

use cocoon_store::{Change, PutMode, Sealer, Store};
use zeroize::Zeroizing;

use crate::workload::host_data_hex;
use crate::{Error, MAX_SECRET, Registration, ResourcePath, Rules, SharedSource, Workload};

/// Records by HOST_DATA hex.
const WORKLOADS: &str = "workload";
/// Sealed secrets of one workload, by `<HOST_DATA hex>/<path>`.
const SECRETS: &str = "workload_secret";
/// Sealed shared resources by path (upstream's name for this namespace).
const RESOURCES: &str = "repository";

/// Most keys that one listing gives.
const MAX_LIST: usize = 10_000;

/// Workloads and secrets on top of a [`Store`]; secret values are sealed for exactly their place.
#[derive(Clone)]
pub struct Registry {
    store: Arc<dyn Store>,
    sealer: Arc<Sealer>,
    rules: Rules,
    source: Option<Arc<dyn SharedSource>>,
}

impl Registry {
    /// A registry on this store.
    pub fn new(store: Arc<dyn Store>, sealer: Arc<Sealer>) -> Self {
        Registry { rules: Rules::new(store.clone()), store, sealer, source: None }
    }

    /// The same, with shared secrets in a foreign home; those in the store are not looked at any more.
    #[must_use]
    pub fn with_source(mut self, source: Option<Arc<dyn SharedSource>>) -> Self {
        self.source = source;
        self
    }

    /// Whether looking up a shared secret may wait for a network.
    pub fn may_wait(&self) -> bool {
        self.source.is_some()
    }

    /// The release rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Registers a workload, replacing an earlier registration of the same digest, in one step.
    pub fn register(&self, registration: &Registration, now_unix: u64) -> Result<Workload, Error> {
        let record = registration.record(now_unix)?;
        let host_data = host_data_hex(&record.digest_hex)?;
        self.remove_expired(&host_data, now_unix)?;
        let json = serde_json::to_vec(&record).map_err(|_| Error::Record(record.digest_hex.clone()))?;
        let old = self.secret_keys(&host_data)?;
        let mut sealed = Vec::with_capacity(registration.secrets.len());
        for (path, secret) in &registration.secrets {
            let key = secret_key(&host_data, path);
            let value = self.sealer.seal(SECRETS, &key, secret)?;
            sealed.push((key, value));
        }
        let mut changes: Vec<Change<'_>> =
            old.iter().map(|key| Change::Delete { ns: SECRETS, key }).collect();
        changes.extend(sealed.iter().map(|(key, value)| Change::Put { ns: SECRETS, key, value }));
        changes.push(Change::Put { ns: WORKLOADS, key: &host_data, value: &json });
        self.store.apply(&changes)?;
        Ok(record)
    }

    /// Removes a workload and its secrets; whether there was one.
    pub fn unregister(&self, digest_hex: &str) -> Result<bool, Error> {
        let host_data = host_data_hex(digest_hex)?;
        let there = self.store.get(WORKLOADS, &host_data)?.is_some();
        self.remove(&host_data)?;
        Ok(there)
    }

    /// The record of a digest.
    pub fn workload(&self, digest_hex: &str) -> Result<Option<Workload>, Error> {
        self.by_host_data(&host_data_hex(digest_hex)?)
    }

    /// All records, up to 10,000.
    pub fn workloads(&self) -> Result<Vec<Workload>, Error> {
        let records = self.store.scan(WORKLOADS, "", MAX_LIST)?;
        records.iter().map(|(key, json)| record(key, json)).collect()
    }

    /// The record bound by this HOST_DATA (64 lower-case hex digits).
    pub(crate) fn by_host_data(&self, host_data: &str) -> Result<Option<Workload>, Error> {
        let Some(json) = self.store.get(WORKLOADS, host_data)? else { return Ok(None) };
        record(host_data, &json).map(Some)
    }

    /// A secret of one workload.
    pub(crate) fn secret(
        &self,
        host_data: &str,
        path: &ResourcePath,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        self.opened(SECRETS, &secret_key(host_data, path))
    }

    /// A shared resource.
    pub fn resource(&self, path: &ResourcePath) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        if let Some(source) = &self.source {
            return source.get(path).map_err(Error::Source);
        }
        self.opened(RESOURCES, path.as_str())
    }

    /// Sets a shared resource of at most 1 MiB.
    pub fn put_resource(&self, path: &ResourcePath, value: &[u8]) -> Result<(), Error> {
        if value.len() > MAX_SECRET {
            return Err(Error::TooLarge(value.len()));
        }
        if let Some(source) = &self.source {
            return source.put(path, value).map_err(Error::Source);
        }
        let sealed = self.sealer.seal(RESOURCES, path.as_str(), value)?;
        Ok(self.store.put(RESOURCES, path.as_str(), &sealed, PutMode::Upsert)?)
    }

    /// Sets a shared resource only where there is none; whether it did. Of several callers exactly one is told `true`.
    pub fn put_resource_if_absent(&self, path: &ResourcePath, value: &[u8]) -> Result<bool, Error> {
        if value.len() > MAX_SECRET {
            return Err(Error::TooLarge(value.len()));
        }
        if let Some(source) = &self.source {
            // A foreign home offers no such step; two that make a value at once may both be told `true`.
            if source.get(path).map_err(Error::Source)?.is_some() {
                return Ok(false);
            }
            return source.put(path, value).map(|()| true).map_err(Error::Source);
        }
        let sealed = self.sealer.seal(RESOURCES, path.as_str(), value)?;
        Ok(self.store.put_if_absent(RESOURCES, path.as_str(), &sealed)?)
    }

    /// Removes a shared resource; whether there was one.
    pub fn delete_resource(&self, path: &ResourcePath) -> Result<bool, Error> {
        if let Some(source) = &self.source {
            return source.delete(path).map_err(Error::Source);
        }
        Ok(self.store.delete(RESOURCES, path.as_str())?)
    }

    /// Paths of shared resources, up to 10,000.
    pub fn resources(&self) -> Result<Vec<String>, Error> {
        if let Some(source) = &self.source {
            let cannot = || Error::Source("this home of secrets cannot list them".into());
            return source.list().map_err(Error::Source)?.ok_or_else(cannot);
        }
        Ok(self.store.list(RESOURCES, "", MAX_LIST)?)
    }

    fn opened(&self, ns: &str, key: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        match self.store.get(ns, key)? {
            Some(sealed) => Ok(Some(self.sealer.open(ns, key, &sealed)?)),
            None => Ok(None),
        }
    }

    fn secret_keys(&self, host_data: &str) -> Result<Vec<String>, Error> {
        Ok(self.store.list(SECRETS, &format!("{host_data}/"), MAX_LIST)?)
    }

    fn remove(&self, host_data: &str) -> Result<(), Error> {
        let secrets = self.secret_keys(host_data)?;
        let mut changes = vec![Change::Delete { ns: WORKLOADS, key: host_data }];
        changes.extend(secrets.iter().map(|key| Change::Delete { ns: SECRETS, key }));
        Ok(self.store.apply(&changes)?)
    }

    /// Removes expired neighbours of a new registration: the digest's first digit picks a random sixteenth, so
    /// that leftovers go away in time without any call taking long.
    fn remove_expired(&self, host_data: &str, now_unix: u64) -> Result<(), Error> {
        let sixteenth = host_data.get(..1).unwrap_or_default();
        for (key, json) in self.store.scan(WORKLOADS, sixteenth, 64)? {
            if record(&key, &json).is_ok_and(|w| w.expired(now_unix)) {
                self.remove(&key)?;
            }
        }
        Ok(())
    }
}

fn record(host_data: &str, json: &[u8]) -> Result<Workload, Error> {
    serde_json::from_slice(json).map_err(|_| Error::Record(host_data.to_owned()))
}

fn secret_key(host_data: &str, path: &ResourcePath) -> String {
    format!("{host_data}/{path}")
}
