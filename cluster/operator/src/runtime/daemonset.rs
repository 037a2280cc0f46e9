//! The process on each node, one daemon set for each revision.

use cocoon_cluster_api::{
    CocoonRuntimeSpec, NodeSettings, PULL_SECRET_MOUNT, REVISION_LABEL, RUNTIME_LABEL, SETTINGS_ANNOTATION,
    labels,
};
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::ResourceExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::manifests::NODE;

/// Annotation of a CocoonRuntime: any change makes a new revision, so that one that was refused is tried again.
pub const RETRY: &str = "cocoon.dev/retry";

/// An image with settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// Ten hexadecimal digits of its digest.
    pub name: String,
    /// The image.
    pub image: String,
    /// The settings.
    pub settings: NodeSettings,
}

impl Revision {
    /// What a spec comes to.
    pub fn of(spec: &CocoonRuntimeSpec, default_image: &str, retry: Option<&str>) -> Self {
        let image = spec.image.clone().unwrap_or_else(|| default_image.to_owned());
        let settings = spec.settings();
        let content = json!([
            image,
            spec.image_pull_policy,
            spec.image_pull_secrets,
            spec.tolerations,
            settings,
            retry
        ]);
        let mut name = hex::encode(Sha256::digest(content.to_string()));
        name.truncate(10);
        Revision { name, image, settings }
    }
}

/// The name of a revision's daemon set.
pub fn name(runtime: &str, revision: &str) -> String {
    format!("cocoon-node-{runtime}-{revision}")
}

/// The settings that a daemon set was made with.
pub fn settings(set: &DaemonSet) -> Option<NodeSettings> {
    serde_json::from_str(set.annotations().get(SETTINGS_ANNOTATION)?).ok()
}

/// The daemon set. Its process runs in a container without privilege: no host namespaces, a read-only file system, and four
/// capabilities, to enter the node's file system and to write there.
pub fn object(
    runtime: &str,
    owner: &Value,
    namespace: &str,
    spec: &CocoonRuntimeSpec,
    revision: &Revision,
) -> Value {
    let mut labels = labels("node", runtime);
    labels.insert(RUNTIME_LABEL.into(), runtime.into());
    labels.insert(REVISION_LABEL.into(), revision.name.clone());
    let select = json!({RUNTIME_LABEL: runtime, REVISION_LABEL: revision.name});
    let settings = serde_json::to_string(&revision.settings).unwrap_or_default();
    let mut mounts =
        vec![json!({"name": "host", "mountPath": "/host", "mountPropagation": "HostToContainer"})];
    let mut volumes = vec![json!({"name": "host", "hostPath": {"path": "/", "type": "Directory"}})];
    if let Some(secret) = &revision.settings.guest_image.pull_secret {
        // Mounted by kubelet: neither operator nor process may read Secrets.
        mounts.push(json!({"name": "registry", "mountPath": PULL_SECRET_MOUNT, "readOnly": true}));
        volumes.push(json!({"name": "registry", "secret": {"secretName": secret, "optional": true}}));
    }
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {
            "name": name(runtime, &revision.name), "namespace": namespace, "labels": labels,
            "annotations": {SETTINGS_ANNOTATION: settings}, "ownerReferences": [owner],
        },
        "spec": {
            "selector": {"matchLabels": select},
            "updateStrategy": {"type": "OnDelete"},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": NODE,
                    "priorityClassName": "system-node-critical",
                    "nodeSelector": {"kubernetes.io/os": "linux", REVISION_LABEL: revision.name},
                    "tolerations": spec.tolerations,
                    "imagePullSecrets": spec.image_pull_secrets,
                    // A change that is under way is put back first, containerd's restart included.
                    "terminationGracePeriodSeconds": 180,
                    "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": "node",
                        "image": revision.image,
                        "imagePullPolicy": spec.image_pull_policy.word(),
                        "args": ["node", "serve"],
                        "env": [
                            {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                            {"name": "COCOON_REVISION", "value": revision.name},
                        ],
                        "resources": {
                            "requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"},
                        },
                        "securityContext": {
                            "runAsUser": 0,
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": {
                                "drop": ["ALL"], "add": ["SYS_CHROOT", "DAC_OVERRIDE", "CHOWN", "FOWNER"],
                            },
                        },
                        "volumeMounts": mounts,
                    }],
                    "volumes": volumes,
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_changes_a_node_is_another_revision() {
        let spec = CocoonRuntimeSpec::default();
        let of = |spec: &CocoonRuntimeSpec| Revision::of(spec, "r.example/cocoon:1", None).name;
        let mut other = spec.clone();
        other.containerd.config = "/etc/other.toml".into();
        assert_ne!(of(&spec), of(&other));
        let mut same = spec.clone();
        same.update.canary.enabled = false;
        same.node_selector.insert("a".into(), "b".into());
        assert_eq!(of(&spec), of(&same));
        assert_ne!(of(&spec), Revision::of(&spec, "r.example/cocoon:2", None).name);
        assert_ne!(of(&spec), Revision::of(&spec, "r.example/cocoon:1", Some("again")).name);
        assert_eq!(of(&spec).len(), 10);
    }

    #[test]
    fn the_process_has_no_privilege_beyond_its_four() {
        let spec = CocoonRuntimeSpec::default();
        let revision = Revision::of(&spec, "i", None);
        let set = object("r", &json!({}), "ns", &spec, &revision);
        let pod = &set["spec"]["template"]["spec"];
        for absent in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod.get(absent).is_none());
        }
        let security = &pod["containers"][0]["securityContext"];
        assert!(security.get("privileged").is_none());
        assert_eq!(security["capabilities"]["add"].as_array().unwrap().len(), 4);
        let read: DaemonSet = serde_json::from_value(set).unwrap();
        assert_eq!(settings(&read), Some(revision.settings));
    }
}
