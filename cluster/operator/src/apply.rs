//! Server-side apply, sent only where something differs.

use std::fmt::Debug;

use cocoon_cluster_api::MANAGER;
use kube::api::{Api, Patch, PatchParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Error;

/// Whether everything that `wished` says is so in `live`. Lists must be equal in length and order.
pub fn is_so(wished: &Value, live: &Value) -> bool {
    match (wished, live) {
        (Value::Object(wished), Value::Object(live)) => {
            wished.iter().all(|(key, value)| match live.get(key) {
                Some(live) => is_so(value, live),
                None => is_empty(value),
            })
        }
        (Value::Array(wished), Value::Array(live)) => {
            wished.len() == live.len() && wished.iter().zip(live).all(|(w, l)| is_so(w, l))
        }
        _ => wished == live,
    }
}

/// What servers leave out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(flag) => !flag,
        _ => false,
    }
}

/// Applies `wished` where `live`, the object as it was last seen, is not so already. Whether it was sent.
///
/// # Errors
/// Of the API server.
pub async fn apply<K>(api: &Api<K>, name: &str, wished: &Value, live: Option<&K>) -> Result<bool, Error>
where
    K: Clone + Debug + DeserializeOwned + Serialize,
{
    let live = live.map(|l| serde_json::to_value(l).unwrap_or_default());
    if let Some(live) = live
        && is_so(&without_kind(wished), &live)
    {
        return Ok(false);
    }
    api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(wished)).await?;
    Ok(true)
}

/// Kinds are not in what a watch keeps of typed objects.
fn without_kind(wished: &Value) -> Value {
    let mut value = wished.clone();
    if let Some(map) = value.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_of_the_server_are_no_difference_and_changes_are() {
        let wished = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"list": [{"x": 1}], "none": [], "off": false}});
        let live = json!({"metadata": {"labels": {"a": "1", "b": "2"}, "uid": "u"}, "spec": {"list": [{"x": 1, "y": 2}], "z": 1}});
        assert!(is_so(&wished, &live));
        let edited = json!({"metadata": {"labels": {"a": "2"}}, "spec": {"list": [{"x": 1}]}});
        assert!(!is_so(&wished, &edited));
        let longer = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"list": [{"x": 1}, {"x": 2}]}});
        assert!(!is_so(&wished, &longer));
    }
}
