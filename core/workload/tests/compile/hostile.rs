//! Texts that are broken, huge, deep or made to mislead.

use cocoon_workload::{Error, Examined, Inputs, MAX_DEPTH, MAX_TEXT, examine, read};
use proptest::prelude::*;

use crate::{pod, workload};

fn why(text: &[u8]) -> String {
    match read(text) {
        Err(Error::Text(why)) => why,
        other => panic!("{other:?} of {}", String::from_utf8_lossy(&text[..text.len().min(80)])),
    }
}

#[test]
fn texts_that_are_no_manifests() {
    for (text, words) in [
        ("a: [", "no YAML"),
        ("a: b\n c: d", "no YAML"),
        ("{", "no JSON"),
        ("{\"apiVersion\": \"v1\" \"kind\": \"Pod\"}", "no JSON"),
        ("just words", "no object"),
        ("- a\n- b", "no object"),
        ("42", "no object"),
        ("kind: Pod", "no apiVersion"),
        ("apiVersion: v1", "no apiVersion or no kind"),
        ("apiVersion: 1\nkind: Pod", "no apiVersion or no kind"),
        ("apiVersion: v1\nkind: List\nitems: {}", "without items"),
        ("apiVersion: v1\nkind: List", "without items"),
        ("apiVersion: v1\nkind: List\nitems: [1]", "items[0] is no object"),
        ("apiVersion: v1\nkind: Pod\nkind: Pod", "no YAML"),
        ("{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"kind\": \"Pod\"}", "twice"),
    ] {
        let found = why(text.as_bytes());
        assert!(found.contains(words), "{text:?}: {found}");
    }
    assert!(why(b"\xff\xfe").contains("UTF-8"));
    assert!(why(&vec![b' '; MAX_TEXT + 1]).contains("bytes"));
}

#[test]
fn keys_that_are_there_twice() {
    for twice in ["spec: {a: 1, a: 2}", "spec: {\"a\": 1, a: 2}", "spec:\n  a: 1\n  'a': 2"] {
        let found = why(format!("apiVersion: v1\nkind: Pod\n{twice}").as_bytes());
        assert!(found.to_lowercase().contains("duplicate") || found.contains("twice"), "{found}");
    }
}

#[test]
fn nothing_and_empty_documents() {
    assert!(read(b"").unwrap().is_empty());
    assert!(read(b"---\n---\n# nothing\n").unwrap().is_empty());
    let two = read(b"---\napiVersion: v1\nkind: Pod\n---\n---\napiVersion: v1\nkind: Pod\n...\n").unwrap();
    assert_eq!(two.len(), 2);
    let listed = read(b"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod}\n- {apiVersion: apps/v1, kind: Deployment}").unwrap();
    assert_eq!(listed[1].kind(), "Deployment");
    let json =
        read(b"{\"apiVersion\": \"v1\", \"kind\": \"Pod\"}\n{\"apiVersion\": \"v1\", \"kind\": \"Pod\"}")
            .unwrap();
    assert_eq!(json.len(), 2);
}

#[test]
fn depth_is_bounded() {
    let deep = |n: usize| {
        format!("{{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"x\": {}1{}}}", "[".repeat(n), "]".repeat(n))
    };
    assert!(read(deep(MAX_DEPTH - 2).as_bytes()).is_ok());
    for n in [MAX_DEPTH + 1, 1000, 100_000] {
        why(deep(n).as_bytes());
    }
    let yaml = |n: usize| {
        let mut text = "apiVersion: v1\nkind: Pod\n".to_owned();
        (0..n).for_each(|i| text.push_str(&format!("{}x:\n", " ".repeat(i))));
        text
    };
    why(yaml(MAX_DEPTH + 2).as_bytes());
    why(yaml(1000).as_bytes());
}

#[test]
fn aliases_do_not_explode() {
    let mut text = "apiVersion: v1\nkind: Pod\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let list = vec![format!("*a{}", i - 1); 10].join(", ");
        text.push_str(&format!("a{i}: &a{i} [{list}]\n"));
    }
    why(text.as_bytes());
    // A few are fine.
    let text = format!("{}\n", pod("env: &e [{name: A, value: b}]", ""));
    assert!(workload(&text).plan.is_some());
}

#[test]
fn old_octal_numbers_are_modes() {
    let documents = read(b"apiVersion: v1\nkind: X\na: 0400\nb: 0o17\nc: yes\nd: '0400'\n").unwrap();
    let value = &documents[0].value;
    assert_eq!(value["a"], 256);
    assert_eq!(value["b"], 15);
    assert_eq!(value["c"], "yes");
    assert_eq!(value["d"], "0400");
}

#[test]
fn lists_without_end() {
    let many = |n: usize| format!("env: [{}]", vec!["{name: A, value: b}"; n].join(", "));
    assert!(workload(&pod(&many(1024), "")).plan.is_some());
    let found = workload(&pod(&many(1025), ""));
    assert!(found.problems[0].problem.contains("more than 1024"), "{:?}", found.problems);
    // A thousand mistakes are not told a thousand times.
    let wrong = format!("env: [{}]", vec!["{name: A, x: 1}"; 1000].join(", "));
    assert!(workload(&pod(&wrong, "")).problems.len() <= 100);
}

#[test]
fn odd_shapes_of_a_pod() {
    for spec in [
        "",
        "spec: null",
        "spec: []",
        "spec: {}",
        "spec: {containers: null}",
        "spec: {containers: {}}",
        "spec: {containers: [null]}",
        "spec: {containers: [a]}",
        "spec: {containers: [[]]}",
        "metadata: []\nspec: {}",
        "metadata: {annotations: []}\nspec: {containers: []}",
        "metadata: {labels: {a: 1}}\nspec: {containers: []}",
    ] {
        for (api, kind) in [("v1", "Pod"), ("apps/v1", "Deployment"), ("batch/v1", "CronJob")] {
            let text = format!("apiVersion: {api}\nkind: {kind}\n{spec}\n");
            let found = workload(&text);
            assert!(!found.problems.is_empty() && found.plan.is_none(), "{text}: {found:?}");
            assert!(found.problems.iter().all(|p| !p.field.is_empty()), "{:?}", found.problems);
        }
    }
}

#[test]
fn words_of_a_manifest_do_not_speak_to_the_terminal() {
    let found = workload(&pod("\"a\\e[31mb\": 1\nargs: [\"\\e]0;x\\a\"]", ""));
    let told = format!("{}{}", found.explain(), found.plan().unwrap_err());
    assert!(!told.contains('\u{1b}') && !told.contains('\u{7}'), "{told:?}");
}

/// Names and values as manifests have them, put together at random.
fn value() -> impl Strategy<Value = serde_json::Value> {
    let names = prop::sample::select(vec![
        "apiVersion",
        "kind",
        "metadata",
        "spec",
        "template",
        "containers",
        "initContainers",
        "name",
        "image",
        "command",
        "args",
        "env",
        "valueFrom",
        "fieldRef",
        "fieldPath",
        "volumes",
        "volumeMounts",
        "mountPath",
        "emptyDir",
        "securityContext",
        "resources",
        "limits",
        "ports",
        "containerPort",
        "annotations",
        "labels",
        "configMap",
        "items",
        "restartPolicy",
        "livenessProbe",
        "exec",
        "jobTemplate",
        "projected",
        "sources",
        "value",
        "data",
    ]);
    let texts = prop::sample::select(vec![
        "v1",
        "apps/v1",
        "batch/v1",
        "Pod",
        "Deployment",
        "CronJob",
        "StatefulSet",
        "a",
        "",
        "/x",
        "$(A)",
        "status.podIP",
        "Always",
        "1Gi",
        "metadata.labels['a']",
        "cocoon.dev/exec",
    ]);
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        texts.prop_map(Into::into),
    ];
    leaf.prop_recursive(8, 128, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::vec((names.clone(), inner), 0..8).prop_map(|m| serde_json::Value::Object(
                m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(mut value in value(), kind in 0..3_usize) {
        if let Some(object) = value.as_object_mut() {
            let (api, kind) = [("v1", "Pod"), ("apps/v1", "StatefulSet"), ("batch/v1", "Job")][kind];
            object.insert("apiVersion".into(), api.into());
            object.insert("kind".into(), kind.into());
        }
        if let Ok(documents) = read(value.to_string().as_bytes()) {
            let mut inputs = Inputs::default();
            let _ = inputs.learn(&documents);
            for document in &documents {
                if let Examined::Workload(workload) = examine(document, &inputs) {
                    // Without images nothing becomes a plan.
                    prop_assert!(workload.plan().is_err());
                    let _ = workload.explain();
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
    }
}
