//! Registered workloads.

use std::collections::{BTreeMap, BTreeSet};

use cocoon_protocol::b64;
use cocoon_release::{MinStatus, Registration, ResourcePath};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Answer, Call, bad, missing, refusal};
use crate::Trustee;
use crate::reply::Variant::PluginInternalError;

/// A registration on the wire; the digest is in the path.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRegistration {
    name: String,
    /// Standard base64 by path.
    #[serde(default)]
    secrets: BTreeMap<ResourcePath, Zeroizing<String>>,
    #[serde(default)]
    allow: BTreeSet<ResourcePath>,
    #[serde(default)]
    min_status: MinStatus,
    #[serde(default)]
    accept_simulated: bool,
    #[serde(default)]
    expires_unix: Option<u64>,
}

pub(super) fn put(t: &Trustee, call: &Call) -> Answer {
    let wire: WireRegistration = call.json()?;
    let mut secrets = BTreeMap::new();
    for (path, text) in wire.secrets {
        let value = b64::std_decode(&text).map_err(|_| bad(format!("the secret {path} is not base64")))?;
        secrets.insert(path, Zeroizing::new(value));
    }
    let registration = Registration {
        digest_hex: call.param("digest").to_owned(),
        name: wire.name,
        secrets,
        allow: wire.allow,
        min_status: wire.min_status,
        accept_simulated: wire.accept_simulated,
        expires_unix: wire.expires_unix,
    };
    let workload = t.register_workload(&registration).map_err(|e| refusal(PluginInternalError, e))?;
    tracing::info!(request_id = %call.id, digest = %workload.digest_hex, name = %workload.name, "workload registered");
    call.ok(&workload)
}

pub(super) fn get(t: &Trustee, call: &Call) -> Answer {
    let workload = t.workload(call.param("digest")).map_err(|e| refusal(PluginInternalError, e))?;
    call.ok(&workload.ok_or_else(missing)?)
}

pub(super) fn delete(t: &Trustee, call: &Call) -> Answer {
    let there = t.unregister_workload(call.param("digest")).map_err(|e| refusal(PluginInternalError, e))?;
    call.done_if(there)
}

pub(super) fn list(t: &Trustee, call: &Call) -> Answer {
    call.ok(&t.workloads().map_err(|e| refusal(PluginInternalError, e))?)
}
