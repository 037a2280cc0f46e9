//! The audit log: its head, entries and proofs, for whoever wants to check it elsewhere.

use serde_json::json;

use super::{Answer, Call, bad, refusal};
use crate::Trustee;
use crate::reply::Variant::PluginInternalError;

pub(super) fn head(t: &Trustee, call: &Call) -> Answer {
    call.ok(&t.audit().head().map_err(|e| refusal(PluginInternalError, e))?)
}

pub(super) fn key(t: &Trustee, call: &Call) -> Answer {
    let key = t.audit_key();
    call.ok(&json!({ "key_id": key.key_id(), "public_key": key.to_string() }))
}

pub(super) fn entries(t: &Trustee, call: &Call) -> Answer {
    let limit = call.number("limit")?.unwrap_or(100).min(cocoon_audit::MAX_PAGE);
    let found = match call.number("from")? {
        Some(from) => t.audit().entries(from, limit),
        None => t.audit().latest(limit),
    };
    call.ok(&found.map_err(|e| refusal(PluginInternalError, e))?)
}

pub(super) fn inclusion(t: &Trustee, call: &Call) -> Answer {
    let index = call.param("index").parse().map_err(|_| bad("index is no number"))?;
    let size = match call.number("size")? {
        Some(size) => size,
        None => t.audit().head().map_err(|e| refusal(PluginInternalError, e))?.size,
    };
    call.ok(&t.audit().inclusion_proof(index, size).map_err(|e| refusal(PluginInternalError, e))?)
}

pub(super) fn consistency(t: &Trustee, call: &Call) -> Answer {
    let number = |name| call.param(name).parse().map_err(|_| bad(format!("{name} is no number")));
    let proof = t.audit().consistency_proof(number("from")?, number("to")?);
    call.ok(&proof.map_err(|e| refusal(PluginInternalError, e))?)
}
