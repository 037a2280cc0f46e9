use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{inputs, plan, plan_of, pod, with, workload};

const CONTENT: &str = "---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {MODE: fast, LEVEL: '3'}
binaryData: {raw: AAEC}
---
apiVersion: v1
kind: Secret
metadata: {name: login}
data: {USER: cm9vdA==}
stringData: {PASSWORD: hunter2}
";

fn env(container: &str) -> (Vec<String>, BTreeSet<String>) {
    of(&format!("{}{CONTENT}", pod(container, "")))
}

fn of(text: &str) -> (Vec<String>, BTreeSet<String>) {
    let plan = plan(text);
    let list = |name: &str| -> Vec<String> {
        plan["containers"][0][name]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e.as_str().unwrap().to_owned())
            .collect()
    };
    let usual = ["HOSTNAME", "KUBERNETES_PORT*", "KUBERNETES_SERVICE_*"];
    let mut open: BTreeSet<String> = list("host_env").into_iter().collect();
    for name in usual {
        assert!(open.remove(name), "{name}");
    }
    let fixed = list("env")
        .into_iter()
        .filter(|e| !e.starts_with("PATH=") && !e.starts_with("FROM_IMAGE="))
        .collect();
    (fixed, open)
}

fn fixed(container: &str, expected: &[&str]) {
    let (fixed, open) = env(container);
    assert_eq!(fixed, expected, "{container}");
    assert!(open.is_empty(), "{container}: {open:?}");
}

fn open(container: &str, expected: &[&str]) {
    let (fixed, open) = env(container);
    assert!(fixed.is_empty(), "{container}: {fixed:?}");
    assert_eq!(open, expected.iter().map(|n| (*n).to_owned()).collect(), "{container}");
}

#[test]
fn values() {
    fixed("", &[]);
    fixed("env: [{name: A, value: b}]", &["A=b"]);
    fixed("env: [{name: A}]", &["A="]);
    fixed("env: [{name: A, value: ''}]", &["A="]);
    fixed("env: [{name: B, value: b}, {name: A, value: '$(B)c'}]", &["A=bc", "B=b"]);
    // What comes later is not known yet.
    fixed("env: [{name: A, value: '$(B)'}, {name: B, value: b}]", &["A=$(B)", "B=b"]);
    fixed("env: [{name: A, value: 1st}, {name: A, value: 2nd}]", &["A=2nd"]);
    fixed("env: [{name: A, value: a}, {name: A, value: '$(A)b'}]", &["A=ab"]);
    fixed("env: [{name: A, value: '$$(B)'}]", &["A=$(B)"]);
    fixed("env: [{name: my.name-1, value: x}]", &["my.name-1=x"]);
    fixed("env: [{name: A, value: \"two\\nlines=3\"}]", &["A=two\nlines=3"]);
}

#[test]
fn the_images_variables_stay_unless_the_manifest_says_otherwise() {
    let list = |text: &str| plan(text)["containers"][0]["env"].clone();
    assert_eq!(list(&pod("", "")), json!(["PATH=/image/bin", "FROM_IMAGE=yes"]));
    assert_eq!(
        list(&pod("env: [{name: FROM_IMAGE, value: 'no'}]", "")),
        json!(["PATH=/image/bin", "FROM_IMAGE=no"])
    );
    // Open means that the image's value does not stand in its way.
    let text = pod("env: [{name: FROM_IMAGE, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]", "");
    assert_eq!(list(&text), json!(["PATH=/image/bin"]));
}

#[test]
fn config_maps_are_pinned() {
    let key = |key: &str, more: &str| {
        format!("env: [{{name: A, valueFrom: {{configMapKeyRef: {{name: settings, key: {key}{more}}}}}}}]")
    };
    fixed(&key("MODE", ""), &["A=fast"]);
    fixed(&key("NOPE", ", optional: true"), &[]);
    fixed("envFrom: [{configMapRef: {name: settings}}]", &["LEVEL=3", "MODE=fast"]);
    fixed("envFrom: [{prefix: APP_, configMapRef: {name: settings}}]", &["APP_LEVEL=3", "APP_MODE=fast"]);
    fixed("envFrom: [{configMapRef: {name: nope, optional: true}}]", &[]);
    fixed(
        "envFrom: [{configMapRef: {name: settings}}]\nenv: [{name: MODE, value: '$(LEVEL)x'}]",
        &["LEVEL=3", "MODE=3x"],
    );
    for missing in [key("NOPE", ""), "envFrom: [{configMapRef: {name: nope}}]".into()] {
        let found = workload(&format!("{}{CONTENT}", pod(&missing, "")));
        let problem = &found.problems[0];
        assert!(problem.problem.contains("neither among the manifests nor in the cluster"), "{problem}");
        assert!(problem.field.contains("config"), "{problem}");
    }
}

#[test]
fn what_the_cluster_alone_knows_is_open_by_name() {
    let field = |path: &str| format!("env: [{{name: A, valueFrom: {{fieldRef: {{fieldPath: {path}}}}}}}]");
    for path in [
        "status.podIP",
        "status.podIPs",
        "status.hostIP",
        "status.hostIPs",
        "spec.nodeName",
        "metadata.uid",
        "\"metadata.labels['nope']\"",
        "\"metadata.annotations['dev.cocoon.initdata']\"",
    ] {
        open(&field(path), &["A"]);
    }
    fixed(&field("metadata.name"), &["A=p"]);
    fixed(&field("metadata.namespace"), &["A=shop"]);
    fixed(&field("spec.serviceAccountName"), &["A=default"]);
    fixed(&field("\"metadata.labels['tier']\""), &["A=web"]);
    fixed(&field("\"metadata.annotations['note']\""), &["A=hello"]);
    // So is what is made of it.
    open(
        "env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}, {name: URL, value: 'http://$(IP):80'}, \
         {name: MORE, value: '$(URL)/x'}]",
        &["IP", "MORE", "URL"],
    );
    open("env: [{name: A, value: '$(DB_SERVICE_HOST)'}]", &["A"]);
    open("env: [{name: A, valueFrom: {secretKeyRef: {name: login, key: PASSWORD}}}]", &["A"]);
    open("env: [{name: A, valueFrom: {secretKeyRef: {name: nobody-knows, key: x}}}]", &["A"]);
    open("envFrom: [{prefix: DB_, secretRef: {name: login}}]", &["DB_PASSWORD", "DB_USER"]);
}

#[test]
fn a_secrets_value_is_never_in_a_plan() {
    for settings in ["untrusted", "pinned", "refused"] {
        let text = format!(
            "{}{CONTENT}",
            pod("env: [{name: A, valueFrom: {secretKeyRef: {name: login, key: PASSWORD}}}]\nenvFrom: [{secretRef: {name: login}}]", "")
        )
        .replace("note: hello", &format!("note: hello, cocoon.dev/secrets: {settings}"));
        let found = workload(&text);
        let told = format!("{:?} {:?} {}", found.plan, found.problems, found.explain());
        assert!(!told.contains("hunter2") && !told.contains("cm9vdA"), "{told}");
        assert_eq!(found.problems.is_empty(), settings == "untrusted", "{settings}");
    }
}

#[test]
fn resources_as_variables() {
    let of = |resource: &str, more: &str, resources: &str| {
        format!(
            "resources: {resources}\nenv: [{{name: A, valueFrom: {{resourceFieldRef: {{resource: {resource}{more}}}}}}}]"
        )
    };
    let limits = "{limits: {cpu: 1500m, memory: 64Mi}}";
    fixed(&of("limits.cpu", "", limits), &["A=2"]);
    fixed(&of("limits.cpu", ", divisor: 1m", limits), &["A=1500"]);
    fixed(&of("limits.memory", "", limits), &["A=67108864"]);
    fixed(&of("limits.memory", ", divisor: 1Mi", limits), &["A=64"]);
    fixed(&of("limits.memory", ", divisor: '0'", limits), &["A=67108864"]);
    fixed(&of("requests.cpu", "", limits), &["A=2"]);
    fixed(&of("requests.cpu", ", divisor: 1m", "{requests: {cpu: 250m}}"), &["A=250"]);
    fixed(&of("limits.memory", ", containerName: app", limits), &["A=67108864"]);
    open(&of("limits.cpu", "", "{}"), &["A"]);
}

#[test]
fn service_links_are_those_of_the_manifests() {
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: my-db}\n";
    let elsewhere = "---\napiVersion: v1\nkind: Service\nmetadata: {name: other, namespace: elsewhere}\n";
    let names = |annotation: &str, spec: &str| {
        let text = format!("{}{service}{elsewhere}", pod("", spec))
            .replace("note: hello", &format!("note: hello{annotation}"));
        of(&text).1
    };
    let known: BTreeSet<String> = ["MY_DB_SERVICE_*", "MY_DB_PORT*"].map(str::to_owned).into();
    assert_eq!(names("", ""), known);
    assert_eq!(names(", cocoon.dev/service-links: known", ""), known);
    assert!(names(", cocoon.dev/service-links: none", "").is_empty());
    assert!(names("", "enableServiceLinks: false").is_empty());
    assert!(names(", cocoon.dev/service-links: any", "").contains("*_SERVICE_HOST"));
    let own: BTreeSet<String> = ["REGION", "ZONE_*"].map(str::to_owned).into();
    assert_eq!(names(", cocoon.dev/host-env: 'REGION, ZONE_*', cocoon.dev/service-links: none", ""), own);
}

#[test]
fn declared_untrusted_content_is_open() {
    let text = format!("{}{CONTENT}", pod("envFrom: [{configMapRef: {name: settings}}]", ""))
        .replace("note: hello", "cocoon.dev/config-maps: untrusted");
    let (fixed, open) = of(&text);
    assert!(fixed.is_empty() && open.contains("MODE") && open.contains("LEVEL"), "{fixed:?} {open:?}");
    // By the owner's word for all workloads too; a manifest's own counts more.
    let plain = format!("{}{CONTENT}", pod("envFrom: [{configMapRef: {name: settings}}]", ""));
    let mut wishes = inputs(&plain);
    wishes.wishes.annotations.insert("cocoon.dev/config-maps".into(), "untrusted".into());
    let plan = plan_of(&with(&plain, &wishes), &plain);
    assert!(plan["containers"][0]["host_env"].as_array().unwrap().contains(&Value::from("MODE")));
    let own = plain.replace("note: hello", "cocoon.dev/config-maps: pinned");
    let plan = plan_of(&with(&own, &wishes), &own);
    assert!(plan["containers"][0]["env"].as_array().unwrap().contains(&Value::from("MODE=fast")));
}

#[test]
fn jobs_with_an_index() {
    let text = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec:\n  completionMode: Indexed\n  template:\n    spec:\n      \
                restartPolicy: Never\n      containers: [{name: app, image: a}]\n";
    assert!(of(text).1.contains("JOB_COMPLETION_INDEX"));
}
