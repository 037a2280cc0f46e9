//! The chart, as someone uses it who installs everything with Helm: lint, install, an attested pod, uninstall.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::process::{Command, Stdio};

use cocoon_tests::kubernetes::{ClusterAdmin, Options, container, pod, tell};
use serde_json::{Value, json};

/// Helm's release and its namespace.
const RELEASE: [&str; 3] = ["cocoon", "-n", "cocoon-system"];

/// Runs helm; its standard output.
fn helm(admin: &ClusterAdmin, args: &[&str]) -> Result<String, String> {
    let home = admin.cluster.node().folder().join("helm");
    std::fs::create_dir_all(&home).unwrap();
    let output = Command::new(admin.cluster.programs().path("helm"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", &home)
        .env("KUBECONFIG", admin.cluster.kubeconfig())
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{}{}", text(&output.stdout), text(&output.stderr))),
    }
}

/// Whether the values of a file are what is rendered.
fn rendered(admin: &ClusterAdmin, chart: &str, values: &Value) -> String {
    let file = admin.cluster.node().folder().join("rendered.json");
    std::fs::write(&file, values.to_string()).unwrap();
    let file = file.display().to_string();
    helm(admin, &["template", "cocoon", chart, "-n", "elsewhere", "--kube-version=1.34", "-f", &file])
        .unwrap()
}

fn values_are_honoured(admin: &ClusterAdmin, chart: &str) {
    let said = rendered(
        admin,
        chart,
        &json!({
            "image": "r.example/c:9", "imagePullPolicy": "Always", "replicas": 3, "imagePullSecrets": [{"name": "mine"}],
            "runtime": {"name": "other", "spec": {"platforms": ["Snp"]}},
        }),
    );
    for part in [
        "r.example/c:9",
        "imagePullPolicy: \"Always\"",
        "replicas: 3",
        "[{\"name\":\"mine\"}]",
        "name: other",
        "- Snp",
        "namespace: \"elsewhere\"",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    let without = rendered(admin, chart, &json!({"runtime": {"create": false}}));
    assert!(!without.contains("kind: CocoonRuntime\n"), "{without}");
}

#[test]
fn installed_used_and_removed_with_helm() {
    tell(Options::plain_with_owner(), |cluster| {
        let Some(admin) = ClusterAdmin::new(cluster) else { return };
        let folder = tempfile::tempdir().unwrap();
        let chart = folder.path().join("cocoon").display().to_string();
        admin.cocoon(&["operator", "manifests", "--image", &admin.image, "--chart", &chart]);
        let lint = helm(&admin, &["lint", "--strict", &chart]).unwrap();
        assert!(lint.contains("1 chart(s) linted, 0 chart(s) failed"), "{lint}");
        values_are_honoured(&admin, &chart);

        let values = folder.path().join("values.json");
        let spec = admin.runtime_spec();
        std::fs::write(&values, json!({"replicas": 2, "runtime": {"spec": spec}}).to_string()).unwrap();
        install(&admin, &chart, &values);
        uninstall(&admin);
    });
}

fn install(admin: &ClusterAdmin, chart: &str, values: &Path) {
    let values = values.display().to_string();
    let began = std::time::Instant::now();
    let args =
        [&["install"], &RELEASE[..], &[chart, "--create-namespace", "--wait", "--timeout=4m", "-f", &values]];
    helm(admin, &args.concat()).unwrap_or_else(|e| admin.give_up(&anyhow::anyhow!(e)));
    admin.ready();
    println!("from helm install to a usable RuntimeClass: {:?}", began.elapsed());
    let deployment = admin.cluster.get(&["deployment", "-n", "cocoon-system", "cocoon-operator"]).unwrap();
    assert_eq!(deployment["spec"]["replicas"], 2);

    let work = pod("work", vec![container("main", admin.cluster.image(), "cat /run/secrets/token; sleep 1")]);
    let manifest = admin.cluster.planned(work, &[("default/secret/token", "swordfish")], |plan| {
        plan.secrets = serde_json::from_value(
            json!([{"uri": "kbs:///default/secret/token", "file": "/run/secrets/token"}]),
        )
        .unwrap_or_default();
    });
    admin.cluster.apply(&manifest.unwrap().to_string()).unwrap();
    let limit = cocoon_tests::kubernetes::LONG;
    let (phase, seen) = admin.cluster.wait_for_end("work", limit).unwrap_or_else(|e| admin.give_up(&e));
    assert_eq!(phase, "Succeeded", "{}", seen["status"]);
}

/// One command, and nodes are as they were: what Helm removes first is what needs the operator.
fn uninstall(admin: &ClusterAdmin) {
    admin.cluster.kubectl(&["delete", "pods", "--all", "--grace-period=1", "--timeout=120s"]).unwrap();
    let args = [&["uninstall"], &RELEASE[..], &["--wait", "--timeout=4m"]];
    helm(admin, &args.concat()).unwrap_or_else(|e| admin.give_up(&anyhow::anyhow!(e)));
    assert_eq!(admin.cluster.changed_files(), []);
    for kind in ["cocoonruntimes", "cocoonnodes", "runtimeclasses"] {
        assert_eq!(admin.cluster.get(&[kind]).unwrap()["items"], json!([]), "{kind}");
    }
    // Helm waits for what it has made, not for what came of it.
    let pods = ["wait", "--for=delete", "pods", "--all", "-n", "cocoon-system", "--timeout=120s"];
    admin.cluster.kubectl(&pods).unwrap();
    let left =
        admin.cluster.kubectl(&["get", "all,jobs,serviceaccounts", "-n", "cocoon-system", "-o", "name"]);
    assert_eq!(left.unwrap().trim(), "serviceaccount/default");
    // Definitions stay, as Helm has it: with them would go what others have made of them.
    let crds = admin.cluster.get(&["crds"]).unwrap();
    assert!(crds["items"].as_array().is_some_and(|list| !list.is_empty()));
}
