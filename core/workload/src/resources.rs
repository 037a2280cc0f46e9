//! Resources: limits are the cluster's to set and to change.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::fields::Fields;
use crate::log::Log;
use crate::quantity::Quantity;

/// Limits and requests by resource.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) limits: BTreeMap<String, Quantity>,
    pub(crate) requests: BTreeMap<String, Quantity>,
}

/// What of a node a guest can have by itself.
const PLAIN: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

impl Limits {
    /// Reads the field `resources`.
    pub(crate) fn read(owner: &mut Fields<'_>, log: &mut Log) -> Limits {
        let mut found = Limits::default();
        let Some(mut resources) = owner.object("resources", log) else { return found };
        let at = resources.at.clone();
        for (name, into) in [("limits", &mut found.limits), ("requests", &mut found.requests)] {
            let path = resources.path(name);
            let amounts = match resources.take(name) {
                None => continue,
                Some(Value::Object(amounts)) => amounts,
                Some(_) => {
                    log.wrong(&path, "must be an object");
                    continue;
                }
            };
            for (resource, amount) in amounts {
                let path = format!("{path}[{resource}]");
                let Some(amount) = Quantity::of(amount) else {
                    log.wrong(&path, "is no quantity");
                    continue;
                };
                let ours = resource
                    .split('/')
                    .next()
                    .is_some_and(|d| d == "cocoon.dev" || d.ends_with(".cocoon.dev"));
                if !PLAIN.contains(&resource.as_str()) && !ours {
                    log.refuse(&path, "a device or huge page of the node cannot reach the guest");
                }
                into.insert(resource.clone(), amount);
            }
        }
        for (name, request) in &found.requests {
            if found.limits.get(name).is_some_and(|limit| limit < request) {
                log.wrong(&format!("{at}.requests[{name}]"), "is more than the limit");
            }
        }
        resources.refuse("claims", log, "a device of the node cannot reach the guest");
        resources.finish(log);
        if !found.limits.is_empty() || !found.requests.is_empty() {
            log.open(
                &at,
                "as written",
                "the cluster may change limits; they bound what the pod can use, not what it does",
            );
        }
        found
    }
}
