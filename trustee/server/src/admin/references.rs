//! Reference values, imported sets, and who may sign them.

use std::collections::BTreeMap;

use cocoon_reference::{AnchorKey, Change, ImportOptions, Set, TrustAnchors};
use cocoon_store::PutMode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Call, Refusal, bad, missing, refusal};
use crate::Trustee;
use crate::reply::Variant::RvpsError;

/// Where trust anchors are kept, by id.
const ANCHORS: &str = "trust_anchor";
/// Most of them: so many are read.
const MAX_ANCHORS: usize = 64;
/// Largest PEM text.
const MAX_PEM: usize = 16 * 1024;

/// Reference values of one source on the wire.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceValues {
    source: String,
    values: BTreeMap<String, Vec<Value>>,
    #[serde(default)]
    expires_unix: Option<u64>,
}

/// An import on the wire.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Import {
    message: Value,
    #[serde(default)]
    set: Option<String>,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    expires_unix: Option<u64>,
    /// Take it although nobody trusted signed it.
    #[serde(default)]
    unsigned: bool,
    #[serde(default)]
    allow_older: bool,
}

fn failed(error: impl Into<crate::Error>) -> Refusal {
    refusal(RvpsError, error)
}

pub(super) fn list(t: &Trustee, call: &Call) -> Answer {
    call.ok(&t.reference_values().map_err(failed)?)
}

pub(super) fn put(t: &Trustee, call: &Call) -> Answer {
    let wire: SourceValues = call.json()?;
    t.put_reference_values(&wire.source, &wire.values, wire.expires_unix).map_err(failed)?;
    tracing::info!(request_id = %call.id, source = %wire.source, count = wire.values.len(), "reference values set");
    call.done()
}

pub(super) fn delete(t: &Trustee, call: &Call) -> Answer {
    let source = call.query.get("source").map(String::as_str);
    let removed = t.delete_reference_values(call.param("name"), source).map_err(failed)?;
    if removed == 0 { Err(missing()) } else { call.ok(&json!({ "removed": removed })) }
}

impl Trustee {
    /// Who may sign reference values.
    pub(crate) fn trust_anchors(&self) -> Result<TrustAnchors, crate::Error> {
        let mut anchors = TrustAnchors::default();
        for (id, pem) in self.inner.store.scan(ANCHORS, "", MAX_ANCHORS)? {
            let certificate = String::from_utf8_lossy(&pem).contains("BEGIN CERTIFICATE");
            if certificate {
                anchors.certificates.push(pem);
            } else {
                anchors.keys.push(AnchorKey { id, key: pem });
            }
        }
        Ok(anchors)
    }

    /// Imports a message of upstream's form as its sender is trusted, or as an administrator vouches for it.
    pub(crate) fn import_references(
        &self,
        message: &[u8],
        options: ImportOptions,
    ) -> Result<Set, crate::Error> {
        let options = ImportOptions { now_unix: self.inner.now(), ..options };
        let anchors = self.trust_anchors()?;
        self.quota_references(|| {
            let changes = self.references().preview(message, &anchors, &options)?;
            Ok(changes.into_iter().map(|change| change.name).collect())
        })?;
        Ok(self.references().import(message, &anchors, &options)?)
    }
}

fn options(wire: &Import, now_unix: u64) -> ImportOptions {
    ImportOptions {
        set: wire.set.clone(),
        source: wire.source.clone(),
        expires_unix: wire.expires_unix,
        now_unix,
        unsigned_ok: wire.unsigned,
        allow_older: wire.allow_older,
    }
}

pub(super) fn import(t: &Trustee, call: &Call) -> Answer {
    let wire: Import = call.json()?;
    let set =
        t.import_references(wire.message.to_string().as_bytes(), options(&wire, call.now)).map_err(failed)?;
    tracing::info!(request_id = %call.id, set = %set.name, version = set.version, "reference values imported");
    call.ok(&set)
}

pub(super) fn preview(t: &Trustee, call: &Call) -> Answer {
    let wire: Import = call.json()?;
    let anchors = t.trust_anchors().map_err(failed)?;
    let message = wire.message.to_string();
    let changes =
        t.references().preview(message.as_bytes(), &anchors, &options(&wire, call.now)).map_err(failed)?;
    call.ok(&changes.iter().map(shown).collect::<Vec<_>>())
}

fn shown(change: &Change) -> Value {
    json!({"name": change.name, "added": change.added, "removed": change.removed})
}

pub(super) fn sets(t: &Trustee, call: &Call) -> Answer {
    call.ok(&t.references().sets().map_err(failed)?)
}

pub(super) fn set(t: &Trustee, call: &Call) -> Answer {
    let records = t.references().set_records(call.param("name"), None).map_err(failed)?;
    if records.is_empty() { Err(missing()) } else { call.ok(&records) }
}

pub(super) fn delete_set(t: &Trustee, call: &Call) -> Answer {
    let removed = t.references().delete_set(call.param("name")).map_err(failed)?;
    if removed == 0 { Err(missing()) } else { call.ok(&json!({ "removed": removed })) }
}

pub(super) fn anchors(t: &Trustee, call: &Call) -> Answer {
    let all = t.inner.store.scan(ANCHORS, "", MAX_ANCHORS).map_err(failed)?;
    let shown: BTreeMap<String, String> =
        all.into_iter().map(|(id, pem)| (id, String::from_utf8_lossy(&pem).into_owned())).collect();
    call.ok(&shown)
}

/// The body is a PEM text: a public key, or the certificate of an authority.
pub(super) fn put_anchor(t: &Trustee, call: &Call) -> Answer {
    let id = call.param("id");
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if id.is_empty() || id.len() > 100 || !id.bytes().all(valid) {
        return Err(bad("an anchor's id is 1 to 100 letters, digits, `.`, `_` and `-`"));
    }
    let pem = std::str::from_utf8(&call.body)
        .ok()
        .filter(|pem| pem.len() <= MAX_PEM && pem.contains("-----BEGIN "));
    let pem = pem.ok_or_else(|| bad("the body is no PEM text"))?;
    if pem.contains("PRIVATE KEY") {
        return Err(bad("this is a private key; send the public one"));
    }
    let mut anchors = TrustAnchors::default();
    if pem.contains("BEGIN CERTIFICATE") {
        anchors.certificates.push(pem.as_bytes().to_vec());
    } else {
        anchors.keys.push(AnchorKey { id: id.to_owned(), key: pem.as_bytes().to_vec() });
    }
    anchors.check().map_err(failed)?;
    let known = t.inner.store.list(ANCHORS, "", MAX_ANCHORS).map_err(failed)?;
    if known.len() >= MAX_ANCHORS && known.iter().all(|known| known != id) {
        return Err(bad(format!("more than {MAX_ANCHORS} trust anchors")));
    }
    t.inner.store.put(ANCHORS, id, pem.as_bytes(), PutMode::Upsert).map_err(failed)?;
    tracing::info!(request_id = %call.id, %id, "trust anchor set");
    call.done()
}

pub(super) fn delete_anchor(t: &Trustee, call: &Call) -> Answer {
    call.done_if(t.inner.store.delete(ANCHORS, call.param("id")).map_err(failed)?)
}
