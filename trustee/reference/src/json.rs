//! JSON with bounds.

use serde_json::Value;

/// Deepest nesting of a reference value: arrays and objects within each other.
pub(crate) const MAX_DEPTH: usize = 8;

/// How deep arrays and objects are nested; 0 for a plain value.
pub(crate) fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Parses one JSON document; the parser bounds the depth (128).
pub(crate) fn parse<T: serde::de::DeserializeOwned>(
    format: &'static str,
    json: &[u8],
) -> Result<T, crate::Error> {
    serde_json::from_slice(json).map_err(|error| crate::Error::Document {
        format,
        reason: error.to_string().chars().take(200).collect(),
    })
}
