//! What operator and nodes' processes may do, each with its reason. The roles are made of this list, and so is the page in docs/.

use serde_json::{Value, json};

use crate::webhook;

/// Who has a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The operator's Deployment.
    Operator,
    /// The process on each node.
    Node,
}

/// Where a right holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In the cluster.
    Cluster,
    /// In the operator's namespace.
    Own,
    /// In each namespace that may have a Trustee.
    Trustees,
    /// In the cluster, where the webhook was asked for.
    Webhook,
    /// In the operator's namespace, where the webhook was asked for.
    WebhookOwn,
}

/// A right.
#[derive(Clone, Copy, Debug)]
pub struct Right {
    /// Whose.
    pub who: Who,
    /// Where.
    pub scope: Scope,
    /// API group.
    pub group: &'static str,
    /// Resources.
    pub resources: &'static [&'static str],
    /// Names, where it holds for these alone.
    pub names: &'static [&'static str],
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// What for.
    pub why: &'static str,
}

const WATCH: &[&str] = &["get", "list", "watch"];
const KEEP: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

const fn right(
    who: Who,
    scope: Scope,
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    why: &'static str,
) -> Right {
    Right { who, scope, group, resources, names: &[], verbs, why }
}

/// All rights.
pub const RIGHTS: &[Right] = &[
    right(
        Who::Operator,
        Scope::Cluster,
        "cocoon.dev",
        &["cocoonruntimes"],
        &["get", "list", "watch", "patch"],
        "what is asked for; `patch` for the finalizer",
    ),
    right(
        Who::Operator,
        Scope::Cluster,
        "cocoon.dev",
        &["cocoonruntimes/status", "cocoonruntimes/finalizers"],
        &["patch", "update"],
        "conditions; owning what it makes",
    ),
    right(Who::Operator, Scope::Cluster, "cocoon.dev", &["cocoonnodes"], KEEP, "one for each node"),
    right(
        Who::Operator,
        Scope::Cluster,
        "",
        &["nodes"],
        &["list", "watch", "patch"],
        "which nodes there are; the labels `cocoon.dev/…`",
    ),
    right(
        Who::Operator,
        Scope::Cluster,
        "",
        &["nodes/status"],
        &["patch"],
        "the extended resource `cocoon.dev/slots`",
    ),
    right(Who::Operator, Scope::Cluster, "node.k8s.io", &["runtimeclasses"], KEEP, "the RuntimeClasses"),
    right(
        Who::Operator,
        Scope::Cluster,
        "",
        &["pods"],
        &["list"],
        "which confidential pods still run, before nodes are cleaned",
    ),
    right(Who::Operator, Scope::Cluster, "events.k8s.io", &["events"], &["create", "patch"], "Events"),
    right(Who::Operator, Scope::Own, "apps", &["daemonsets"], KEEP, "the process on each node"),
    right(
        Who::Operator,
        Scope::Own,
        "",
        &["pods"],
        &["get", "list", "watch", "create", "delete"],
        "the canary pod of a new revision",
    ),
    right(Who::Operator, Scope::Own, "", &["events"], &["list", "watch"], "why a canary pod does not start"),
    right(
        Who::Operator,
        Scope::Own,
        "coordination.k8s.io",
        &["leases"],
        &["get", "list", "watch", "create", "update"],
        "one operator at a time",
    ),
    right(
        Who::Operator,
        Scope::Trustees,
        "cocoon.dev",
        &["trustees"],
        &["get", "list", "watch"],
        "Trustees that are asked for",
    ),
    right(
        Who::Operator,
        Scope::Trustees,
        "cocoon.dev",
        &["trustees/status", "trustees/finalizers"],
        &["patch", "update"],
        "conditions; owning what it makes",
    ),
    right(
        Who::Operator,
        Scope::Trustees,
        "cocoon.dev",
        &["trusteereferencevalues", "trusteereleaserules", "trusteesecrets"],
        &["get", "list", "watch", "patch"],
        "what a Trustee shall know; `patch` for the finalizer",
    ),
    right(
        Who::Operator,
        Scope::Trustees,
        "cocoon.dev",
        &["trusteereferencevalues/status", "trusteereleaserules/status", "trusteesecrets/status"],
        &["patch"],
        "conditions",
    ),
    right(Who::Operator, Scope::Trustees, "apps", &["deployments"], KEEP, "Trustee's processes"),
    right(Who::Operator, Scope::Trustees, "batch", &["cronjobs"], KEEP, "the backup job"),
    right(
        Who::Operator,
        Scope::Trustees,
        "",
        &["pods"],
        &["list"],
        "why one of Trustee's processes does not run",
    ),
    right(
        Who::Operator,
        Scope::Trustees,
        "",
        &["services", "configmaps", "persistentvolumeclaims"],
        KEEP,
        "Trustee's address, settings and volume",
    ),
    right(
        Who::Operator,
        Scope::Trustees,
        "",
        &["secrets"],
        &["get", "list", "watch", "create", "patch"],
        "Trustee's certificate, token and sealing key, and Secrets that resources name: of others it asks for none, but RBAC can only \
         express all of a namespace",
    ),
    right(
        Who::Operator,
        Scope::Trustees,
        "policy",
        &["poddisruptionbudgets"],
        KEEP,
        "a drain leaves one Trustee",
    ),
    Right {
        names: &[webhook::CONFIGURATION],
        ..right(
            Who::Operator,
            Scope::Webhook,
            "admissionregistration.k8s.io",
            &["mutatingwebhookconfigurations"],
            &["get", "list", "watch", "patch"],
            "the CA of the webhook's certificate",
        )
    },
    Right {
        names: &[webhook::NAME],
        ..right(
            Who::Operator,
            Scope::WebhookOwn,
            "",
            &["secrets"],
            &["get", "list", "watch", "patch"],
            "the webhook's certificate",
        )
    },
    right(
        Who::Operator,
        Scope::WebhookOwn,
        "",
        &["secrets"],
        &["create"],
        "the same; RBAC cannot limit making to a name",
    ),
    right(Who::Node, Scope::Cluster, "cocoon.dev", &["cocoonnodes"], WATCH, "what its node shall have"),
    right(
        Who::Node,
        Scope::Cluster,
        "cocoon.dev",
        &["cocoonnodes/status"],
        &["patch"],
        "what its node has; an admission policy lets it write that of its own node alone",
    ),
];

/// The rules of a role.
pub fn rules(who: Who, scope: Scope) -> Vec<Value> {
    RIGHTS
        .iter()
        .filter(|r| r.who == who && r.scope == scope)
        .map(|r| {
            let mut rule = json!({"apiGroups": [r.group], "resources": r.resources, "verbs": r.verbs});
            if let (false, Some(rule)) = (r.names.is_empty(), rule.as_object_mut()) {
                rule.insert("resourceNames".into(), json!(r.names));
            }
            rule
        })
        .collect()
}

/// The table of docs/install-on-a-cluster.md.
pub fn table() -> String {
    let mut out = String::from("| who | where | resources | verbs | why |\n|---|---|---|---|---|\n");
    for r in RIGHTS {
        let who = if r.who == Who::Operator { "operator" } else { "node" };
        let place = match r.scope {
            Scope::Cluster => "cluster",
            Scope::Own => "own namespace",
            Scope::Trustees => "namespaces with a Trustee",
            Scope::Webhook => "cluster, with webhook",
            Scope::WebhookOwn => "own namespace, with webhook",
        };
        let group = if r.group.is_empty() { "core" } else { r.group };
        let resources = r.resources.join("`, `");
        let named =
            if r.names.is_empty() { String::new() } else { format!(" named `{}`", r.names.join("`, `")) };
        out.push_str(&format!(
            "| {who} | {place} | {group}: `{resources}`{named} | {} | {} |\n",
            r.verbs.join(", "),
            r.why
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_everything() {
        for r in RIGHTS {
            assert!(!r.verbs.contains(&"*") && !r.resources.contains(&"*") && r.group != "*", "{r:?}");
            for forbidden in ["escalate", "bind", "impersonate"] {
                assert!(!r.verbs.contains(&forbidden), "{r:?}");
            }
            let secret = r.resources.contains(&"secrets");
            assert!(
                !secret || r.scope == Scope::Trustees || !r.names.is_empty() || r.verbs == ["create"],
                "secrets are read where a Trustee may be, nowhere else"
            );
            assert!(
                r.who == Who::Operator || r.group == "cocoon.dev",
                "a node's process sees Cocoon's resources alone"
            );
        }
    }
}
