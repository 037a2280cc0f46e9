//! RuntimeClasses.

use std::collections::BTreeSet;

use cocoon_cluster_api::{
    BEST_CLASS, COMPATIBLE_NAMES, CocoonRuntimeSpec, LABEL_PREFIX, Platform, RUNTIME_LABEL, SLOTS, labels,
};
use serde_json::{Value, json};

/// The classes that a spec comes to: names of RuntimeClasses and containerd's handlers for them.
pub fn of(spec: &CocoonRuntimeSpec) -> Vec<(String, &'static str)> {
    let mut handlers = BTreeSet::from([BEST_CLASS]);
    for platform in spec.platforms() {
        match platform {
            Platform::Auto => handlers.extend([Platform::Snp.class(), Platform::Tdx.class()]),
            other => {
                handlers.insert(other.class());
            }
        }
    }
    let mut classes: Vec<(String, &str)> = handlers.iter().map(|h| ((*h).to_owned(), *h)).collect();
    if spec.runtime_classes.compatible_names {
        let known = COMPATIBLE_NAMES.iter().filter(|(_, handler)| handlers.contains(handler));
        classes.extend(known.map(|(name, handler)| ((*name).to_owned(), *handler)));
    }
    classes
}

/// Whether a pod of a class takes one of the guests that a node's TEE can hold.
fn takes_a_slot(handler: &str) -> bool {
    matches!(handler, BEST_CLASS | "cocoon-snp" | "cocoon-tdx")
}

/// A RuntimeClass. Pods of it go where the node says that it has the class.
pub fn object(runtime: &str, owner: &Value, spec: &CocoonRuntimeSpec, name: &str, handler: &str) -> Value {
    let overhead = &spec.runtime_classes.overhead;
    let mut fixed = json!({"memory": overhead.memory, "cpu": overhead.cpu});
    if let (true, Some(map)) = (takes_a_slot(handler), fixed.as_object_mut()) {
        map.insert(SLOTS.into(), "1".into());
    }
    let mut labels = labels("runtime-class", runtime);
    labels.insert(RUNTIME_LABEL.into(), runtime.into());
    json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
        "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
        "handler": handler,
        "overhead": {"podFixed": fixed},
        "scheduling": {
            "nodeSelector": {format!("{LABEL_PREFIX}class.{handler}"): "true"},
            "tolerations": spec.tolerations,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulated_classes_are_made_only_where_they_are_asked_for() {
        let mut spec = CocoonRuntimeSpec::default();
        let names = |spec: &CocoonRuntimeSpec| of(spec).into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        assert_eq!(names(&spec), ["cocoon", "cocoon-snp", "cocoon-tdx"]);
        spec.platforms = vec![Platform::Snp, Platform::Sim];
        spec.runtime_classes.compatible_names = true;
        assert_eq!(
            names(&spec),
            ["cocoon", "cocoon-sim", "cocoon-snp", "kata-qemu-snp", "kata-qemu-coco-dev"]
        );
    }

    #[test]
    fn a_class_of_a_tee_takes_a_slot() {
        let spec = CocoonRuntimeSpec::default();
        let class = |handler| object("r", &json!({"uid": "u"}), &spec, handler, handler);
        assert_eq!(class("cocoon-snp")["overhead"]["podFixed"][SLOTS], "1");
        assert!(class("cocoon-sim")["overhead"]["podFixed"].get(SLOTS).is_none());
        assert_eq!(class("cocoon-sim")["scheduling"]["nodeSelector"]["cocoon.dev/class.cocoon-sim"], "true");
    }
}
