//! An object of a manifest, of which every field must be looked at.
//!
//! A field that nobody takes may change what runs without anybody noticing: [`Fields::finish`] refuses it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::log::Log;

/// Most members of a list or map.
pub(crate) const MAX_MEMBERS: usize = 1024;

/// The fields of an object that were not taken yet.
pub(crate) struct Fields<'v> {
    /// Where the object is.
    pub(crate) at: String,
    map: &'v Map<String, Value>,
    left: BTreeSet<&'v str>,
}

impl<'v> Fields<'v> {
    /// The fields of `value`, if it is an object.
    pub(crate) fn of(at: impl Into<String>, value: &'v Value, log: &mut Log) -> Option<Self> {
        let at = at.into();
        match value {
            Value::Object(map) => {
                let left = map.iter().filter(|(_, v)| !v.is_null()).map(|(k, _)| k.as_str()).collect();
                Some(Fields { at, map, left })
            }
            _ => {
                log.wrong(&at, "must be an object");
                None
            }
        }
    }

    /// Where a field of it is.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) }
    }

    /// Whether a field is there and was not taken.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.left.contains(name)
    }

    /// Whether every field was taken.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.left.is_empty()
    }

    /// Takes a field as it is; `null` is no value.
    pub(crate) fn take(&mut self, name: &str) -> Option<&'v Value> {
        self.left.remove(name);
        self.map.get(name).filter(|v| !v.is_null())
    }

    fn typed<T>(
        &mut self,
        name: &str,
        log: &mut Log,
        kind: &str,
        read: impl Fn(&'v Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(name)?;
        let read = read(value);
        if read.is_none() {
            log.wrong(&self.path(name), format!("must be {kind}"));
        }
        read
    }

    /// Takes a text.
    pub(crate) fn text(&mut self, name: &str, log: &mut Log) -> Option<&'v str> {
        self.typed(name, log, "a text", Value::as_str)
    }

    /// Takes a text that is one of these.
    pub(crate) fn one_of(&mut self, name: &str, log: &mut Log, known: &[&str]) -> Option<&'v str> {
        let text = self.text(name, log)?;
        if known.contains(&text) {
            return Some(text);
        }
        log.wrong(&self.path(name), format!("{text:?} is none of {}", known.join(", ")));
        None
    }

    /// Takes a whole number.
    pub(crate) fn number(&mut self, name: &str, log: &mut Log) -> Option<i64> {
        self.typed(name, log, "a whole number", Value::as_i64)
    }

    /// Takes a user's or group's id.
    pub(crate) fn id(&mut self, name: &str, log: &mut Log) -> Option<u32> {
        self.typed(name, log, "an id from 0 to 2147483647", |v| {
            v.as_i64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= 0x7fff_ffff)
        })
    }

    /// Takes `true` or `false`.
    pub(crate) fn flag(&mut self, name: &str, log: &mut Log) -> Option<bool> {
        self.typed(name, log, "true or false", Value::as_bool)
    }

    /// Takes a list; none is an empty one.
    pub(crate) fn list(&mut self, name: &str, log: &mut Log) -> &'v [Value] {
        let list = self.typed(name, log, "a list", |v| v.as_array().map(Vec::as_slice)).unwrap_or_default();
        if list.len() > MAX_MEMBERS {
            log.wrong(&self.path(name), format!("holds more than {MAX_MEMBERS}"));
            return &[];
        }
        list
    }

    /// Takes a list of texts.
    pub(crate) fn texts(&mut self, name: &str, log: &mut Log) -> Vec<String> {
        let path = self.path(name);
        let list = self.list(name, log);
        let texts: Option<Vec<String>> = list.iter().map(|v| v.as_str().map(str::to_owned)).collect();
        texts.unwrap_or_else(|| {
            log.wrong(&path, "must be a list of texts");
            Vec::new()
        })
    }

    /// Takes a list of ids of groups.
    pub(crate) fn ids(&mut self, name: &str, log: &mut Log) -> Vec<u32> {
        let path = self.path(name);
        let ids: Option<Vec<u32>> = self
            .list(name, log)
            .iter()
            .map(|v| v.as_i64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= 0x7fff_ffff))
            .collect();
        ids.unwrap_or_else(|| {
            log.wrong(&path, "must be a list of ids from 0 to 2147483647");
            Vec::new()
        })
    }

    /// Takes an object whose members are texts.
    pub(crate) fn labels(&mut self, name: &str, log: &mut Log) -> BTreeMap<String, String> {
        let path = self.path(name);
        let Some(map) = self.typed(name, log, "an object", Value::as_object) else { return BTreeMap::new() };
        if map.len() > MAX_MEMBERS {
            log.wrong(&path, format!("holds more than {MAX_MEMBERS}"));
            return BTreeMap::new();
        }
        let mut labels = BTreeMap::new();
        for (key, value) in map {
            match value.as_str() {
                Some(text) => drop(labels.insert(key.clone(), text.to_owned())),
                None => {
                    log.wrong(&format!("{path}[{key}]"), "must be a text (quote numbers and true or false)")
                }
            }
        }
        labels
    }

    /// Takes an object.
    pub(crate) fn object(&mut self, name: &str, log: &mut Log) -> Option<Fields<'v>> {
        let path = self.path(name);
        let value = self.take(name)?;
        Fields::of(path, value, log)
    }

    /// Takes a list of objects, each with the value of its field `key` for its path.
    pub(crate) fn objects(&mut self, name: &str, key: &str, log: &mut Log) -> Vec<Fields<'v>> {
        let path = self.path(name);
        let list = self.list(name, log);
        let mut objects = Vec::new();
        for (i, value) in list.iter().enumerate() {
            let named = value.get(key).and_then(Value::as_str).filter(|n| !n.is_empty() && n.len() <= 253);
            let at = match named {
                Some(named) => format!("{path}[{named}]"),
                None => format!("{path}[{i}]"),
            };
            objects.extend(Fields::of(at, value, log));
        }
        objects
    }

    /// Drops a field that is the cluster's affair, saying so where it is there.
    pub(crate) fn open(&mut self, name: &str, log: &mut Log, why: &str) {
        if let Some(value) = self.take(name) {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Array(_) | Value::Object(_) => "as written".to_owned(),
                other => other.to_string(),
            };
            log.open(&self.path(name), value, why);
        }
    }

    /// Refuses a field that is there, but for an empty list or object, or `false`.
    pub(crate) fn refuse(&mut self, name: &str, log: &mut Log, why: &str) {
        let empty = |value: &Value| match value {
            Value::Bool(flag) => !flag,
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        if self.take(name).is_some_and(|v| !empty(v)) {
            log.refuse(&self.path(name), why);
        }
    }

    /// Every field that was not taken is one that this program does not know.
    pub(crate) fn finish(self, log: &mut Log) {
        for name in &self.left {
            let path = self.path(name);
            log.refuse(
                &path,
                "is not a field that this version knows, so it cannot say what it would change",
            );
        }
    }
}
