//! Reference values: what a good guest and a good platform measure to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cocoon_store::{Change, Store};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;

const NAMESPACE: &str = "reference_value";
/// Between name and source in a key; neither may hold it.
const SEPARATOR: char = '#';
/// Most values of one record.
const MAX_VALUES: usize = 1024;
/// Longest value in bytes.
const MAX_TEXT: usize = 1024;
/// Most records that one look-up reads.
const MAX_RECORDS: usize = 1000;

/// The accepted values of one claim, as one source registered them.
///
/// Name and source together identify a record: sources never overwrite each other's, and what is accepted is the
/// union of all unexpired records of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceValue {
    /// Name as policies know it, e.g. `snp_launch_measurement`; printable ASCII without `#`, up to 200.
    pub name: String,
    /// Strings (hex in lower case), numbers or booleans.
    pub values: Vec<Value>,
    /// Who registered it, e.g. `guest-image 4f3a…`; printable, without `#`, up to 200 bytes.
    pub source: String,
    /// When, in seconds since 1970.
    pub registered_unix: u64,
    /// From when on it does not count; `None` is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_unix: Option<u64>,
}

impl ReferenceValue {
    fn check(&self) -> Result<(), Error> {
        let refused =
            |reason| Err(Error::ReferenceValue { name: self.name.chars().take(80).collect(), reason });
        let printable = |text: &str| {
            (1..=200).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'#')
        };
        if !printable(&self.name) || !printable(&self.source) {
            return refused("name and source have 1 to 200 printable ASCII characters without `#`");
        }
        if self.values.len() > MAX_VALUES {
            return refused("more than 1024 values");
        }
        if !self.values.iter().all(|v| match v {
            Value::String(text) => text.len() <= MAX_TEXT,
            Value::Number(_) | Value::Bool(_) => true,
            _ => false,
        }) {
            return refused("a value is neither a short text nor a number nor a boolean");
        }
        Ok(())
    }

    fn key(&self) -> String {
        format!("{}{SEPARATOR}{}", self.name, self.source)
    }

    fn expired(&self, now_unix: u64) -> bool {
        self.expires_unix.is_some_and(|end| now_unix >= end)
    }
}

/// Most names whose records are remembered.
const MAX_REMEMBERED: usize = 64;

type ByName = HashMap<String, Arc<[ReferenceValue]>>;

/// The reference values in Trustee's store.
#[derive(Clone)]
pub struct ReferenceValues {
    store: Arc<dyn Store>,
    /// Records by name, only while no other process can change them. Each appraisal asks for eleven names.
    remembered: Option<Arc<Mutex<ByName>>>,
}

impl ReferenceValues {
    /// The reference values of this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        let remembered = (!store.shared()).then(Arc::default);
        ReferenceValues { store, remembered }
    }

    /// Registers records, each replacing an earlier one of the same name and source; all of them or none.
    pub fn put(&self, records: &[ReferenceValue]) -> Result<(), Error> {
        let mut encoded = Vec::with_capacity(records.len());
        for record in records {
            record.check()?;
            let json = serde_json::to_vec(record).map_err(|_| Error::Record(record.name.clone()))?;
            encoded.push((record.key(), json));
        }
        let changes: Vec<Change<'_>> =
            encoded.iter().map(|(key, value)| Change::Put { ns: NAMESPACE, key, value }).collect();
        self.changing(|| Ok(self.store.apply(&changes)?))
    }

    /// All records, expired ones too, up to 1,000.
    pub fn list(&self) -> Result<Vec<ReferenceValue>, Error> {
        self.scan("")
    }

    /// Removes the records of a name, or only that of one source; how many there were.
    pub fn delete(&self, name: &str, source: Option<&str>) -> Result<usize, Error> {
        let keys: Vec<String> = match source {
            Some(source) => vec![format!("{name}{SEPARATOR}{source}")],
            None => self.store.list(NAMESPACE, &format!("{name}{SEPARATOR}"), MAX_RECORDS)?,
        };
        self.changing(|| {
            let mut count = 0;
            for key in &keys {
                count += usize::from(self.store.delete(NAMESPACE, key)?);
            }
            Ok(count)
        })
    }

    /// The values accepted now for a name; empty if there are none.
    pub fn accepted(&self, name: &str, now_unix: u64) -> Result<Vec<Value>, Error> {
        let counting = |records: &[ReferenceValue]| {
            let valid = records.iter().filter(|r| !r.expired(now_unix));
            valid.flat_map(|r| r.values.iter().cloned()).collect()
        };
        let prefix = format!("{name}{SEPARATOR}");
        let Some(remembered) = &self.remembered else { return Ok(counting(&self.scan(&prefix)?)) };
        // Held while reading, so that what is remembered is never older than the last change.
        let mut remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(records) = remembered.get(name) {
            return Ok(counting(records));
        }
        let records: Arc<[ReferenceValue]> = self.scan(&prefix)?.into();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(name.to_owned(), records.clone());
        Ok(counting(&records))
    }

    /// Makes a change and forgets what was remembered, even if the change failed half-way.
    fn changing<T>(&self, change: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let mut remembered =
            self.remembered.as_ref().map(|r| r.lock().unwrap_or_else(PoisonError::into_inner));
        let outcome = change();
        if let Some(remembered) = &mut remembered {
            remembered.clear();
        }
        outcome
    }

    fn scan(&self, prefix: &str) -> Result<Vec<ReferenceValue>, Error> {
        let found = self.store.scan(NAMESPACE, prefix, MAX_RECORDS)?;
        let parse = |(key, json): (String, Vec<u8>)| {
            // A record copied to another name's key must not count there.
            serde_json::from_slice(&json)
                .ok()
                .filter(|record: &ReferenceValue| record.key() == key)
                .ok_or(Error::Record(key))
        };
        found.into_iter().map(parse).collect()
    }
}

/// Whether a claim equals one of the values: text without regard to ASCII case, numbers and booleans also when
/// registered as text.
pub(crate) fn contains(accepted: &[Value], claim: &Value) -> bool {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    };
    let Some(wanted) = text(claim) else { return false };
    !wanted.is_empty() && accepted.iter().filter_map(text).any(|v| v.eq_ignore_ascii_case(&wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_store::MemoryStore;
    use serde_json::json;

    fn value(name: &str, source: &str, values: Value) -> ReferenceValue {
        ReferenceValue {
            name: name.into(),
            values: values.as_array().unwrap().clone(),
            source: source.into(),
            registered_unix: 1,
            expires_unix: None,
        }
    }

    #[test]
    fn sources_add_up_and_replace_only_themselves() {
        let references = ReferenceValues::new(Arc::new(MemoryStore::new()));
        references
            .put(&[
                value("m", "a", json!(["11"])),
                value("m", "b", json!(["22"])),
                value("mm", "a", json!([3])),
            ])
            .unwrap();
        assert_eq!(references.accepted("m", 0).unwrap(), [json!("11"), json!("22")]);
        references.put(&[value("m", "a", json!(["33"]))]).unwrap();
        assert_eq!(references.accepted("m", 0).unwrap(), [json!("33"), json!("22")]);
        assert_eq!(references.list().unwrap().len(), 3);
        assert_eq!(references.delete("m", Some("b")).unwrap(), 1);
        assert_eq!(references.delete("m", None).unwrap(), 1);
        assert!(references.accepted("m", 0).unwrap().is_empty());
        assert_eq!(references.accepted("mm", 0).unwrap(), [json!(3)]);
    }

    #[test]
    fn expired_values_do_not_count() {
        let references = ReferenceValues::new(Arc::new(MemoryStore::new()));
        references
            .put(&[ReferenceValue { expires_unix: Some(100), ..value("m", "a", json!(["11"])) }])
            .unwrap();
        assert_eq!(references.accepted("m", 99).unwrap().len(), 1);
        assert_eq!(references.accepted("m", 100).unwrap().len(), 0);
    }

    #[test]
    fn out_of_bounds_records_are_refused_and_moved_ones_noticed() {
        let store = Arc::new(MemoryStore::new());
        let references = ReferenceValues::new(store.clone());
        for bad in [
            value("", "a", json!([])),
            value("a#b", "a", json!([])),
            value("a", "", json!([])),
            value("a", "b", json!([{}])),
            value("a", "b", json!([null])),
            value("a", "b", json!(["x".repeat(2000)])),
            ReferenceValue { values: vec![json!(1); 1025], ..value("a", "b", json!([])) },
        ] {
            assert!(references.put(&[value("fine", "a", json!([1])), bad]).is_err());
        }
        assert!(references.list().unwrap().is_empty(), "all or none");
        references.put(&[value("sim_launch_measurement", "a", json!(["11"]))]).unwrap();
        let json = store.get(NAMESPACE, "sim_launch_measurement#a").unwrap().unwrap();
        store.put(NAMESPACE, "snp_launch_measurement#a", &json, cocoon_store::PutMode::Upsert).unwrap();
        let references = ReferenceValues::new(store);
        assert!(matches!(references.accepted("snp_launch_measurement", 0), Err(Error::Record(_))));
    }

    #[test]
    fn claims_match_by_value() {
        let accepted = [json!("AB01"), json!(7), json!("9"), json!(true)];
        for hit in [json!("ab01"), json!(7), json!("7"), json!(9), json!(true)] {
            assert!(contains(&accepted, &hit), "{hit}");
        }
        for miss in [json!("ab0"), json!(8), json!(""), json!(null), json!(["ab01"]), json!(false)] {
            assert!(!contains(&accepted, &miss), "{miss}");
        }
    }
}
