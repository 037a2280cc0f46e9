//! Verdicts, the token key, and what this Trustee is.

use serde_json::json;

use super::{Answer, Call, missing, refusal};
use crate::Trustee;
use crate::reply::Variant::PluginInternalError;

pub(super) fn explain(t: &Trustee, call: &Call) -> Answer {
    let found = t.explain(call.param("id")).map_err(|e| refusal(PluginInternalError, e))?;
    call.ok(&found.ok_or_else(missing)?)
}

pub(super) fn latest(t: &Trustee, call: &Call) -> Answer {
    let limit = call.number("limit")?.unwrap_or(20).min(1000);
    call.ok(&t.latest_explanations(limit).map_err(|e| refusal(PluginInternalError, e))?)
}

pub(super) fn rotate(t: &Trustee, call: &Call) -> Answer {
    let kid = t.rotate_token_key().map_err(|e| refusal(PluginInternalError, e))?;
    tracing::info!(request_id = %call.id, %kid, "token key rotated");
    call.ok(&json!({ "kid": kid }))
}

pub(super) fn status(t: &Trustee, call: &Call) -> Answer {
    let failed = |e| refusal(PluginInternalError, e);
    let judge = t.inner.judge();
    let config = &judge.config;
    call.ok(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "tenant": t.inner.tenant.as_ref().map(|tenant| &tenant.name),
        "issuer": config.issuer,
        "public_url": config.public_url,
        "shared_store": t.inner.store.shared(),
        "accepts": {
            "vendor_roots": config.vendor_roots,
            "simulated_roots": config.simulated_roots.len(),
            "sample": config.accept_sample,
            "contraindicated": config.issue_contraindicated,
        },
        "counts": {
            "workloads": t.workloads().map_err(failed)?.len(),
            "rules": t.rules().map_err(failed)?.len(),
            "reference_values": t.reference_values().map_err(failed)?.len(),
            "audit_entries": t.audit().size().map_err(|e| refusal(PluginInternalError, e))?,
        },
        "plugins": config.plugins.iter().map(|(name, _)| name).collect::<Vec<_>>(),
    }))
}
