//! Tenants: owners that share one Trustee without sharing anything in it.
//!
//! Each has secrets, rules, policies, reference values, token keys, a sealing key, an audit log and administrators of its
//! own, under `/t/NAME/…` of the same server. A tenant sees neither the others nor the Trustee itself; the Trustee's own
//! administrators may administer all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use cocoon_access::{make_token, token_sha256};
use cocoon_store::{PutMode, Store, TenantStore, remove_all};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::config::{Live, TrustedIssuers};
use crate::inner::{Inner, Shared};
use crate::revocable::Revocable;
use crate::{Error, Trustee, keys};

const NAMESPACE: &str = "tenant_record";
/// Most tenants of one Trustee.
pub const MAX_TENANTS: usize = 1000;

/// How much one tenant may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    /// Shared secrets.
    pub secrets: usize,
    /// Registered workloads.
    pub workloads: usize,
    /// Release rules.
    pub rules: usize,
    /// Names with reference values.
    pub reference_values: usize,
    /// Policies.
    pub policies: usize,
}

impl Default for Quota {
    fn default() -> Self {
        Quota { secrets: 1000, workloads: 1000, rules: 200, reference_values: 1000, policies: 20 }
    }
}

/// A tenant as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// 1–40 characters of `a-z`, `0-9`, `-`.
    pub name: String,
    /// When it was made, in seconds since 1970.
    pub created_unix: u64,
    /// SHA-256 of its administrator's token, hex.
    pub token_sha256: String,
    /// How much it may keep.
    pub quota: Quota,
}

impl Tenant {
    /// Whether a token is its administrator's.
    pub(crate) fn knows(&self, token: &str) -> bool {
        let expected = hex::decode(&self.token_sha256).unwrap_or_default();
        aws_lc_rs::constant_time::verify_slices_are_equal(&token_sha256(token), &expected).is_ok()
    }
}

/// The tenants of one Trustee; those that were asked for stay open.
pub(crate) struct Tenants {
    store: Arc<dyn Store>,
    /// Locked while a tenant is opened or removed: what is being removed is not opened meanwhile.
    open: Mutex<HashMap<String, Open>>,
}

struct Open {
    trustee: Trustee,
    router: Router,
    store: Arc<Revocable>,
}

impl Tenants {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Tenants { store, open: Mutex::default() }
    }

    pub fn list(&self) -> Result<Vec<Tenant>, Error> {
        let records = self.store.scan(NAMESPACE, "", MAX_TENANTS)?;
        records.iter().map(|(name, json)| parse(name, json)).collect()
    }

    pub fn get(&self, name: &str) -> Result<Option<Tenant>, Error> {
        if !valid(name) {
            return Ok(None);
        }
        self.store.get(NAMESPACE, name)?.map(|json| parse(name, &json)).transpose()
    }

    /// Makes a tenant, or changes one's quota; a new one's administrator token is given once.
    pub fn put(
        &self,
        name: &str,
        quota: Quota,
        now_unix: u64,
    ) -> Result<(Tenant, Option<Zeroizing<String>>), Error> {
        if !valid(name) {
            return Err(Error::Tenant("a name is 1 to 40 characters of a-z, 0-9 and -".into()));
        }
        if let Some(tenant) = self.get(name)? {
            let changed = Tenant { quota, ..tenant };
            self.keep(&changed, PutMode::Replace)?;
            self.forget(name);
            return Ok((changed, None));
        }
        if self.store.list(NAMESPACE, "", MAX_TENANTS)?.len() >= MAX_TENANTS {
            return Err(Error::Tenant(format!("more than {MAX_TENANTS} tenants")));
        }
        let _open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.get(name)?.is_none() {
            // What a removal that broke off has left must not be the new owner's.
            keys::forget_tenant_key(self.store.as_ref(), name)?;
            remove_all(self.store.as_ref(), name)?;
        }
        let token = make_token()?;
        let tenant = Tenant {
            name: name.to_owned(),
            created_unix: now_unix,
            token_sha256: hex::encode(token_sha256(&token)),
            quota,
        };
        self.keep(&tenant, PutMode::Create)?;
        Ok((tenant, Some(token)))
    }

    /// A new administrator token; the old one ends.
    pub fn new_token(&self, name: &str) -> Result<Option<Zeroizing<String>>, Error> {
        let Some(tenant) = self.get(name)? else { return Ok(None) };
        let token = make_token()?;
        self.keep(&Tenant { token_sha256: hex::encode(token_sha256(&token)), ..tenant }, PutMode::Replace)?;
        self.forget(name);
        Ok(Some(token))
    }

    /// Removes a tenant with all that it kept. Its key goes first: from then on nothing of it can be opened.
    pub fn delete(&self, name: &str) -> Result<bool, Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.get(name)?.is_none() {
            return Ok(false);
        }
        self.store.delete(NAMESPACE, name)?;
        if let Some(opened) = open.remove(name) {
            opened.store.close();
        }
        keys::forget_tenant_key(self.store.as_ref(), name)?;
        remove_all(self.store.as_ref(), name)?;
        Ok(true)
    }

    /// The Trustee of a tenant. Another replica may have changed or removed it, so its record is looked at each time.
    pub fn open(&self, root: &Inner, name: &str) -> Result<Option<Router>, Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tenant) = self.get(name)? else {
            if let Some(opened) = open.remove(name) {
                opened.store.close();
            }
            return Ok(None);
        };
        if let Some(opened) = open.get(name)
            && opened.trustee.inner.tenant.as_ref() == Some(&tenant)
        {
            return Ok(Some(opened.router.clone()));
        }
        // The old one's audit writer must be gone before the new one begins.
        open.remove(name);
        let sealer = Arc::new(keys::tenant_sealer(root.store.as_ref(), &root.sealer, name)?);
        let store = Arc::new(Revocable::new(TenantStore::new(root.store.clone(), name)?));
        let live = tenant_live(&root.judge().config);
        let inner = Inner::new(root.shared.clone(), store.clone(), sealer, live, None, Some(tenant))?;
        let trustee = Trustee::of(inner);
        let router = trustee.router();
        open.insert(name.to_owned(), Open { trustee, router: router.clone(), store });
        Ok(Some(router))
    }

    /// Takes over the Trustee's changed configuration.
    pub fn reload(&self, root: &Live) -> Result<(), Error> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().try_for_each(|opened| opened.trustee.inner.reload(tenant_live(root)))
    }

    fn forget(&self, name: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    fn keep(&self, tenant: &Tenant, mode: PutMode) -> Result<(), Error> {
        let json = serde_json::to_vec(tenant).map_err(|_| Error::Internal("a tenant's record"))?;
        Ok(self.store.put(NAMESPACE, &tenant.name, &json, mode)?)
    }
}

/// What of the Trustee's configuration holds for its tenants: trust in TEEs and life times. Not its foreign issuers, its
/// home of secrets, its plugins or its own signing key.
fn tenant_live(root: &Live) -> Live {
    Live {
        token_identity: None,
        trusted: TrustedIssuers::default(),
        source: None,
        plugins: Vec::new(),
        ..root.clone()
    }
}

fn valid(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn parse(name: &str, json: &[u8]) -> Result<Tenant, Error> {
    let damaged = || Error::Tenant(format!("the record of {name} is damaged"));
    serde_json::from_slice(json).ok().filter(|t: &Tenant| t.name == name).ok_or_else(damaged)
}

/// What is shared by the tenants of a process is made once.
pub(crate) fn shared(clock: crate::Clock) -> Arc<Shared> {
    Arc::new(Shared {
        clock,
        metrics: crate::metrics::Metrics::new(),
        peers: Arc::new(crate::peers::Peers::new(crate::PeerLimits::default())),
        telemetry: std::sync::RwLock::default(),
        acts: Arc::default(),
    })
}
