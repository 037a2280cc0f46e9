//! Sets: what was imported at once, and what one import changes against another.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::{NAMESPACE, Writes, parse};
use crate::value::SEPARATOR;
use crate::{Error, Format, ReferenceValue, ReferenceValues};

/// Namespace of the sets.
const SETS: &str = "reference_set";
/// Most sets.
const MAX_SETS: usize = 1000;

/// What one document brought in. Name and source together identify a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// Name, e.g. `guest-image 0.3.1`.
    pub name: String,
    /// The document's own version where it has one, else counted from 1.
    pub version: u64,
    /// Who published or registered it.
    pub source: String,
    /// Format of the document.
    pub format: Format,
    /// When it was imported, in seconds since 1970.
    pub created_unix: u64,
    /// From when on its records do not count; `None` is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_unix: Option<u64>,
    /// Who signed it: id of a trusted key, or `sha256:<fingerprint>` of a certificate; `None` if nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// `sha256:<hex>` of the document (the decoded payload of the message).
    pub digest: String,
    /// How many records the document holds.
    pub count: usize,
}

impl Set {
    fn key(name: &str, source: &str) -> String {
        format!("{name}{SEPARATOR}{source}")
    }
}

/// What changes for one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The reference value's name.
    pub name: String,
    /// Values accepted only afterwards.
    pub added: Vec<Value>,
    /// Values accepted only before.
    pub removed: Vec<Value>,
}

/// What is accepted for each name in `new` and was not in `old`, and the other way round; in the order of names,
/// without those that stay the same. Expiry is not looked at.
pub fn diff(old: &[ReferenceValue], new: &[ReferenceValue]) -> Vec<Change> {
    let mut names: BTreeMap<&str, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for record in old {
        names.entry(&record.name).or_default().0.extend(&record.values);
    }
    for record in new {
        names.entry(&record.name).or_default().1.extend(&record.values);
    }
    let mut changes = Vec::new();
    for (name, (before, after)) in names {
        let (added, removed) = (only_in_first(&after, &before), only_in_first(&before, &after));
        if !added.is_empty() || !removed.is_empty() {
            changes.push(Change { name: name.to_owned(), added, removed });
        }
    }
    changes
}

fn only_in_first(first: &[&Value], second: &[&Value]) -> Vec<Value> {
    // By text, so that many values do not take quadratic time.
    let second: std::collections::HashSet<String> = second.iter().map(|v| v.to_string()).collect();
    let mut seen = std::collections::HashSet::new();
    let mut only = Vec::new();
    for value in first {
        let text = value.to_string();
        if !second.contains(&text) && seen.insert(text) {
            only.push((*value).clone());
        }
    }
    only
}

impl ReferenceValues {
    /// All sets, in the order of names, up to 1,000.
    ///
    /// # Errors
    /// [`Error::Record`]; storage.
    pub fn sets(&self) -> Result<Vec<Set>, Error> {
        let found = self.store.scan(SETS, "", MAX_SETS)?;
        found.into_iter().map(|(key, json)| read(&key, &json)).collect()
    }

    /// The sets of a name: one per source that published it; empty if there is none.
    ///
    /// # Errors
    /// [`Error::Record`]; storage.
    pub fn set(&self, name: &str) -> Result<Vec<Set>, Error> {
        if name.contains(SEPARATOR) {
            return Ok(Vec::new());
        }
        let found = self.store.scan(SETS, &format!("{name}{SEPARATOR}"), MAX_SETS)?;
        found.into_iter().map(|(key, json)| read(&key, &json)).collect()
    }

    /// The records that belong to a set, of all sources or of one, expired ones too.
    ///
    /// # Errors
    /// As [`ReferenceValues::list`].
    pub fn set_records(&self, name: &str, source: Option<&str>) -> Result<Vec<ReferenceValue>, Error> {
        let mut records = self.list()?;
        records.retain(|r| r.set == name && source.is_none_or(|source| r.source == source));
        Ok(records)
    }

    /// Removes the sets of a name, of all sources, with their records, in one step; how many records there were.
    ///
    /// Forgets the sets' versions too: an older document can be imported afterwards.
    ///
    /// # Errors
    /// As [`ReferenceValues::list`]; [`Error::Busy`].
    pub fn delete_set(&self, name: &str) -> Result<usize, Error> {
        let records = self.set_records(name, None)?;
        let mut writes = Writes::default();
        for set in self.set(name)? {
            let key = Set::key(&set.name, &set.source);
            let before = self.store.get(SETS, &key)?;
            writes.change(SETS, key, before, None);
        }
        for record in &records {
            let key = record.key();
            let before = self.store.get(NAMESPACE, &key)?;
            writes.change(NAMESPACE, key, before, None);
        }
        if self.write(&writes)? { Ok(records.len()) } else { Err(Error::Busy) }
    }

    /// A stored set with its exact bytes.
    pub(crate) fn stored_set(&self, name: &str, source: &str) -> Result<Option<(Set, Vec<u8>)>, Error> {
        let key = Set::key(name, source);
        let Some(json) = self.store.get(SETS, &key)? else { return Ok(None) };
        Ok(Some((read(&key, &json)?, json)))
    }
}

impl Writes {
    /// Stores a set in the place of `before`.
    pub(crate) fn set(&mut self, set: &Set, before: Option<Vec<u8>>) -> Result<(), Error> {
        let key = Set::key(&set.name, &set.source);
        let after = serde_json::to_vec(set).map_err(|_| Error::Record(key.clone()))?;
        self.change(SETS, key, before, Some(after));
        Ok(())
    }

    /// Removes a record, if it is there.
    pub(crate) fn without(&mut self, of: &ReferenceValues, record: &ReferenceValue) -> Result<(), Error> {
        let key = record.key();
        if let Some(before) = of.store.get(NAMESPACE, &key)? {
            parse(&key, &before)?;
            self.change(NAMESPACE, key, Some(before), None);
        }
        Ok(())
    }
}

fn read(key: &str, json: &[u8]) -> Result<Set, Error> {
    serde_json::from_slice(json)
        .ok()
        .filter(|set: &Set| Set::key(&set.name, &set.source) == key)
        .ok_or_else(|| Error::Record(key.to_owned()))
}
