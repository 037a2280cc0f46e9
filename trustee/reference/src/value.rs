//! One reference value: its form, its limits, its place in the store, and when a claim equals it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, json};

/// The set of records that were registered one by one.
pub const DEFAULT_SET: &str = "default";

/// Between name, source and set in a key; none may hold it.
pub(crate) const SEPARATOR: char = '#';
/// Most values of one record.
pub(crate) const MAX_VALUES: usize = 1024;
/// Longest value, as JSON, in bytes.
const MAX_VALUE: usize = 4 * 1024;
/// Longest name and longest source in bytes.
const MAX_NAME: usize = 200;
/// Longest set name in bytes; with name, source and separators still a key of the store.
const MAX_SET: usize = 100;
/// Longest name of a signer in bytes.
const MAX_SIGNER: usize = 200;

/// The accepted values of one claim, as one source registered them.
///
/// Name, source and set together identify a record: sources and sets never overwrite each other's, and what is
/// accepted is the union of all unexpired records of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceValue {
    /// Name as policies know it, e.g. `snp_launch_measurement` or `rvps:///ns/x:tag`; printable ASCII without `#`,
    /// up to 200.
    pub name: String,
    /// What is accepted: up to 1,024 values of any JSON but `null`, each up to 4 KiB and 8 levels deep.
    pub values: Vec<Value>,
    /// Who registered it, e.g. `guest-image 4f3a…`; printable ASCII without `#`, up to 200.
    pub source: String,
    /// When, in seconds since 1970.
    pub registered_unix: u64,
    /// From when on it does not count; `None` is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_unix: Option<u64>,
    /// How often this record was registered, from 1. Counted by the store: what a caller gives is not looked at.
    #[serde(default = "first")]
    pub version: u64,
    /// Who signed the document it came from: id of a trusted key, or `sha256:<fingerprint>` of a certificate;
    /// `None` if nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// The set it belongs to, e.g. `guest-image 0.3.1`; printable ASCII without `#`, up to 100.
    #[serde(default = "default_set")]
    pub set: String,
    /// Registered as a single value, not as a list; then `values` has exactly one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub single: bool,
}

fn first() -> u64 {
    1
}

fn default_set() -> String {
    DEFAULT_SET.to_owned()
}

impl Default for ReferenceValue {
    /// No name, no values; set `default`. For `ReferenceValue { name, values, source, ..Default::default() }`.
    fn default() -> Self {
        ReferenceValue {
            name: String::new(),
            values: Vec::new(),
            source: String::new(),
            registered_unix: 0,
            expires_unix: None,
            version: first(),
            signed_by: None,
            set: default_set(),
            single: false,
        }
    }
}

impl ReferenceValue {
    /// Whether it no longer counts.
    pub fn expired(&self, now_unix: u64) -> bool {
        self.expires_unix.is_some_and(|end| now_unix >= end)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let refused =
            |reason| Err(Error::ReferenceValue { name: self.name.chars().take(80).collect(), reason });
        if !printable(&self.name, MAX_NAME) || !printable(&self.source, MAX_NAME) {
            return refused("name and source have 1 to 200 printable ASCII characters without `#`");
        }
        if !printable(&self.set, MAX_SET) {
            return refused("a set's name has 1 to 100 printable ASCII characters without `#`");
        }
        if self.signed_by.as_ref().is_some_and(|signer| !printable(signer, MAX_SIGNER)) {
            return refused("the signer's id has 1 to 200 printable ASCII characters without `#`");
        }
        if self.values.len() > MAX_VALUES {
            return refused("more than 1024 values");
        }
        if self.single && self.values.len() != 1 {
            return refused("a single value that is not one value");
        }
        for value in &self.values {
            if value.is_null() {
                return refused("a value is null");
            }
            if json::depth(value) > json::MAX_DEPTH {
                return refused("a value is nested deeper than 8 levels");
            }
            if serde_json::to_vec(value).map_or(usize::MAX, |json| json.len()) > MAX_VALUE {
                return refused("a value is longer than 4 KiB");
            }
        }
        Ok(())
    }

    /// `name#source` in the default set, where older records stand; `name#source#set` elsewhere.
    pub(crate) fn key(&self) -> String {
        let ReferenceValue { name, source, set, .. } = self;
        if set == DEFAULT_SET {
            format!("{name}{SEPARATOR}{source}")
        } else {
            format!("{name}{SEPARATOR}{source}{SEPARATOR}{set}")
        }
    }
}

/// Whether a text can be part of a key.
pub(crate) fn printable(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'#')
}

/// Whether a claim equals one of the values: text without regard to ASCII case, numbers and booleans also when
/// registered as text. Arrays, objects, `null` and empty text equal nothing.
pub fn contains(accepted: &[Value], claim: &Value) -> bool {
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
    use serde_json::json;

    #[test]
    fn claims_match_by_value() {
        let accepted = [json!("AB01"), json!(7), json!("9"), json!(true), json!(["x"]), json!({"a": 1})];
        for hit in [json!("ab01"), json!(7), json!("7"), json!(9), json!(true)] {
            assert!(contains(&accepted, &hit), "{hit}");
        }
        let misses =
            [json!("ab0"), json!(8), json!(""), json!(null), json!(["x"]), json!(false), json!({"a": 1})];
        for miss in misses {
            assert!(!contains(&accepted, &miss), "{miss}");
        }
    }

    #[test]
    fn records_of_before_are_read() {
        let old = r#"{"name":"m","values":["11",2],"source":"guest-image 4f","registered_unix":5,"expires_unix":9}"#;
        let read: ReferenceValue = serde_json::from_str(old).unwrap();
        let wanted = ReferenceValue {
            name: "m".into(),
            values: vec![json!("11"), json!(2)],
            source: "guest-image 4f".into(),
            registered_unix: 5,
            expires_unix: Some(9),
            ..Default::default()
        };
        assert_eq!(read, wanted);
        assert_eq!(
            (read.key().as_str(), read.version, read.set.as_str()),
            ("m#guest-image 4f", 1, "default")
        );
        assert!(serde_json::from_str::<ReferenceValue>(&old.replace("source", "sauce")).is_err());
    }
}
