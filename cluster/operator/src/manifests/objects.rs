//! The objects.

use std::collections::BTreeMap;

use cocoon_cluster_api::{NAMESPACE, labels};
use serde_json::{Value, json};

use super::rights::{Scope, Who, rules};
use super::{definitions, webhook};

/// Name of the operator's Deployment, its account and its roles.
pub const OPERATOR: &str = "cocoon-operator";
/// Name of the account of nodes' processes.
pub const NODE: &str = "cocoon-node";
/// The port of probes and metrics.
pub const PORT: u16 = 8081;

/// What may differ from cluster to cluster.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The operator's namespace.
    pub namespace: String,
    /// The image of all roles.
    pub image: String,
    /// When it is pulled.
    pub pull_policy: String,
    /// Secrets with credentials for it.
    pub pull_secrets: Vec<String>,
    /// Operators; one works, the others wait. A number, or a template's.
    pub replicas: Value,
    /// Namespaces that may have a Trustee.
    pub trustees: Vec<String>,
    /// Whether there is an admission webhook; or a template's text.
    pub webhook: Value,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            namespace: NAMESPACE.into(),
            image: concat!("ghcr.io/cocoon-dev/cocoon:", env!("CARGO_PKG_VERSION")).into(),
            pull_policy: "IfNotPresent".into(),
            pull_secrets: Vec::new(),
            replicas: 1.into(),
            trustees: vec![NAMESPACE.into()],
            webhook: false.into(),
        }
    }
}

pub(super) fn own(component: &str) -> BTreeMap<String, String> {
    let mut labels = labels(component, "cocoon");
    labels.remove("app.kubernetes.io/managed-by");
    labels
}

/// All objects, in the order in which they can be applied. `with_namespace`: the Namespace and the definitions too.
pub fn objects(shape: &Shape, with_namespace: bool) -> Vec<Value> {
    let ns = &shape.namespace;
    let mut list = Vec::new();
    if with_namespace {
        // The node's process mounts the host's file system, which the other levels of pod security forbid.
        let mut labels = own("namespace");
        labels.insert("pod-security.kubernetes.io/enforce".into(), "privileged".into());
        list.push(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ns, "labels": labels}}),
        );
        list.extend(definitions());
    }
    let meta = |name: &str, component: &str, namespace: Option<&String>| {
        let mut meta = json!({"name": name, "labels": own(component)});
        if let (Some(ns), Some(map)) = (namespace, meta.as_object_mut()) {
            map.insert("namespace".into(), json!(ns));
        }
        meta
    };
    let account = |name: &str| json!([{"kind": "ServiceAccount", "name": name, "namespace": ns}]);
    let rbac = "rbac.authorization.k8s.io";
    for (name, who, component) in [(OPERATOR, Who::Operator, "operator"), (NODE, Who::Node, "node")] {
        list.push(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(name, component, Some(ns))}));
        list.push(json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole",
            "metadata": meta(name, component, None), "rules": rules(who, Scope::Cluster)}));
        list.push(json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding",
            "metadata": meta(name, component, None),
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name}, "subjects": account(name)}));
    }
    let roles = std::iter::once((OPERATOR, ns, Scope::Own))
        .chain(shape.trustees.iter().map(|ns| ("cocoon-operator-trustees", ns, Scope::Trustees)));
    for (name, namespace, scope) in roles {
        list.push(json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role",
            "metadata": meta(name, "operator", Some(namespace)), "rules": rules(Who::Operator, scope)}));
        list.push(json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding",
            "metadata": meta(name, "operator", Some(namespace)),
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name}, "subjects": account(OPERATOR)}));
    }
    list.extend(policy(ns));
    if shape.webhook == true {
        list.extend(webhook::objects(ns));
    }
    list.push(deployment(shape));
    list
}

/// A node's process reports on its own node alone.
fn policy(ns: &str) -> [Value; 2] {
    let name = "cocoon-node-reports-on-itself";
    let key = "authentication.kubernetes.io/node-name";
    let extra = "request.userInfo.extra";
    [
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name, "labels": own("node")},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": ["cocoon.dev"], "apiVersions": ["*"], "operations": ["UPDATE"],
                    "resources": ["cocoonnodes/status"],
                }]},
                "matchConditions": [{
                    "name": "by-a-node",
                    "expression": format!("request.userInfo.username == 'system:serviceaccount:{ns}:{NODE}'"),
                }],
                "validations": [{
                    "expression": format!("has({extra}) && '{key}' in {extra} && {extra}['{key}'].all(n, n == object.metadata.name)"),
                    "message": "a node's process reports on its own node alone",
                }],
            },
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name, "labels": own("node")},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        }),
    ]
}

fn deployment(shape: &Shape) -> Value {
    let select = json!({"app.kubernetes.io/name": "cocoon", "app.kubernetes.io/component": "operator"});
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": "http"}, "periodSeconds": 10});
    let secrets: Vec<Value> = shape.pull_secrets.iter().map(|name| json!({"name": name})).collect();
    let switch = shape.webhook.as_str().map_or_else(|| shape.webhook.to_string(), str::to_owned);
    let mut args = vec!["operator".to_owned(), "run".into()];
    args.extend(shape.trustees.iter().map(|ns| format!("--trustee-namespace={ns}")));
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": OPERATOR, "namespace": shape.namespace, "labels": own("operator")},
        "spec": {
            "replicas": shape.replicas,
            "selector": {"matchLabels": select},
            "template": {
                "metadata": {
                    "labels": own("operator"),
                    "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": PORT.to_string()},
                },
                "spec": {
                    "serviceAccountName": OPERATOR,
                    "imagePullSecrets": secrets,
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "terminationGracePeriodSeconds": 15,
                    "containers": [{
                        "name": "operator", "image": shape.image, "imagePullPolicy": shape.pull_policy, "args": args,
                        "env": [
                            {"name": "COCOON_NAMESPACE", "valueFrom": field("metadata.namespace")},
                            {"name": "COCOON_POD", "valueFrom": field("metadata.name")},
                            {"name": "COCOON_IMAGE", "value": shape.image},
                            {"name": "COCOON_WEBHOOK", "value": switch},
                        ],
                        "ports": [{"name": "http", "containerPort": PORT}, {"name": "webhook", "containerPort": crate::webhook::PORT}],
                        "livenessProbe": probe("/healthz"),
                        "readinessProbe": probe("/readyz"),
                        "resources": {
                            "requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"},
                        },
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }],
                    "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}],
                },
            },
        },
    })
}
