//! The definitions as a cluster gets them: a changed byte must be a decision.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use cocoon_cluster_api::{CocoonRuntimeSpec, TrusteeSpec, definitions};
use serde_json::Value;

#[test]
fn definitions_are_as_they_were() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/definitions.json");
    let now = serde_json::to_string_pretty(&definitions()).unwrap() + "\n";
    if std::env::var_os("COCOON_UPDATE_DOCS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let before = std::fs::read_to_string(path).unwrap();
    assert!(
        before == now,
        "definitions have changed; COCOON_UPDATE_DOCS=1 cargo test -p cocoon-cluster-api writes them anew"
    );
}

/// Every schema below `at`, with its path.
fn walk<'a>(at: String, schema: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    found.push((at.clone(), schema));
    for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        walk(format!("{at}.{name}"), inner, found);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(key).filter(|i| i.is_object()) {
            walk(format!("{at}[]"), inner, found);
        }
    }
}

#[test]
fn everything_a_person_writes_has_a_description_and_a_bound() {
    for definition in definitions() {
        let kind = definition.spec.names.kind.clone();
        let json = serde_json::to_value(&definition).unwrap();
        let spec = &json["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut found = Vec::new();
        walk(String::new(), spec, &mut found);
        for (path, schema) in found {
            // Kubernetes' own types are as they are.
            if path.contains("tolerations") || path.contains("imagePullSecrets") {
                continue;
            }
            let named = !path.ends_with("[]") && !path.is_empty();
            assert!(!named || schema.get("description").is_some(), "{kind}{path} has no description");
            let kind_of = schema.get("type").and_then(Value::as_str).unwrap_or_default();
            let bounded = match kind_of {
                "string" => {
                    schema.get("enum").is_some() || schema.get("maxLength").is_some() || path.ends_with("[]")
                }
                "integer" => schema.get("maximum").is_some(),
                "array" => schema.get("maxItems").is_some() || kind == "CocoonNode",
                "object" if schema.get("additionalProperties").is_some() => {
                    schema.get("maxProperties").is_some()
                }
                _ => true,
            };
            assert!(bounded, "{kind}{path} has no bound: {schema}");
        }
    }
}

#[test]
fn an_empty_spec_is_the_default() {
    let runtime: CocoonRuntimeSpec = serde_json::from_str("{}").unwrap();
    assert_eq!(runtime, CocoonRuntimeSpec::default());
    let trustee: TrusteeSpec = serde_json::from_str("{}").unwrap();
    assert_eq!(trustee, TrusteeSpec::default());
}
