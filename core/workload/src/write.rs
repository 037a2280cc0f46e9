//! What a compilation changes in a manifest.

use serde_json::{Map, Value};

use crate::container::pinned;
use crate::inputs::Inputs;
use crate::manifest::Document;
use crate::template::Kind;

/// The annotation that carries initdata: the plan, and where Trustee is.
pub const INITDATA: &str = "dev.cocoon.initdata";

/// Writes into an object that makes pods: images by digest, the annotation, and the runtime class. Nothing else of it is
/// touched. An object of another kind stays as it is.
pub fn write(document: &mut Document, inputs: &Inputs, initdata: &str, runtime_class: &RuntimeClass) {
    let Some(kind) = Kind::of(document) else { return };
    let mut pod = Some(&mut document.value);
    for name in kind.template {
        pod = pod.and_then(|value| value.get_mut(*name));
    }
    let Some(Value::Object(pod)) = pod else { return };
    if let Some(annotations) = object(pod, "metadata").and_then(|metadata| object(metadata, "annotations")) {
        annotations.insert(INITDATA.into(), initdata.into());
    }
    let Some(Value::Object(spec)) = pod.get_mut("spec") else { return };
    for list in ["initContainers", "containers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let Some(image) = container.get_mut("image") else { continue };
            let facts = image.as_str().and_then(|written| Some((written, inputs.images.get(written)?)));
            if let Some(name) = facts.map(|(written, facts)| pinned(written, &facts.digest)) {
                *image = name.into();
            }
        }
    }
    let written = spec.get("runtimeClassName").and_then(Value::as_str).unwrap_or_default();
    let ours = written.starts_with("cocoon") || written.starts_with("kata");
    if !ours || runtime_class.always {
        spec.insert("runtimeClassName".into(), runtime_class.name.clone().into());
    }
}

/// The runtime class that pods are to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeClass {
    /// Its name.
    pub name: String,
    /// Whether it also takes the place of another class of confidential pods that a manifest names.
    pub always: bool,
}

/// A member that is an object; made where there is none.
fn object<'v>(owner: &'v mut Map<String, Value>, name: &str) -> Option<&'v mut Map<String, Value>> {
    let member = owner.entry(name).or_insert(Value::Null);
    if member.is_null() {
        *member = Value::Object(Map::new());
    }
    member.as_object_mut()
}
