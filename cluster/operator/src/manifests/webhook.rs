//! What the webhook needs in a cluster. Only where it is asked for.

use cocoon_cluster_api::{NAMESPACE_LABEL, labels};
use serde_json::{Value, json};

use super::objects::OPERATOR;
use super::rights::{Scope, Who, rules};
use crate::webhook::{CLASSES, CONFIGURATION, NAME, of_class};

/// Service, rights, and the configuration; its CA is put there by the operator.
pub fn objects(ns: &str) -> Vec<Value> {
    let mut own = labels("operator", "cocoon");
    own.remove("app.kubernetes.io/managed-by");
    let rbac = "rbac.authorization.k8s.io";
    let subjects = json!([{"kind": "ServiceAccount", "name": OPERATOR, "namespace": ns}]);
    let select = json!({"app.kubernetes.io/name": "cocoon", "app.kubernetes.io/component": "operator"});
    let here = json!({"name": NAME, "namespace": ns, "labels": own});
    let everywhere = json!({"name": NAME, "labels": own});
    let hooks: Vec<Value> = CLASSES
        .iter()
        .map(|class| {
            json!({
                "name": of_class(class),
                "clientConfig": {"service": {"name": NAME, "namespace": ns, "path": format!("/pods/{class}"), "port": 443}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "Namespaced"}],
                "namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: class}},
                "objectSelector": {"matchExpressions": [{"key": NAMESPACE_LABEL, "operator": "NotIn", "values": ["none"]}]},
                // It is a convenience: pods are made without it too.
                "failurePolicy": "Ignore", "timeoutSeconds": 2, "sideEffects": "None",
                "matchPolicy": "Equivalent", "reinvocationPolicy": "Never", "admissionReviewVersions": ["v1"],
            })
        })
        .collect();
    vec![
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": everywhere,
            "rules": rules(Who::Operator, Scope::Webhook)}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": everywhere,
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": NAME}, "subjects": subjects}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": here,
            "rules": rules(Who::Operator, Scope::WebhookOwn)}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": here,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": NAME}, "subjects": subjects}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": here, "spec": {
            "selector": select, "ports": [{"name": "https", "port": 443, "targetPort": "webhook", "protocol": "TCP"}],
        }}),
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": CONFIGURATION, "labels": own}, "webhooks": hooks}),
    ]
}
