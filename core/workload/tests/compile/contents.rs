//! Files from ConfigMaps, Secrets and what the cluster knows.

use serde_json::{Value, json};

use crate::{plan, pod, workload};

const CONTENT: &str = "---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {app.conf: \"a = 1\\n\", other: x}
binaryData: {raw: AAEC}
---
apiVersion: v1
kind: Secret
metadata: {name: login}
data: {user: cm9vdA==}
";

fn digest(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    format!("sha256:{}", hex::encode(digest.as_ref()))
}

fn text(volume: &str, annotation: &str) -> String {
    let spec = format!("automountServiceAccountToken: false\nvolumes: [{{name: v, {volume}}}]");
    format!("{}{CONTENT}", pod("volumeMounts: [{name: v, mountPath: /v}]", &spec))
        .replace("note: hello", &format!("note: hello{annotation}"))
}

fn source(volume: &str, annotation: &str) -> Value {
    let plan = plan(&text(volume, annotation));
    assert_eq!(plan["containers"][0]["mounts"][0]["read_only"], true, "{volume}");
    plan["volumes"][0]["source"].clone()
}

fn digests(volume: &str, annotation: &str, expected: &[(&str, &[u8])]) {
    let map: serde_json::Map<_, _> =
        expected.iter().map(|(path, bytes)| ((*path).to_owned(), digest(bytes).into())).collect();
    assert_eq!(source(volume, annotation), json!({"kind": "files", "digests": map}), "{volume}");
}

fn open(volume: &str, annotation: &str) {
    assert_eq!(source(volume, annotation), json!({"kind": "files"}), "{volume}");
}

#[test]
fn config_maps_are_pinned_by_digest() {
    digests(
        "configMap: {name: settings}",
        "",
        &[("app.conf", b"a = 1\n"), ("other", b"x"), ("raw", &[0, 1, 2])],
    );
    digests("configMap: {name: settings, items: [{key: other, path: d/o}]}", "", &[("d/o", b"x")]);
    digests(
        "configMap: {name: settings, defaultMode: 0400}",
        "",
        &[("app.conf", b"a = 1\n"), ("other", b"x"), ("raw", &[0, 1, 2])],
    );
    digests("configMap: {name: nope, optional: true}", "", &[]);
    digests("configMap: {name: settings, optional: true, items: [{key: nope, path: x}]}", "", &[]);
    open("configMap: {name: settings}", ", cocoon.dev/config-maps: untrusted");
    open("configMap: {name: nope}", ", cocoon.dev/config-maps: untrusted");
}

#[test]
fn secrets_are_untrusted_unless_they_are_to_be_pinned() {
    open("secret: {secretName: login}", "");
    open("secret: {secretName: nobody-knows}", "");
    digests("secret: {secretName: login}", ", cocoon.dev/secrets: pinned", &[("user", b"root")]);
    digests(
        "secret: {secretName: login, items: [{key: user, path: u}]}",
        ", cocoon.dev/secrets: pinned",
        &[("u", b"root")],
    );
}

#[test]
fn projections_are_as_trusted_as_their_least_part() {
    let of = |sources: &str| format!("projected: {{sources: [{sources}]}}");
    digests(&of("{configMap: {name: settings, items: [{key: other, path: o}]}}"), "", &[("o", b"x")]);
    digests(
        &of("{configMap: {name: settings, items: [{key: other, path: o}]}}, {secret: {name: login}}"),
        ", cocoon.dev/secrets: pinned",
        &[("o", b"x"), ("user", b"root")],
    );
    for sources in [
        "{serviceAccountToken: {path: token, audience: vault}}",
        "{downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}",
        "{secret: {name: login}}",
        "{configMap: {name: settings}}, {serviceAccountToken: {path: token}}",
        "{serviceAccountToken: {path: token}}, {configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}}",
        "{clusterTrustBundle: {name: x, path: y}}",
    ] {
        open(&of(sources), "");
    }
}

#[test]
fn the_downward_api_as_files() {
    open("downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}", "");
    open(
        "downwardAPI: {items: [{path: cpu, resourceFieldRef: {containerName: app, resource: limits.cpu}}]}",
        "",
    );
}

#[test]
fn what_nobody_knows_is_asked_for() {
    for (volume, annotation) in [
        ("configMap: {name: nope}", ""),
        ("configMap: {name: settings, items: [{key: nope, path: x}]}", ""),
        ("projected: {sources: [{configMap: {name: nope}}]}", ""),
        ("secret: {secretName: nope}", ", cocoon.dev/secrets: pinned"),
    ] {
        let found = workload(&text(volume, annotation));
        assert!(found.problems[0].problem.contains("neither among"), "{volume}: {:?}", found.problems);
        assert!(found.problems[0].field.starts_with("spec.volumes[v]."), "{:?}", found.problems);
    }
}

#[test]
fn one_file_of_a_config_map() {
    let spec = "automountServiceAccountToken: false\nvolumes: [{name: v, configMap: {name: settings}}]";
    let container = "volumeMounts: [{name: v, mountPath: /etc/app.conf, subPath: app.conf}]";
    let plan = plan(&format!("{}{CONTENT}", pod(container, spec)));
    let mount = &plan["containers"][0]["mounts"][0];
    assert_eq!(mount["sub_path"], "app.conf");
    assert_eq!(mount["target"], "/etc/app.conf");
}
