//! Manifests: YAML of several documents, JSON, and lists of either.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use crate::Error;

/// Largest text, in bytes.
pub const MAX_TEXT: usize = 8 << 20;
/// Most objects of one text, lists' members counted.
pub const MAX_DOCUMENTS: usize = 4096;
/// So deep may objects and lists lie in each other.
pub const MAX_DEPTH: usize = 64;

/// An object of a manifest, whatever its kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// As it was written, fields in order.
    pub value: Value,
}

impl Document {
    fn text(&self, path: &str) -> &str {
        self.value.pointer(path).and_then(Value::as_str).unwrap_or_default()
    }

    /// `apiVersion`.
    pub fn api_version(&self) -> &str {
        self.text("/apiVersion")
    }

    /// `kind`.
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// `metadata.name`; empty where there is only a `generateName`.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// `metadata.namespace`; empty where none is written.
    pub fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    /// For people: `Deployment shop/web`.
    pub fn label(&self) -> String {
        let name = match self.name() {
            "" => match self.text("/metadata/generateName") {
                "" => "(without name)".to_owned(),
                prefix => format!("{prefix}…"),
            },
            name => name.to_owned(),
        };
        match self.namespace() {
            "" => format!("{} {name}", self.kind()),
            namespace => format!("{} {namespace}/{name}", self.kind()),
        }
    }
}

/// Reads a text: documents of YAML, or JSON; the members of a `List` count as documents of their own.
///
/// # Errors
/// [`Error::Text`] for what is too large, too deep, no YAML or JSON, or no object with `apiVersion` and `kind`; keys that are
/// there twice are an error too.
pub fn read(text: &[u8]) -> Result<Vec<Document>, Error> {
    if text.len() > MAX_TEXT {
        return Err(Error::Text(format!("it has {} bytes; at most {MAX_TEXT} are read", text.len())));
    }
    let text = std::str::from_utf8(text).map_err(|e| Error::Text(format!("it is not UTF-8: {e}")))?;
    let values = if text.trim_start().starts_with('{') { json(text)? } else { yaml(text)? };
    let mut documents = Vec::new();
    for (i, value) in values.into_iter().enumerate() {
        // Nothing between two lines of `---`.
        if !value.is_null() {
            add(&mut documents, value, &format!("document {}", i + 1))?;
        }
    }
    Ok(documents)
}

fn add(documents: &mut Vec<Document>, mut value: Value, at: &str) -> Result<(), Error> {
    if !value.is_object() {
        return Err(Error::Text(format!("{at} is no object")));
    }
    let document = |value| Document { value };
    let this = document(value.clone());
    if this.kind().is_empty() || this.api_version().is_empty() {
        return Err(Error::Text(format!("{at} has no apiVersion or no kind")));
    }
    let is_list = this.api_version() == "v1" && this.kind().ends_with("List");
    if is_list {
        let items = value.get_mut("items").map(Value::take).unwrap_or_default();
        let Value::Array(items) = items else {
            return Err(Error::Text(format!("{at} is a list without items")));
        };
        for (i, item) in items.into_iter().enumerate() {
            // Lists do not hold lists; so this is no deeper than the text itself.
            add(documents, item, &format!("{at}, items[{i}]"))?;
        }
        return Ok(());
    }
    if documents.len() >= MAX_DOCUMENTS {
        return Err(Error::Text(format!("it holds more than {MAX_DOCUMENTS} objects")));
    }
    documents.push(this);
    Ok(())
}

fn json(text: &str) -> Result<Vec<Value>, Error> {
    // Several objects one after the other are taken too, as `kubectl` does.
    serde_json::Deserializer::from_str(text)
        .into_iter::<Checked>()
        .map(|value| value.map(|v| v.0).map_err(|e| Error::Text(format!("it is no JSON: {e}"))))
        .collect()
}

fn yaml(text: &str) -> Result<Vec<Value>, Error> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_documents: MAX_DOCUMENTS, max_aliases: 1024, max_anchors: 1024 },
        // `0400` is a mode, to Kubernetes' own reader as well.
        legacy_octal_numbers: true,
        strict_booleans: true,
    };
    let read: Result<Vec<Checked>, _> = serde_saphyr::from_multiple_with_options(text, options);
    let values = read.map_err(|e| {
        let line: String = e.to_string().chars().take(500).collect();
        Error::Text(format!("it is no YAML: {line}"))
    })?;
    Ok(values.into_iter().map(|v| v.0).collect())
}

/// A value without keys that are there twice, and not too deep.
struct Checked(Value);

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        At(0).deserialize(deserializer).map(Checked)
    }
}

/// A value at this depth.
#[derive(Clone, Copy)]
struct At(usize);

impl<'de> DeserializeSeed<'de> for At {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl At {
    fn below<E: serde::de::Error>(self) -> Result<At, E> {
        if self.0 >= MAX_DEPTH {
            return Err(E::custom(format_args!("deeper than {MAX_DEPTH}")));
        }
        Ok(At(self.0 + 1))
    }
}

impl<'de> Visitor<'de> for At {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is none"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(below)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let value = access.next_value_seed(below)?;
            if map.insert(key.clone(), value).is_some() {
                return Err(A::Error::custom(format_args!("the key {key:?} is there twice")));
            }
        }
        Ok(Value::Object(map))
    }
}

/// Documents as YAML, each after a line `---`.
///
/// # Errors
/// [`Error::Text`] where a value cannot be written.
pub fn to_yaml<T: Serialize>(values: &[T]) -> Result<String, Error> {
    let mut text = String::new();
    for value in values {
        text.push_str("---\n");
        let yaml = serde_saphyr::to_string(value).map_err(|e| Error::Text(e.to_string()))?;
        text.push_str(&yaml);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}
