//! What goes to the cluster: as written but for images, the annotation and the runtime class.

use cocoon_workload::{Examined, RuntimeClass, examine, read, to_yaml, write};
use serde_json::{Value, json};

use crate::{digest, inputs, plan_of, pod, with};

fn class() -> RuntimeClass {
    RuntimeClass { name: "cocoon".into(), always: false }
}

fn written(text: &str, class: &RuntimeClass) -> Vec<Value> {
    let inputs = inputs(text);
    let mut documents = read(text.as_bytes()).unwrap();
    documents.iter_mut().for_each(|d| write(d, &inputs, "INITDATA", class));
    documents.into_iter().map(|d| d.value).collect()
}

#[test]
fn a_pod_gets_its_annotation_its_class_and_its_digests() {
    let text = pod("", "initContainers: [{name: i, image: other}]");
    let now = &written(&text, &class())[0];
    let mut before = read(text.as_bytes()).unwrap().remove(0).value;
    assert_eq!(now["metadata"]["annotations"]["dev.cocoon.initdata"], "INITDATA");
    assert_eq!(now["metadata"]["annotations"]["note"], "hello");
    assert_eq!(now["spec"]["runtimeClassName"], "cocoon");
    assert_eq!(now["spec"]["containers"][0]["image"], format!("registry.example/app:1@{}", digest('a')));
    assert_eq!(now["spec"]["initContainers"][0]["image"], format!("other@{}", digest('a')));
    // Nothing else.
    before["metadata"]["annotations"]["dev.cocoon.initdata"] = "INITDATA".into();
    before["spec"]["runtimeClassName"] = "cocoon".into();
    before["spec"]["containers"][0]["image"] = now["spec"]["containers"][0]["image"].clone();
    before["spec"]["initContainers"][0]["image"] = now["spec"]["initContainers"][0]["image"].clone();
    assert_eq!(*now, before);
}

#[test]
fn templates_of_every_kind() {
    for (api, kind, at) in [
        ("apps/v1", "Deployment", "/spec/template"),
        ("apps/v1", "StatefulSet", "/spec/template"),
        ("apps/v1", "DaemonSet", "/spec/template"),
        ("apps/v1", "ReplicaSet", "/spec/template"),
        ("v1", "ReplicationController", "/spec/template"),
        ("batch/v1", "Job", "/spec/template"),
        ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template"),
    ] {
        let pod = "{spec: {restartPolicy: POLICY, containers: [{name: app, image: a}]}}"
            .replace("POLICY", if api == "batch/v1" { "Never" } else { "Always" });
        let spec = if kind == "CronJob" {
            format!("{{jobTemplate: {{spec: {{template: {pod}}}}}}}")
        } else {
            format!("{{template: {pod}}}")
        };
        let text = format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n");
        let now = &written(&text, &class())[0];
        let pod = now.pointer(at).unwrap();
        assert_eq!(pod["metadata"]["annotations"], json!({"dev.cocoon.initdata": "INITDATA"}), "{kind}");
        assert_eq!(pod["spec"]["runtimeClassName"], "cocoon");
        assert_eq!(pod["spec"]["containers"][0]["image"], format!("a@{}", digest('a')));
        assert_eq!(now["metadata"], json!({"name": "x"}), "{kind}");
    }
}

#[test]
fn other_kinds_and_cocos_own_are_left_alone() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}], novelty: true}\n---\n\
                apiVersion: example.org/v1\nkind: Pod\nspec: {containers: [{image: a}]}\n";
    let before: Vec<Value> = read(text.as_bytes()).unwrap().into_iter().map(|d| d.value).collect();
    assert_eq!(written(text, &class()), before);
    for document in read(text.as_bytes()).unwrap() {
        assert!(matches!(examine(&document, &inputs(text)), Examined::Passed));
    }
    let coco = pod("novelty: 1", "hostNetwork: true")
        .replace("note: hello", "io.katacontainers.config.hypervisor.cc_init_data: abc");
    let document = read(coco.as_bytes()).unwrap().remove(0);
    assert!(matches!(examine(&document, &inputs(&coco)), Examined::Coco));
}

#[test]
fn a_class_of_confidential_pods_stays() {
    let of = |name: &str, class: &RuntimeClass| {
        let text = pod("", &format!("runtimeClassName: {name}"));
        written(&text, class)[0]["spec"]["runtimeClassName"].clone()
    };
    assert_eq!(of("cocoon-snp", &class()), "cocoon-snp");
    assert_eq!(of("kata-qemu-snp", &class()), "kata-qemu-snp");
    assert_eq!(of("runc", &class()), "cocoon");
    let always = RuntimeClass { name: "cocoon-tdx".into(), always: true };
    assert_eq!(of("cocoon-snp", &always), "cocoon-tdx");
}

#[test]
fn the_same_again_is_the_same() {
    let text = pod(
        "env: [{name: A, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]",
        "volumes: [{name: v, emptyDir: {}}]",
    );
    let first = plan_of(&with(&text, &inputs(&text)), &text).to_string();
    assert_eq!(first, plan_of(&with(&text, &inputs(&text)), &text).to_string());
    // What was written is read as the same workload: the same plan, and the same once more.
    let once = to_yaml(&written(&text, &class())).unwrap();
    let mut known = inputs(&text);
    let facts = known.images.values().next().unwrap().clone();
    known.images.insert(format!("registry.example/app:1@{}", digest('a')), facts);
    assert_eq!(plan_of(&with(&once, &known), &once).to_string(), first);
    let mut again = read(once.as_bytes()).unwrap();
    again.iter_mut().for_each(|d| write(d, &known, "INITDATA", &class()));
    let again: Vec<Value> = again.into_iter().map(|d| d.value).collect();
    assert_eq!(to_yaml(&again).unwrap(), once);
}

#[test]
fn two_workloads_never_share_a_plan() {
    let base = pod("", "");
    let plan = |text: &str| crate::plan(text);
    let names: Vec<_> = [
        base.clone(),
        base.replace("name: p\n", "name: q\n"),
        base.replace("name: p\n", "name: p\n  namespace: other\n"),
    ]
    .iter()
    .map(|text| plan(text)["instance"].as_str().unwrap().to_owned())
    .collect();
    assert!(names[0] != names[1] && names[0] != names[2] && names[1] != names[2]);
    assert_eq!(plan(&base)["name"], "p.shop");
    let long = base.replace("name: p\n", &format!("name: {}\n", "long-".repeat(30).trim_end_matches('-')));
    let name = plan(&long)["name"].as_str().unwrap().to_owned();
    assert!(name.len() <= 63, "{name}");
}

#[test]
fn yaml_that_is_written_is_read_as_it_was() {
    let values = [
        json!({"apiVersion": "v1", "kind": "X", "a": ["yes", "0400", "1", 1, true, null, "", " x ", "a: b", "- c", "#d", "é\n\n", "1e3", "~", "null", "|", "'", "\"", "\t"]}),
        json!({"apiVersion": "v1", "kind": "X", "text": "line\nline two\n", "trailing": "x \ny", "deep": {"a": {"b": []}}, "empty": {}}),
    ];
    let text = to_yaml(&values).unwrap();
    let back: Vec<Value> = read(text.as_bytes()).unwrap().into_iter().map(|d| d.value).collect();
    assert_eq!(back, values, "{text}");
}
