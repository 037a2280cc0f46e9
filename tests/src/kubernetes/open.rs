//! A cluster where every pod is Cocoon's, whatever it says: admission gives it the RuntimeClass and what a developer's guest is to
//! know of the registry.

use std::collections::BTreeMap;

use anyhow::Result;
use cocoon_protocol::HashAlgorithm;
use cocoon_protocol::initdata::InitData;
use serde_json::{Value, json};

use super::cluster::runtime_class;
use crate::containerd::ANNOTATION;

/// The objects of an admission policy that changes pods which name no RuntimeClass. `registry` is spoken to in plain HTTP.
pub(super) fn policy(registry: &str) -> Result<[Value; 2]> {
    let images = json!({"plain_http": [registry]}).to_string();
    let files = BTreeMap::from([("images.json".to_owned(), images)]);
    let initdata = InitData::new(HashAlgorithm::Sha256, files).to_annotation()?;
    let class = runtime_class("cocoon");
    let overhead = class.pointer("/overhead/podFixed").cloned().unwrap_or_default();
    let (group, name) = ("admissionregistration.k8s.io/v1beta1", "all-pods-are-cocoons");
    let annotation = format!("/metadata/annotations/{}", ANNOTATION.replace('/', "~1"));
    let expression = format!(
        "(has(object.metadata.annotations) ? [] : [JSONPatch{{op: 'add', path: '/metadata/annotations', value: {{}}}}]) + [\
         JSONPatch{{op: 'add', path: '{annotation}', value: '{initdata}'}}, \
         JSONPatch{{op: 'add', path: '/spec/runtimeClassName', value: 'cocoon'}}, \
         JSONPatch{{op: 'add', path: '/spec/overhead', value: {overhead}}}]"
    );
    Ok([
        json!({
            "apiVersion": group, "kind": "MutatingAdmissionPolicy", "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail", "reinvocationPolicy": "Never",
                "matchConstraints": {"resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]},
                ]},
                "matchConditions": [{"name": "of-no-class", "expression": "!has(object.spec.runtimeClassName)"}],
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
            },
        }),
        json!({
            "apiVersion": group, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {"policyName": name},
        }),
    ])
}
