//! Release rules.

use cocoon_release::Rule;
use serde_json::Value;

use super::{Answer, Call, bad, missing, refusal};
use crate::Trustee;
use crate::reply::Variant::PluginInternalError;

pub(super) fn list(t: &Trustee, call: &Call) -> Answer {
    call.ok(&t.rules().map_err(|e| refusal(PluginInternalError, e))?.as_ref())
}

pub(super) fn get(t: &Trustee, call: &Call) -> Answer {
    let rules = t.rules().map_err(|e| refusal(PluginInternalError, e))?;
    call.ok(rules.iter().find(|r| r.id == call.param("id")).ok_or_else(missing)?)
}

/// The id is in the path; in the body it may stand too, and then must be the same.
pub(super) fn put(t: &Trustee, call: &Call) -> Answer {
    let mut wire: Value = call.json()?;
    let id = call.param("id");
    let members = wire.as_object_mut().ok_or_else(|| bad("a rule is an object"))?;
    if members.insert("id".into(), id.into()).is_some_and(|inside| inside != id) {
        return Err(bad("the rule's id is not the path's"));
    }
    let rule: Rule = serde_json::from_value(wire).map_err(|e| bad(e.to_string()))?;
    t.put_rule(&rule).map_err(|e| refusal(PluginInternalError, e))?;
    tracing::info!(request_id = %call.id, %id, workload = %rule.workload, path = %rule.path, "release rule set");
    call.done()
}

pub(super) fn delete(t: &Trustee, call: &Call) -> Answer {
    let there = t.delete_rule(call.param("id")).map_err(|e| refusal(PluginInternalError, e))?;
    call.done_if(there)
}
