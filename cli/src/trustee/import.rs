//! `cocoon trustee import-upstream`: secrets, policies and reference values of CoCo's Trustee, through the admin API.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use cocoon_stage::{Code, Failure};
use cocoon_store::{Imported, Report, import_local_fs, import_local_json};
use cocoon_trustee::ResourcePath;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::admin::{print, say};
use crate::args::{Common, UpstreamKind};
use crate::client::{AdminClient, segment};
use crate::moments;

/// Most of what is held in memory at a time; larger storage is imported in parts by its owner.
const MAX_BYTES: u64 = 512 << 20;

/// What a stored value becomes.
enum Item {
    Secret { path: ResourcePath, value: Zeroizing<Vec<u8>> },
    Policy { id: String, text: String },
    Reference { name: String, values: Vec<Value>, expires_unix: Option<u64> },
}

/// Something that was left out.
struct Left {
    place: String,
    reason: String,
}

pub async fn main(dir: &Path, kind: UpstreamKind, dry_run: bool, common: &Common) -> Result<(), Failure> {
    let (items, mut left) = read(dir, kind)?;
    let client = if dry_run { None } else { Some(AdminClient::open(common)?) };
    let mut taken: BTreeMap<&str, u64> = BTreeMap::new();
    for item in items {
        let (group, place) = item.place();
        if let Some(client) = &client
            && let Err(failure) = item.send(client).await
        {
            // Without access, or without a store, nothing of the rest would go either.
            if !matches!(
                failure.code,
                Code::PolicyInvalid | Code::ReferenceInvalid | Code::UsageInvalid | Code::RegisterFailed
            ) {
                return Err(failure);
            }
            left.push(Left { place, reason: format!("{}: {}", failure.code, failure.reason) });
            continue;
        }
        *taken.entry(group).or_default() += 1;
        if dry_run && !common.json {
            say(&format!("would take {group} {place}"));
        }
    }
    report(&taken, &left, dry_run, common)
}

/// What there is to take, and what is left out already.
fn read(dir: &Path, kind: UpstreamKind) -> Result<(Vec<Item>, Vec<Left>), Failure> {
    let (mut items, mut left) = (Vec::new(), Vec::new());
    let mut bytes = 0u64;
    let mut each = |imported: Imported| {
        bytes = bytes.saturating_add(u64::try_from(imported.value.len()).unwrap_or(u64::MAX));
        if bytes > MAX_BYTES {
            return Err(format!("over {MAX_BYTES} bytes in all; import the rest from a folder of its own"));
        }
        items.push(Item::of(imported)?);
        Ok(())
    };
    let found: Report = match kind {
        UpstreamKind::LocalFs => import_local_fs(dir, &mut each)?,
        UpstreamKind::LocalJson => import_local_json(dir, &mut each)?,
    };
    left.extend(found.problems.into_iter().map(|p| Left { place: p.place, reason: p.reason }));
    if found.unlisted > 0 {
        left.push(Left { place: "…".into(), reason: format!("and {} more", found.unlisted) });
    }
    Ok((items, left))
}

impl Item {
    fn of(imported: Imported) -> Result<Self, String> {
        let Imported { namespace, key, value } = imported;
        let text = |value: &[u8]| {
            std::str::from_utf8(value).map(str::to_owned).map_err(|_| "it is not UTF-8 text".to_owned())
        };
        match namespace.as_str() {
            "repository" => match key.parse() {
                Ok(path) => Ok(Item::Secret { path, value }),
                Err(_) => Err("its key is not repository/type/tag".into()),
            },
            "kbs" if matches!(key.as_str(), "resource-policy.rego" | "resource-policy") => {
                Ok(Item::Policy { id: "resource-policy".into(), text: text(&value)? })
            }
            "attestation_service_policy" | "attestation-service_policy" => {
                let id = key.strip_suffix(".rego").ok_or("it is no .rego file")?;
                Ok(Item::Policy { id: id.to_owned(), text: text(&value)? })
            }
            "reference_value" => reference(&key, &value),
            "kbs_protocol_session" => Err("sessions are not taken: guests begin new ones".into()),
            "provisioner" => Err("provisioned keys are not taken: provision the VM anew".into()),
            _ => Err("nothing here takes values of this namespace".into()),
        }
    }

    /// Its group and place, for the report.
    fn place(&self) -> (&'static str, String) {
        match self {
            Item::Secret { path, .. } => ("secret", path.to_string()),
            Item::Policy { id, .. } => ("policy", id.clone()),
            Item::Reference { name, .. } => ("reference value", name.clone()),
        }
    }

    async fn send(self, client: &AdminClient) -> Result<(), Failure> {
        match self {
            Item::Secret { path, value } => {
                let body = Bytes::copy_from_slice(&value);
                client.put_bytes(&format!("secrets/{}", path.as_str()), body, path.as_str()).await
            }
            Item::Policy { id, text } => {
                let body = json!({"policy": text, "note": "imported from CoCo's Trustee"});
                client.put(&format!("policies/{}", segment(&id)), &body, "policy").await.map(drop)
            }
            Item::Reference { name, values, expires_unix } => {
                let mut body = Map::new();
                body.insert("source".into(), "coco-trustee".into());
                body.insert("values".into(), json!({name: values}));
                if let Some(end) = expires_unix {
                    body.insert("expires_unix".into(), end.into());
                }
                client.put("reference-values", &Value::Object(body), "reference value").await.map(drop)
            }
        }
    }
}

/// A stored reference value: `{version, name, expiration, value}`, or with `hash-value` in earlier versions.
fn reference(key: &str, json: &[u8]) -> Result<Item, String> {
    let stored: Value = serde_json::from_slice(json).map_err(|_| "it is not JSON".to_owned())?;
    let name = stored.get("name").and_then(Value::as_str).unwrap_or(key).to_owned();
    let values = match (stored.get("value"), stored.get("hash-value").and_then(Value::as_array)) {
        (Some(Value::Array(values)), _) => values.clone(),
        (Some(value), _) => vec![value.clone()],
        (None, Some(hashes)) => hashes.iter().filter_map(|hash| hash.get("value").cloned()).collect(),
        (None, None) => return Err("it has no value".into()),
    };
    if values.is_empty() {
        return Err("it has no value".into());
    }
    let expires_unix = match stored.get("expiration").and_then(Value::as_str) {
        // Upstream writes an end but never looks at it; here it counts.
        Some(text) => Some(moments::time(text).ok_or("its expiration is no time")?),
        None => None,
    };
    Ok(Item::Reference { name, values, expires_unix })
}

fn report(taken: &BTreeMap<&str, u64>, left: &[Left], dry_run: bool, common: &Common) -> Result<(), Failure> {
    if common.json {
        let left: Vec<Value> = left.iter().map(|l| json!({"place": l.place, "reason": l.reason})).collect();
        return print(&json!({"dry_run": dry_run, "taken": taken, "left": left}), common);
    }
    let done = if dry_run { "would be taken" } else { "taken" };
    for (group, count) in taken {
        say(&format!("{done}: {count} × {group}"));
    }
    for Left { place, reason } in left {
        say(&format!("left: {place}: {reason}"));
    }
    if taken.is_empty() && left.is_empty() {
        say("nothing there");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_values_of_all_versions() {
        let read = |text: &str| match reference("k", text.as_bytes()) {
            Ok(Item::Reference { name, values, expires_unix }) => (name, values, expires_unix),
            _ => panic!("{text}"),
        };
        let new = r#"{"version":"0.1.0","name":"svn","expiration":"2027-01-31T12:00:00Z","value":[1,2]}"#;
        assert_eq!(read(new), ("svn".into(), vec![1.into(), 2.into()], Some(1_801_396_800)));
        assert_eq!(read(r#"{"value":"ab"}"#), ("k".into(), vec!["ab".into()], None));
        let old = r#"{"name":"m","hash-value":[{"alg":"sha384","value":"cd"}]}"#;
        assert_eq!(read(old).1, [Value::from("cd")]);
        for bad in ["", "{}", r#"{"value":[]}"#, r#"{"value":1,"expiration":"soon"}"#] {
            assert!(reference("k", bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
