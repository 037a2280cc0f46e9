//! Reference values: all records whose source is this resource, and no others.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_cluster_api::{EntryStatus, TrusteeReferenceValues};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{Done, Entry, unix};
use crate::Error;
use crate::trustee::Shared;
use crate::trustee::admin::{Admin, segment};

/// Values and end by name.
type Records = BTreeMap<String, (Vec<Value>, Option<u64>)>;

/// The source under which Trustee has them.
fn source(entry: &TrusteeReferenceValues) -> String {
    format!("kubernetes {}/{}", entry.namespace().unwrap_or_default(), entry.name_any())
}

/// The records of a source in Trustee's list.
fn of_source(list: &Value, source: &str) -> Records {
    let text = |record: &Value, name: &str| record.get(name).and_then(Value::as_str).map(str::to_owned);
    let records = list.as_array().into_iter().flatten();
    records
        .filter(|record| text(record, "source").as_deref() == Some(source))
        .filter_map(|record| {
            let values = record.get("values").and_then(Value::as_array).cloned().unwrap_or_default();
            Some((text(record, "name")?, (values, record.get("expires_unix").and_then(Value::as_u64))))
        })
        .collect()
}

async fn remove(admin: &Admin, source: &str, names: impl IntoIterator<Item = String>) -> Result<(), Error> {
    for name in names {
        admin.delete(&format!("reference-values/{}?source={}", segment(&name), segment(source))).await?;
    }
    Ok(())
}

impl Entry for TrusteeReferenceValues {
    fn trustee(&self) -> &str {
        &self.spec.trustee
    }

    fn status(&self) -> Option<&EntryStatus> {
        self.status.as_ref()
    }

    async fn install(&self, admin: &Admin, _: &Shared) -> Result<Done, Error> {
        let (source, expires) = (source(self), unix(self.spec.expires.as_deref())?);
        let found = of_source(&admin.get("reference-values").await?.unwrap_or_default(), &source);
        let wished: Records =
            self.spec.values.iter().map(|(name, values)| (name.clone(), (values.clone(), expires))).collect();
        let differing: BTreeMap<&String, &Vec<Value>> = wished
            .iter()
            .filter(|(name, record)| found.get(*name) != Some(record))
            .map(|(name, (values, _))| (name, values))
            .collect();
        let strange: BTreeSet<String> = found.keys().filter(|n| !wished.contains_key(*n)).cloned().collect();
        let differed = differing.len() + strange.len();
        if !differing.is_empty() {
            let mut body = json!({"source": source, "values": differing});
            if let (Some(end), Some(map)) = (expires, body.as_object_mut()) {
                map.insert("expires_unix".into(), end.into());
            }
            admin.put("reference-values", &body).await?;
        }
        remove(admin, &source, strange).await?;
        let message = format!("{} names with the source {source:?}", wished.len());
        Ok(Done::Installed { what: wished.into_keys().collect(), differed, message })
    }

    async fn remove(&self, admin: &Admin) -> Result<(), Error> {
        let source = source(self);
        let found = of_source(&admin.get("reference-values").await?.unwrap_or_default(), &source);
        remove(admin, &source, found.into_keys()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_others_are_not_looked_at() {
        let list = json!([
            {"name": "a", "source": "kubernetes ns/x", "values": ["1"], "set": "default"},
            {"name": "a", "source": "kubernetes ns/xy", "values": ["2"]},
            {"name": "b", "source": "cocoon", "values": ["3"]},
            {"source": "kubernetes ns/x"}, 7,
        ]);
        let found = of_source(&list, "kubernetes ns/x");
        assert_eq!(found, [("a".to_owned(), (vec![json!("1")], None))].into());
        assert!(of_source(&json!("no list"), "x").is_empty());
    }
}
