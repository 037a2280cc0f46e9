//! Entries of a Secret as shared secrets.
//!
//! Trustee gives no value out, so that one that someone else has changed cannot be told from ours. So values are sent anew at every
//! look; that a path was missing is seen in Trustee's list.

use std::collections::BTreeSet;

use cocoon_cluster_api::{EntryStatus, TrusteeSecret};
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use serde_json::Value;

use super::{Done, Entry};
use crate::Error;
use crate::trustee::Shared;
use crate::trustee::admin::Admin;

/// Another resource that was there first and names one of these paths.
fn taken(entry: &TrusteeSecret, shared: &Shared) -> Option<(String, String)> {
    let age = |e: &TrusteeSecret| (e.metadata.creation_timestamp.clone().map(|t| t.0), e.name_any());
    let own: BTreeSet<&str> = entry.spec.entries.iter().map(|e| e.path.as_str()).collect();
    let others = shared.sources.iter().flat_map(Store::state).filter(|other| {
        other.namespace() == entry.namespace()
            && other.spec.trustee == entry.spec.trustee
            && other.metadata.uid != entry.metadata.uid
            && other.metadata.deletion_timestamp.is_none()
            && age(other) < age(entry)
    });
    let mut both = others.filter_map(|other| {
        let path = other.spec.entries.iter().find(|e| own.contains(e.path.as_str()))?;
        Some((other.name_any(), path.path.clone()))
    });
    both.next()
}

impl Entry for TrusteeSecret {
    fn trustee(&self) -> &str {
        &self.spec.trustee
    }

    fn status(&self) -> Option<&EntryStatus> {
        self.status.as_ref()
    }

    async fn install(&self, admin: &Admin, shared: &Shared) -> Result<Done, Error> {
        let spec = &self.spec;
        if let Some((other, path)) = taken(self, shared) {
            let message = format!("TrusteeSecret {other} is older and has {path} already");
            return Ok(Done::Waits { reason: "PathTaken", message });
        }
        let ns = self.namespace().unwrap_or_default();
        let Some(secret) = shared.secrets.get(&ns, &spec.secret_name).await? else {
            let message = format!("there is no Secret {} in this namespace", spec.secret_name);
            return Ok(Done::Waits { reason: "SecretMissing", message });
        };
        let data = secret.data.clone().unwrap_or_default();
        if let Some(lacks) = spec.entries.iter().find(|e| !data.contains_key(&e.key)) {
            let message = format!("Secret {} has no entry {}", spec.secret_name, lacks.key);
            return Ok(Done::Waits { reason: "EntryMissing", message });
        }
        let list = admin.get("secrets").await?.unwrap_or_default();
        let there: BTreeSet<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let what: Vec<String> = spec.entries.iter().map(|e| e.path.clone()).collect();
        let differed = what.iter().filter(|path| !there.contains(path.as_str())).count();
        // Before something new is sent: if this pass ends half way, the next knows what to take out.
        let known = self.status.clone().unwrap_or_default().installed;
        for entry in &spec.entries {
            if let Some(value) = data.get(&entry.key) {
                admin.put_bytes(&format!("secrets/{}", entry.path), &value.0).await?;
            }
        }
        for old in known.iter().filter(|old| !what.contains(old)) {
            admin.delete(&format!("secrets/{old}")).await?;
        }
        let message = format!("{} shared secrets from Secret {}", what.len(), spec.secret_name);
        Ok(Done::Installed { what, differed, message })
    }

    async fn remove(&self, admin: &Admin) -> Result<(), Error> {
        let known = self.status.clone().unwrap_or_default().installed;
        let named = self.spec.entries.iter().map(|e| e.path.clone());
        let waits = self.status.iter().flat_map(|s| &s.conditions).any(|c| c.reason == "PathTaken");
        // What another has is not ours to remove.
        let all: BTreeSet<String> =
            if waits { known.into_iter().collect() } else { known.into_iter().chain(named).collect() };
        for path in all {
            admin.delete(&format!("secrets/{path}")).await?;
        }
        Ok(())
    }
}
