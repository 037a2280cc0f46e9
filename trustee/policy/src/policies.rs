//! Policies and their versions in a store.
//!
//! Three records per policy: its index with all versions, one text per version, and the small record that says which
//! version is in force. They change in one step or not at all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cocoon_store::{Change, Condition, Store};

use crate::cache::Cache;
use crate::record::{Active, Index, check_labels, json, sha256, valid_id};
use crate::{Compiled, Error, Kind, PolicyVersion, default_policy, resource_sample};

/// The id of the resource policy; no attestation policy may have it.
pub const RESOURCE_POLICY_ID: &str = "resource-policy";

/// Indexes by id.
const INDEX: &str = "policy_index";
/// Texts by `<id>/<version, 20 digits>`.
const TEXT: &str = "policy_text";
/// Small records by id.
const ACTIVE: &str = "policy_active";

/// Most policies.
const MAX_POLICIES: usize = 1000;
/// How often a change is tried while others change the same policy.
const ATTEMPTS: usize = 64;
/// How old knowledge of a store that others change too may be.
const RECHECK: Duration = Duration::from_secs(1);

/// Policies on top of a [`Store`]; clones share what they remember.
///
/// One process uses one `Policies` (and its clones) per store. A change made through it is in force at once; one
/// made by another process on a shared store within a second.
#[derive(Clone)]
pub struct Policies {
    store: Arc<dyn Store>,
    cache: Arc<Cache>,
    built_in: Arc<Mutex<HashMap<String, Arc<Compiled>>>>,
    recheck: Duration,
}

impl Policies {
    /// The policies of this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self::with_recheck(store, RECHECK)
    }

    pub(crate) fn with_recheck(store: Arc<dyn Store>, recheck: Duration) -> Self {
        Policies { store, cache: Arc::default(), built_in: Arc::default(), recheck }
    }

    /// Stores a text and puts it into force; the version.
    ///
    /// The text must compile as `kind` (see [`Compiled::new`]). A text that is among the versions already makes no
    /// new one: that version is put into force and returned. `author` is 1–256 bytes, `note` up to 1024, `now` in
    /// seconds since 1970. A policy keeps the kind it was first stored with.
    pub fn put(
        &self,
        id: &str,
        kind: Kind,
        text: &str,
        author: &str,
        note: &str,
        now: u64,
    ) -> Result<PolicyVersion, Error> {
        if !valid_id(id) || (id == RESOURCE_POLICY_ID) != (kind == Kind::Resource) {
            return Err(Error::Id(id.to_owned()));
        }
        check_labels(author, note)?;
        Compiled::new(kind, text)?;
        let sha256 = sha256(text.as_bytes());
        let size = u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.change(id, |index| {
            let mut index = match index {
                Some(index) if index.kind != kind => return Err(Error::Id(id.to_owned())),
                Some(index) => index,
                None => {
                    self.room()?;
                    Index::new(kind)
                }
            };
            if let Some(same) = index.versions.iter().find(|v| v.sha256 == sha256).map(|v| v.version) {
                index.active = same;
                return Ok((Some(index), None));
            }
            let version = PolicyVersion {
                id: id.to_owned(),
                kind,
                version: index.next,
                sha256: sha256.clone(),
                size,
                author: author.to_owned(),
                note: note.to_owned(),
                created_unix: now,
                active: false,
            };
            index.active = version.version;
            index.next += 1;
            index.versions.push(version);
            Ok((Some(index), Some(text)))
        })?
        .and_then(|index| index.find(index.active).map(|v| index.shown(v)))
        .ok_or_else(|| Error::Damaged(id.to_owned()))
    }

    /// Puts an earlier version into force again; that version.
    pub fn activate(&self, id: &str, version: u64) -> Result<PolicyVersion, Error> {
        let missing = || Error::Missing(format!("version {version} of policy {id}"));
        // A damaged text must not become the one in force.
        let (_, text) = self.get(id, version)?.ok_or_else(missing)?;
        self.change(id, |index| {
            let mut index = index.ok_or_else(missing)?;
            let found = index.find(version).ok_or_else(missing)?;
            if found.sha256 != sha256(text.as_bytes()) {
                return Err(Error::Contended(id.to_owned()));
            }
            index.active = version;
            Ok((Some(index), None))
        })?
        .and_then(|index| index.find(version).map(|v| index.shown(v)))
        .ok_or_else(missing)
    }

    /// How many changes were made through this process, so that what was found out from policies can be kept until the
    /// next. Says nothing of other processes' changes.
    pub fn changes(&self) -> u64 {
        self.cache.changes()
    }

    /// Removes a policy with all its versions; whether there was one. Where Trustee brings a policy of its own, that
    /// one is in force then. A policy stored later under the same id begins at version 1 again.
    pub fn delete(&self, id: &str) -> Result<bool, Error> {
        let mut there = false;
        self.change(id, |index| {
            there = index.is_some();
            Ok((None, None))
        })?;
        Ok(there)
    }

    /// All versions of a policy, newest first; empty if there is no such policy.
    pub fn history(&self, id: &str) -> Result<Vec<PolicyVersion>, Error> {
        let Some((index, _)) = self.index(id)? else { return Ok(Vec::new()) };
        Ok(index.versions.iter().rev().map(|v| index.shown(v)).collect())
    }

    /// One version with its text.
    pub fn get(&self, id: &str, version: u64) -> Result<Option<(PolicyVersion, String)>, Error> {
        let Some((index, _)) = self.index(id)? else { return Ok(None) };
        let Some(found) = index.find(version) else { return Ok(None) };
        let text = self.text(id, version, &found.sha256)?;
        Ok(Some((index.shown(found), text)))
    }

    /// The versions in force of all policies, in the order of their ids.
    pub fn list(&self) -> Result<Vec<PolicyVersion>, Error> {
        let mut list = Vec::new();
        for (id, record) in self.store.scan(INDEX, "", MAX_POLICIES)? {
            let index = Index::parse(&id, &record)?;
            list.extend(index.find(index.active).map(|v| index.shown(v)));
        }
        Ok(list)
    }

    /// The version in force, compiled; `None` if no such policy is stored. A policy of another kind, one that does
    /// not have its hash, or one that does not compile is an error.
    pub fn active(&self, id: &str, kind: Kind) -> Result<Option<Arc<Compiled>>, Error> {
        if !valid_id(id) {
            return Err(Error::Id(id.to_owned()));
        }
        let age = self.store.shared().then_some(self.recheck);
        let compiled = match self.cache.fresh(id, age) {
            Some(compiled) => Some(compiled),
            None => self.load(id)?,
        };
        match compiled {
            Some(compiled) if compiled.kind() != kind => Err(Error::Id(id.to_owned())),
            compiled => Ok(compiled),
        }
    }

    /// The attestation policy for a device class: the stored `<name>_<class>`, else, for the name `default`, the one
    /// that comes with Trustee.
    pub fn attestation(&self, name: &str, class: &str) -> Result<Option<Arc<Compiled>>, Error> {
        let id = format!("{name}_{class}");
        match (self.active(&id, Kind::Attestation)?, default_policy(class)) {
            (None, Some(text)) if name == "default" => self.built_in(&id, Kind::Attestation, text).map(Some),
            (stored, _) => Ok(stored),
        }
    }

    /// The resource policy: the stored one, else the default that comes with Trustee.
    pub fn resource(&self) -> Result<Arc<Compiled>, Error> {
        match (self.active(RESOURCE_POLICY_ID, Kind::Resource)?, resource_sample("default")) {
            (Some(stored), _) => Ok(stored),
            (None, Some(text)) => self.built_in(RESOURCE_POLICY_ID, Kind::Resource, text),
            (None, None) => Err(Error::Missing("resource policy".into())),
        }
    }

    fn built_in(&self, id: &str, kind: Kind, text: &str) -> Result<Arc<Compiled>, Error> {
        let mut known = self.built_in.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(compiled) = known.get(id) {
            return Ok(compiled.clone());
        }
        let compiled = Arc::new(Compiled::new(kind, text)?);
        known.insert(id.to_owned(), compiled.clone());
        Ok(compiled)
    }

    fn load(&self, id: &str) -> Result<Option<Arc<Compiled>>, Error> {
        let changes = self.cache.changes();
        let damaged = || Error::Damaged(id.to_owned());
        let Some(record) = self.store.get(ACTIVE, id)? else { return Ok(None) };
        let record: Active = serde_json::from_slice(&record).map_err(|_| damaged())?;
        if let Some(compiled) = self.cache.confirmed(id, &record, changes) {
            return Ok(Some(compiled));
        }
        let text = self.text(id, record.version, &record.sha256)?;
        let compiled = Arc::new(Compiled::new(record.kind, &text)?);
        self.cache.put(id, record, &compiled, changes);
        Ok(Some(compiled))
    }

    fn text(&self, id: &str, version: u64, expected: &str) -> Result<String, Error> {
        let damaged = || Error::Damaged(format!("{id} version {version}"));
        let text = self.store.get(TEXT, &text_key(id, version))?.ok_or_else(damaged)?;
        if sha256(&text) != expected {
            return Err(damaged());
        }
        String::from_utf8(text).map_err(|_| damaged())
    }

    /// The index with its stored form.
    fn index(&self, id: &str) -> Result<Option<(Index, Vec<u8>)>, Error> {
        if !valid_id(id) {
            return Err(Error::Id(id.to_owned()));
        }
        let Some(record) = self.store.get(INDEX, id)? else { return Ok(None) };
        Ok(Some((Index::parse(id, &record)?, record)))
    }

    fn room(&self) -> Result<(), Error> {
        let count = self.store.list(INDEX, "", MAX_POLICIES)?.len();
        if count >= MAX_POLICIES { Err(Error::TooMany(count)) } else { Ok(()) }
    }

    /// Changes a policy in one step: `edit` gets the index as it is and gives the new one (`None`: no policy) and the
    /// text of its version in force, if that is new. Repeated while others are faster. The new index.
    fn change<'t>(
        &self,
        id: &str,
        mut edit: impl FnMut(Option<Index>) -> Result<(Option<Index>, Option<&'t str>), Error>,
    ) -> Result<Option<Index>, Error> {
        for _ in 0..ATTEMPTS {
            let (old, stored) =
                self.index(id)?.map_or((None, None), |(index, stored)| (Some(index), Some(stored)));
            let old_versions: Vec<u64> =
                old.iter().flat_map(|i| i.versions.iter().map(|v| v.version)).collect();
            let (mut new, text) = edit(old)?;
            let dropped = new.as_mut().map_or(old_versions, Index::drop_oldest);
            let dropped: Vec<String> = dropped.into_iter().map(|version| text_key(id, version)).collect();
            let mut changes: Vec<Change<'_>> =
                dropped.iter().map(|key| Change::Delete { ns: TEXT, key }).collect();
            let (index_json, active_json, key);
            match &new {
                Some(index) => {
                    index_json = json(id, index)?;
                    active_json = json(id, &index.active_record(id)?)?;
                    key = text_key(id, index.active);
                    changes.push(Change::Put { ns: INDEX, key: id, value: &index_json });
                    changes.push(Change::Put { ns: ACTIVE, key: id, value: &active_json });
                    changes.extend(text.map(|t| Change::Put { ns: TEXT, key: &key, value: t.as_bytes() }));
                }
                None => {
                    changes.push(Change::Delete { ns: INDEX, key: id });
                    changes.push(Change::Delete { ns: ACTIVE, key: id });
                }
            }
            let unchanged = Condition { ns: INDEX, key: id, value: stored.as_deref() };
            let done = self.store.apply_if(&[unchanged], &changes);
            self.cache.forget(id);
            if done? {
                return Ok(new);
            }
        }
        Err(Error::Contended(id.to_owned()))
    }
}

fn text_key(id: &str, version: u64) -> String {
    format!("{id}/{version:020}")
}
