//! `cocoon.yaml` as people apply it: a changed byte must be a decision.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use cocoon_operator::manifests::rights::table;
use cocoon_operator::manifests::{Shape, definitions, file, objects, yaml};
use serde_json::Value;

#[test]
fn the_manifest_is_as_it_was() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cocoon.yaml");
    // Definitions have a golden file of their own (cluster/api).
    let now: String = objects(&Shape::default(), true)
        .iter()
        .filter(|o| o["kind"] != "CustomResourceDefinition")
        .map(|o| format!("---\n{}", yaml::document(o)))
        .collect();
    if std::env::var_os("COCOON_UPDATE_DOCS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let before = std::fs::read_to_string(path).unwrap();
    assert!(
        before == now,
        "it has changed; COCOON_UPDATE_DOCS=1 cargo test -p cocoon-operator writes it anew"
    );
}

#[test]
fn the_page_lists_the_rights() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/install-on-a-cluster.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- rights: generated -->\n", "<!-- end of rights -->");
    let (before, rest) = page.split_once(begin).unwrap();
    let (listed, after) = rest.split_once(end).unwrap();
    if std::env::var_os("COCOON_UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{begin}{}{end}{after}", table())).unwrap();
    } else {
        assert_eq!(listed, table(), "COCOON_UPDATE_DOCS=1 cargo test -p cocoon-operator writes it anew");
    }
}

#[test]
fn the_webhook_is_there_where_it_is_asked_for_and_never_in_the_way() {
    let kind = "MutatingWebhookConfiguration";
    assert!(
        !objects(&Shape::default(), true).iter().any(|o| o["kind"] == kind
            || o["kind"] == "Role" && o["metadata"]["name"] == "cocoon-operator-webhook")
    );
    let with = objects(&Shape { webhook: true.into(), ..Shape::default() }, true);
    let configuration = with.iter().find(|o| o["kind"] == kind).unwrap();
    for hook in configuration["webhooks"].as_array().unwrap() {
        assert_eq!(hook["failurePolicy"], "Ignore");
        assert!(hook["timeoutSeconds"].as_u64().unwrap() <= 2);
        assert!(hook["namespaceSelector"]["matchLabels"].is_object());
    }
    let deployment = with.iter().find(|o| o["kind"] == "Deployment").unwrap();
    let env = deployment["spec"]["template"]["spec"]["containers"][0]["env"].to_string();
    assert!(env.contains(r#"{"name":"COCOON_WEBHOOK","value":"true"}"#), "{env}");
}

#[test]
fn the_yaml_says_what_the_objects_say() {
    let objects = objects(&Shape::default(), true);
    for (object, text) in objects.iter().zip(file(&objects).split("---\n")) {
        let read: Value = serde_saphyr::from_str(text).unwrap();
        assert_eq!(&read, object, "{text}");
    }
}

#[test]
fn definitions_have_one_stored_version_with_a_status() {
    for definition in definitions() {
        let versions = definition["spec"]["versions"].as_array().unwrap();
        assert_eq!(versions.iter().filter(|v| v["storage"] == true).count(), 1);
        assert!(versions.iter().all(|v| v["subresources"]["status"].is_object()));
    }
}

#[test]
fn no_object_is_named_twice_and_all_accounts_exist() {
    let objects = objects(&Shape { trustees: vec!["a".into(), "b".into()], ..Shape::default() }, true);
    let key = |o: &Value| format!("{} {} {}", o["kind"], o["metadata"]["namespace"], o["metadata"]["name"]);
    let mut keys: Vec<String> = objects.iter().map(key).collect();
    keys.sort();
    let count = keys.len();
    keys.dedup();
    assert_eq!(keys.len(), count);
    for binding in objects
        .iter()
        .filter(|o| o["kind"].as_str().unwrap().ends_with("Binding") && o["subjects"].is_array())
    {
        let subject = &binding["subjects"][0];
        let found = objects.iter().any(|o| {
            o["kind"] == "ServiceAccount"
                && o["metadata"]["name"] == subject["name"]
                && o["metadata"]["namespace"] == subject["namespace"]
        });
        assert!(found, "{binding}");
        let role = &binding["roleRef"];
        assert!(
            objects.iter().any(|o| o["kind"] == role["kind"] && o["metadata"]["name"] == role["name"]),
            "{binding}"
        );
    }
}
