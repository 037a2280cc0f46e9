//! What Helm runs before it removes a release: nodes are cleaned while there still is an operator that does it. Helm deletes all
//! objects at once otherwise, and a CocoonRuntime would wait for ever for an operator that is gone.

use serde_json::{Value, json};

use super::Shape;
use super::objects::own;

/// Name of the Job, its account and its role.
const NAME: &str = "cocoon-uninstall";

/// The Job, with an account that may delete CocoonRuntimes, and nothing else.
pub fn hook(shape: &Shape) -> Vec<Value> {
    let ns = &shape.namespace;
    let rbac = "rbac.authorization.k8s.io";
    let meta = |namespaced: bool, weight: &str| {
        let mut meta = json!({"name": NAME, "labels": own("uninstall"), "annotations": {
            "helm.sh/hook": "pre-delete", "helm.sh/hook-weight": weight,
            "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
        }});
        if let (true, Some(map)) = (namespaced, meta.as_object_mut()) {
            map.insert("namespace".into(), json!(ns));
        }
        meta
    };
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(true, "0")}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": meta(false, "0"), "rules": [
            {"apiGroups": ["cocoon.dev"],
             "resources": ["cocoonruntimes", "trusteereferencevalues", "trusteereleaserules", "trusteesecrets"],
             "verbs": ["list", "watch", "delete"]},
        ]}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": meta(false, "0"),
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": NAME},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": ns}]}),
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": meta(true, "1"),
            "spec": {
                "backoffLimit": 6,
                "template": {
                    "metadata": {"labels": own("uninstall")},
                    "spec": {
                        "serviceAccountName": NAME,
                        "restartPolicy": "OnFailure",
                        "imagePullSecrets": [],
                        "securityContext": {
                            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                        "containers": [{
                            "name": "uninstall", "image": shape.image, "imagePullPolicy": shape.pull_policy,
                            "args": ["operator", "clean"],
                            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
                            "securityContext": {
                                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                                "capabilities": {"drop": ["ALL"]},
                            },
                        }],
                        "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}],
                    },
                },
            },
        }),
    ]
}
