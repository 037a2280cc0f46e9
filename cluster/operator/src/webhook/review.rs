//! A question of the API server about a pod, and the answer.

use base64::Engine;
use serde_json::{Value, json};

use super::CLASSES;

/// Requests of a container that has none: about what a small guest takes.
const REQUESTS: [(&str, &str); 2] = [("cpu", "100m"), ("memory", "256Mi")];
/// Annotations that carry a plan: Cocoon's, and CoCo's.
const PLANS: [&str; 2] = ["dev.cocoon.initdata", "io.katacontainers.config.hypervisor.cc_init_data"];
/// Names that one warning lists.
const NAMED: usize = 5;
/// Most characters of a name in a warning.
const LONGEST: usize = 63;

/// The answer to an AdmissionReview (admission.k8s.io/v1) about a pod in a namespace of `class`: always that it is allowed.
///
/// # Errors
/// What is wrong with the question.
pub fn answer(class: &str, question: &[u8]) -> Result<Value, &'static str> {
    if !CLASSES.contains(&class) {
        return Err("no such class");
    }
    let question: Value = serde_json::from_slice(question).map_err(|_| "no JSON")?;
    let uid = question.pointer("/request/uid").and_then(Value::as_str).ok_or("no uid")?;
    let mut response = json!({"uid": uid, "allowed": true});
    if let (Some(pod), Some(map)) = (question.pointer("/request/object"), response.as_object_mut()) {
        let (patch, warnings) = judge(class, pod);
        if !patch.is_empty() {
            let text = Value::from(patch).to_string();
            map.insert("patchType".into(), "JSONPatch".into());
            map.insert("patch".into(), base64::engine::general_purpose::STANDARD.encode(text).into());
        }
        if !warnings.is_empty() {
            map.insert("warnings".into(), warnings.into());
        }
    }
    Ok(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
}

/// What is changed, as a JSON patch, and what is said.
fn judge(class: &str, pod: &Value) -> (Vec<Value>, Vec<String>) {
    let own = pod.pointer("/spec/runtimeClassName").and_then(Value::as_str).filter(|c| !c.is_empty());
    match own {
        None => {
            let mut patch = vec![json!({"op": "add", "path": "/spec/runtimeClassName", "value": class})];
            patch.extend(requests(pod));
            (patch, warnings(pod))
        }
        // Whoever names a class knows what it needs.
        Some(own) if CLASSES.contains(&own) => (Vec::new(), warnings(pod)),
        Some(_) => (Vec::new(), Vec::new()),
    }
}

fn list<'a>(pod: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    pod.pointer(&format!("/spec/{name}")).and_then(Value::as_array).into_iter().flatten()
}

/// Requests for containers that have neither request nor limit of a resource.
fn requests(pod: &Value) -> Vec<Value> {
    let mut patch = Vec::new();
    for (i, container) in list(pod, "containers").enumerate() {
        let has = |of: &str, name: &str| container.pointer(&format!("/resources/{of}/{name}")).is_some();
        let lacks = REQUESTS.iter().filter(|(name, _)| !has("requests", name) && !has("limits", name));
        let lacks: serde_json::Map<String, Value> =
            lacks.map(|(name, amount)| ((*name).to_owned(), Value::from(*amount))).collect();
        if lacks.is_empty() {
            continue;
        }
        let at = format!("/spec/containers/{i}/resources");
        if !container.get("resources").is_some_and(Value::is_object) {
            patch.push(json!({"op": "add", "path": at, "value": {"requests": lacks}}));
        } else if container.pointer("/resources/requests").is_some_and(Value::is_object) {
            patch.extend(
                lacks
                    .iter()
                    .map(|(k, v)| json!({"op": "add", "path": format!("{at}/requests/{k}"), "value": v})),
            );
        } else {
            patch.push(json!({"op": "add", "path": format!("{at}/requests"), "value": lacks}));
        }
    }
    patch
}

/// What a guest refuses, or cannot give.
fn warnings(pod: &Value) -> Vec<String> {
    let mut said = Vec::new();
    for (field, what) in [
        ("hostNetwork", "the node's network"),
        ("hostPID", "the node's processes"),
        ("hostIPC", "the node's shared memory"),
    ] {
        if pod.pointer(&format!("/spec/{field}")).and_then(Value::as_bool) == Some(true) {
            said.push(format!("{field}: a confidential pod has a guest of its own and cannot share {what}"));
        }
    }
    let paths = list(pod, "volumes").filter(|v| v.get("hostPath").is_some());
    if let Some(named) = named(paths) {
        said.push(format!("hostPath volumes {named}: the guest refuses the node's files"));
    }
    let privileged = ["initContainers", "containers"].into_iter().flat_map(|kind| list(pod, kind));
    let privileged = privileged
        .filter(|c| c.pointer("/securityContext/privileged").and_then(Value::as_bool) == Some(true));
    if let Some(named) = named(privileged) {
        said.push(format!("privileged containers {named}: the guest refuses them unless its plan says so"));
    }
    let annotations = pod.pointer("/metadata/annotations");
    if !PLANS.iter().any(|name| annotations.is_some_and(|a| a.get(name).is_some())) {
        said.push("no plan: a guest refuses what no plan allows; `kubectl cocoon apply` makes one".into());
    }
    said
}

/// Names, a few of them.
fn named<'a>(all: impl Iterator<Item = &'a Value>) -> Option<String> {
    let name = |v: &Value| v.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let names: Vec<String> = all.map(name).collect();
    let short = |n: &String| n.chars().filter(|c| !c.is_control()).take(LONGEST).collect::<String>();
    let mut text = names.iter().take(NAMED).map(short).collect::<Vec<_>>().join(", ");
    if names.len() > NAMED {
        text.push_str(", …");
    }
    (!names.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pod: &Value) -> (Value, Value) {
        let question = json!({"request": {"uid": "u", "object": pod}}).to_string();
        let answer = answer("cocoon", question.as_bytes()).unwrap();
        assert_eq!((&answer["response"]["allowed"], &answer["response"]["uid"]), (&json!(true), &json!("u")));
        let patch = answer["response"]["patch"].as_str().map(|text| {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
            serde_json::from_slice(&bytes).unwrap()
        });
        (patch.unwrap_or_default(), answer["response"]["warnings"].clone())
    }

    #[test]
    fn what_is_unset_is_set_and_what_is_set_stays() {
        let pod = json!({"metadata": {"annotations": {"dev.cocoon.initdata": "x"}}, "spec": {"containers": [
            {"name": "a"},
            {"name": "b", "resources": {}},
            {"name": "c", "resources": {"requests": {"cpu": "1"}}},
            {"name": "d", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
        ]}});
        let (patch, warnings) = asked(&pod);
        let all = json!({"cpu": "100m", "memory": "256Mi"});
        assert_eq!(
            patch,
            json!([
                {"op": "add", "path": "/spec/runtimeClassName", "value": "cocoon"},
                {"op": "add", "path": "/spec/containers/0/resources", "value": {"requests": all}},
                {"op": "add", "path": "/spec/containers/1/resources/requests", "value": all},
                {"op": "add", "path": "/spec/containers/2/resources/requests/memory", "value": "256Mi"},
            ])
        );
        assert_eq!(warnings, Value::Null);
        // A class of one's own.
        let mut other = pod.clone();
        other["spec"]["runtimeClassName"] = json!("gvisor");
        assert_eq!(asked(&other), (Value::Null, Value::Null));
        other["spec"]["runtimeClassName"] = json!("cocoon-snp");
        other["spec"]["hostPID"] = json!(true);
        let (patch, warnings) = asked(&other);
        assert_eq!((patch, warnings.as_array().unwrap().len()), (Value::Null, 1));
    }

    #[test]
    fn warnings_name_what_a_guest_refuses_and_stay_short() {
        let volumes: Vec<Value> =
            (0..100).map(|i| json!({"name": format!("v{i}{}", "x".repeat(500)), "hostPath": {}})).collect();
        let pod = json!({"spec": {
            "hostNetwork": true, "hostPID": true, "hostIPC": true, "volumes": volumes,
            "containers": [{"name": "p", "securityContext": {"privileged": true}}],
        }});
        let warnings = asked(&pod).1;
        let warnings: Vec<&str> = warnings.as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
        assert_eq!(warnings.len(), 6, "{warnings:?}");
        for (said, part) in warnings.iter().zip([
            "hostNetwork",
            "hostPID",
            "hostIPC",
            "hostPath",
            "privileged containers p",
            "no plan",
        ]) {
            assert!(said.contains(part) && said.len() < 512, "{said}");
        }
    }

    #[test]
    fn what_is_no_question_is_no_answer() {
        for bad in [&b"{"[..], b"[]", b"{}", br#"{"request": {"uid": 7}}"#] {
            assert!(answer("cocoon", bad).is_err());
        }
        assert!(answer("../cocoon", br#"{"request": {"uid": "u"}}"#).is_err());
        for odd in [
            json!(7),
            json!({"spec": 7}),
            json!({"spec": {"containers": 7, "volumes": {}}}),
            json!({"spec": {"containers": [7]}}),
        ] {
            asked(&odd);
        }
    }
}
