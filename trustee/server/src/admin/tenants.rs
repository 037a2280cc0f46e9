//! Tenants; only the Trustee's own administrators know of them.

use std::sync::Arc;

use serde_json::json;

use super::{Answer, Call, bad, missing, refusal};
use crate::Trustee;
use crate::reply::Variant::PluginInternalError;
use crate::tenants::{Quota, Tenants};

fn tenants<'t>(t: &'t Trustee, call: &Call) -> Result<&'t Arc<Tenants>, super::Refusal> {
    // An administrator of one tenant sees none of the others, and a tenant has none.
    match (&t.tenants, &call.admin.tenant) {
        (Some(tenants), None) => Ok(tenants),
        _ => Err(missing()),
    }
}

pub(super) fn list(t: &Trustee, call: &Call) -> Answer {
    let all = tenants(t, call)?.list().map_err(|e| refusal(PluginInternalError, e))?;
    let shown: Vec<_> = all
        .iter()
        .map(|t| json!({"name": t.name, "created_unix": t.created_unix, "quota": t.quota}))
        .collect();
    call.ok(&shown)
}

pub(super) fn put(t: &Trustee, call: &Call) -> Answer {
    let quota = if call.body.is_empty() { Quota::default() } else { call.json()? };
    let made = tenants(t, call)?.put(call.param("name"), quota, call.now);
    let (tenant, token) = made.map_err(|e| refusal(PluginInternalError, e))?;
    tracing::info!(request_id = %call.id, tenant = %tenant.name, new = token.is_some(), "tenant set");
    call.ok(&json!({
        "name": tenant.name,
        "quota": tenant.quota,
        "path": format!("/t/{}", tenant.name),
        "admin_token": token.as_deref(),
    }))
}

pub(super) fn token(t: &Trustee, call: &Call) -> Answer {
    let token =
        tenants(t, call)?.new_token(call.param("name")).map_err(|e| refusal(PluginInternalError, e))?;
    call.ok(&json!({ "admin_token": token.ok_or_else(missing)?.as_str() }))
}

pub(super) fn delete(t: &Trustee, call: &Call) -> Answer {
    let name = call.param("name");
    if name.is_empty() {
        return Err(bad("which tenant?"));
    }
    let there = tenants(t, call)?.delete(name).map_err(|e| refusal(PluginInternalError, e))?;
    tracing::info!(request_id = %call.id, tenant = %name, there, "tenant removed");
    call.done_if(there)
}
