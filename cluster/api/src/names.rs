//! Names that operator, nodes and people share.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, ValidationRule,
};

/// The group of all resources.
pub const GROUP: &str = "cocoon.dev";
/// The field manager of what the operator applies.
pub const MANAGER: &str = "cocoon-operator";
/// The field manager of what a node's process reports.
pub const NODE_MANAGER: &str = "cocoon-node";
/// The finalizer of [`crate::CocoonRuntime`]: nodes are cleaned before it goes.
pub const FINALIZER: &str = "cocoon.dev/nodes-are-cleaned";
/// Node label: the revision whose process runs on the node. Daemon sets select by it.
pub const REVISION_LABEL: &str = "cocoon.dev/revision";
/// Label of a namespace: the RuntimeClass that the webhook gives to its pods. As a pod's own label, with the value `none`: not to
/// this one.
pub const NAMESPACE_LABEL: &str = "cocoon.dev/runtime";
/// Label of all that belongs to a runtime: its name.
pub const RUNTIME_LABEL: &str = "cocoon.dev/runtime-name";
/// Prefix of the node labels that say what a node can do; `host/node` makes them.
pub const LABEL_PREFIX: &str = "cocoon.dev/";
/// Extended resource: confidential guests that a node can hold at once.
pub const SLOTS: &str = "cocoon.dev/slots";
/// Annotation of a daemon set: the settings of its revision, as JSON.
pub const SETTINGS_ANNOTATION: &str = "cocoon.dev/settings";
/// Annotation of a CocoonNode: when the operator asked for what its spec says (RFC 3339).
pub const ASKED_ANNOTATION: &str = "cocoon.dev/asked";
/// Where the process on a node finds credentials for the registry of guest images: a mounted Secret.
pub const PULL_SECRET_MOUNT: &str = "/run/secrets/cocoon-registry";
/// The file in it.
pub const PULL_SECRET_FILE: &str = "/run/secrets/cocoon-registry/.dockerconfigjson";
/// Label of a pod on which the operator tries a revision.
pub const CANARY_LABEL: &str = "cocoon.dev/canary";
/// The class that takes the best a node has.
pub const BEST_CLASS: &str = "cocoon";
/// The namespace that `cocoon.yaml` makes.
pub const NAMESPACE: &str = "cocoon-system";

/// Names under which Confidential Containers' users know classes, and ours for the same.
pub const COMPATIBLE_NAMES: [(&str, &str); 3] =
    [("kata-qemu-snp", "cocoon-snp"), ("kata-qemu-tdx", "cocoon-tdx"), ("kata-qemu-coco-dev", "cocoon-sim")];

/// Most characters of a resource's name that people choose.
const LONGEST_NAME: usize = 40;

/// The recommended labels of everything that the operator makes.
pub fn labels(component: &str, instance: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "cocoon"),
        ("app.kubernetes.io/component", component),
        ("app.kubernetes.io/instance", instance),
        ("app.kubernetes.io/managed-by", MANAGER),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into()
}

/// A definition with the labels of the rest.
pub(crate) fn finished(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let own = [("app.kubernetes.io/name", "cocoon"), ("app.kubernetes.io/component", "crd")];
    definition.metadata.labels.get_or_insert_default().extend(own.map(|(k, v)| (k.to_owned(), v.to_owned())));
    // Names of what is made for it are longer, and have limits of their own.
    let rule = ValidationRule {
        rule: format!("size(self.metadata.name) <= {LONGEST_NAME}"),
        message: Some(format!("the name may have at most {LONGEST_NAME} characters")),
        ..ValidationRule::default()
    };
    let is_made_by_people = definition.spec.names.kind != "CocoonNode";
    for version in definition.spec.versions.iter_mut().filter(|_| is_made_by_people) {
        let schema = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut());
        if let Some(schema) = schema {
            schema.x_kubernetes_validations = Some(vec![rule.clone()]);
        }
    }
    definition
}
