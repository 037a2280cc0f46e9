//! Stories of a cluster's administrator: the operator on a real Kubernetes, from `kubectl apply` to a node as it was.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use cocoon_tests::kubernetes::{CONFIG, Cluster, ClusterAdmin, LONG, Options, container, holds, pod, tell};
use serde_json::{Value, json};

fn labels(cluster: &Cluster) -> Vec<String> {
    let node = cluster.get(&["node", "node"]).unwrap();
    let labels = node["metadata"]["labels"].as_object().unwrap();
    labels.keys().filter(|k| k.starts_with("cocoon.dev/")).cloned().collect()
}

#[test]
fn installed_used_healed_and_removed_byte_for_byte() {
    tell(Options::plain_with_owner(), |cluster| {
        let Some(admin) = ClusterAdmin::new(cluster) else { return };
        admin.apply_operator();
        let applied = std::time::Instant::now();
        admin.cluster.apply(&admin.runtime().to_string()).unwrap();
        let runtime = admin.ready();
        println!("from CocoonRuntime to Ready: {:?}", applied.elapsed());
        assert_eq!(runtime["status"]["nodes"]["ready"], 1, "{}", runtime["status"]);
        assert_eq!(runtime["status"]["classes"], json!(["cocoon", "cocoon-sim"]));

        // What a person and a scheduler see.
        let class = admin.cluster.get(&["runtimeclass", "cocoon"]).unwrap();
        assert_eq!(class["handler"], "cocoon");
        assert!(labels(admin.cluster).contains(&"cocoon.dev/class.cocoon".to_owned()));
        let node = admin.cluster.get(&["node", "node"]).unwrap();
        assert!(
            node["status"]["capacity"].get("cocoon.dev/slots").is_some(),
            "{}",
            node["status"]["capacity"]
        );
        let changed = admin.cluster.changed_files();
        let of_ours = |p: &str| p.contains("cocoon") || p == CONFIG || p.starts_with("/etc/containerd");
        assert!(!changed.is_empty() && changed.iter().all(|(p, _)| of_ours(p)), "{changed:?}");

        // A pod of it, attested, with a secret.
        let script = "cat /run/secrets/token; echo; sleep 1";
        let work = pod("work", vec![container("main", admin.cluster.image(), script)]);
        let manifest = admin.cluster.planned(work, &[("default/secret/token", "swordfish")], |plan| {
            plan.secrets = serde_json::from_value(
                json!([{"uri": "kbs:///default/secret/token", "file": "/run/secrets/token"}]),
            )
            .unwrap_or_default();
        });
        let manifest = manifest.unwrap();
        admin.cluster.apply(&manifest.to_string()).unwrap();
        let (phase, seen) = admin.cluster.wait_for_end("work", LONG).unwrap_or_else(|e| admin.give_up(&e));
        assert_eq!(phase, "Succeeded", "{}", seen["status"]);
        assert_eq!(seen["spec"]["overhead"]["cocoon.dev/slots"], "1");

        heals(&admin);
        refuses_while_a_pod_runs_and_then_leaves_nothing(&admin);
    });
}

/// Someone edits, damages and removes installed files.
fn heals(admin: &ClusterAdmin) {
    let node = admin.cluster.get(&["cocoonnode", "node"]).unwrap();
    let healed = |n: &Value| n["status"]["healed"].as_u64().unwrap_or(0);
    let mut seen = healed(&node);
    let version = node["status"]["version"].as_str().unwrap().to_owned();
    let drop_in = admin.cluster.drop_ins().join("cocoon.toml");
    let shim = admin.cluster.node().path(&format!("/opt/cocoon/{version}/bin/containerd-shim-cocoon-v2"));
    for (file, damage) in [(&drop_in, Some("# mine\n")), (&drop_in, None), (&shim, Some("no program"))] {
        let before = std::fs::read(file).unwrap();
        match damage {
            Some(text) => std::fs::write(file, text).unwrap(),
            None => std::fs::remove_file(file).unwrap(),
        }
        let began = std::time::Instant::now();
        admin
            .cluster
            .wait_for(&["cocoonnodes"], "node", LONG, |n| healed(n) > seen && holds(n, "Ready"))
            .unwrap_or_else(|e| admin.give_up(&e));
        println!("{} was put right after {:?}", file.display(), began.elapsed());
        seen = seen.saturating_add(1);
        assert!(std::fs::read(file).unwrap() == before, "{}", file.display());
    }
    // What the operator made is put right too.
    admin.cluster.kubectl(&["delete", "runtimeclass", "cocoon"]).unwrap();
    admin.cluster.wait_for(&["runtimeclasses"], "cocoon", LONG, |_| true).unwrap();
    admin.cluster.kubectl(&["label", "node", "node", "cocoon.dev/class.cocoon-"]).unwrap();
    admin
        .cluster
        .wait_for(&["nodes"], "node", LONG, |n| n["metadata"]["labels"]["cocoon.dev/class.cocoon"] == "true")
        .unwrap();
}

fn refuses_while_a_pod_runs_and_then_leaves_nothing(admin: &ClusterAdmin) {
    let stays = pod("stays", vec![container("main", admin.cluster.image(), "sleep 100000")]);
    let manifest = admin.cluster.planned(stays, &[], |_| ()).unwrap();
    admin.cluster.apply(&manifest.to_string()).unwrap();
    admin.cluster.wait_for_pod("stays", "Ready", LONG).unwrap_or_else(|e| admin.give_up(&e));

    admin.cluster.kubectl(&["delete", "cocoonruntime", "cocoon", "--wait=false"]).unwrap();
    let message = admin.reason("cocoonruntimes", "cocoon", "Ready", "PodsRunning");
    assert!(message.contains("default/stays"), "{message}");
    let seen = admin.cluster.get(&["pod", "stays"]).unwrap();
    assert!(holds(&seen, "Ready"), "{}", seen["status"]);

    admin.cluster.kubectl(&["delete", "pods", "--all", "--grace-period=1", "--timeout=120s"]).unwrap();
    let gone = admin.cluster.kubectl(&["wait", "--for=delete", "cocoonruntime/cocoon", "--timeout=240s"]);
    gone.unwrap_or_else(|e| admin.give_up(&e));
    assert_eq!(admin.cluster.changed_files(), []);
    assert_eq!(labels(admin.cluster), Vec::<String>::new());
    assert_eq!(admin.cluster.get(&["runtimeclasses"]).unwrap()["items"], json!([]));
    assert_eq!(admin.cluster.get(&["cocoonnodes"]).unwrap()["items"], json!([]));
    let node = admin.cluster.get(&["node", "node"]).unwrap();
    assert!(holds(&node, "Ready"));
    admin.remove_operator();
}

#[test]
fn bad_resources_are_refused_or_say_why() {
    tell(Options::plain(), |cluster| {
        let Some(admin) = ClusterAdmin::new(cluster) else { return };
        admin.apply_operator();
        let refused = |spec: Value| {
            let object = json!({"apiVersion": "cocoon.dev/v1alpha1", "kind": "CocoonRuntime", "metadata": {"name": "bad"}, "spec": spec});
            let error = admin.cluster.apply(&object.to_string()).expect_err(&spec_of(&object)).to_string();
            assert!(
                error.contains("invalid") || error.contains("Invalid") || error.contains("unknown field"),
                "{error}"
            );
            error
        };
        let long = "x".repeat(5000);
        for spec in [
            json!({"platforms": []}),
            json!({"platforms": ["Sgx"]}),
            json!({"platforms": ["Sim", "Sim"]}),
            json!({"platforms": "Sim"}),
            json!({"image": "no image"}),
            json!({"image": long}),
            json!({"imagePullPolicy": "Sometimes"}),
            json!({"nodeSelector": {"a": 1}}),
            json!({"guestImage": {"hostPath": "relative"}}),
            json!({"runtimeClasses": {"overhead": {"memory": "much"}}}),
            json!({"containerd": {"config": "etc/x"}}),
            json!({"containerd": {"restart": {"unit": "a; rm -rf /"}}}),
            json!({"containerd": {"restart": {"unit": "k3s", "command": "true"}}}),
            json!({"containerd": {"restart": {"timeoutSeconds": 0}}}),
            json!({"guests": {"defaultCpus": 9, "maxCpus": 8}}),
            json!({"guests": {"defaultMemoryMiB": 4096, "maxMemoryMiB": 2048}}),
            json!({"guests": {"defaultMemoryMiB": -1}}),
            json!({"guests": {"bootTimeoutSeconds": 1e9}}),
            json!({"update": {"maxUnavailable": 0}}),
            json!({"update": {"maxUnavailable": "0%"}}),
            json!({"update": {"maxUnavailable": "110%"}}),
            json!({"update": {"strategy": "Whenever"}}),
            json!({"uninstall": {"policy": "Perhaps"}}),
            json!({"paths": {"pods": format!("/{long}")}}),
            json!({"tolerations": vec![json!({"operator": "Exists"}); 40]}),
            json!({"unheardOf": true}),
        ] {
            refused(spec);
        }
        assert!(
            refused(json!({"guests": {"defaultCpus": 9, "maxCpus": 8}}))
                .contains("defaultCpus must not be above maxCpus")
        );

        // What the schema cannot know is said in a condition.
        let mut runtime = admin.runtime();
        runtime["spec"]["platforms"] = json!(["Snp"]);
        admin.cluster.apply(&runtime.to_string()).unwrap();
        let message = admin.reason("cocoonruntimes", "cocoon", "Ready", "NoTee");
        assert!(message.contains("no node has a TEE"), "{message}");
        assert_eq!(admin.cluster.changed_files(), []);

        let mut wrong = admin.runtime();
        wrong["spec"]["containerd"]["program"] = json!("/nonexistent/containerd");
        admin.cluster.apply(&wrong.to_string()).unwrap();
        let message = admin.reason("cocoonruntimes", "cocoon", "Ready", "NodesFailed");
        assert!(message.contains("NODE-CONTAINERD-UNUSABLE"), "{message}");
        assert_eq!(admin.cluster.changed_files(), []);

        wrong = admin.runtime();
        wrong["spec"]["nodeSelector"] = json!({"no": "such-node"});
        admin.cluster.apply(&wrong.to_string()).unwrap();
        admin.reason("cocoonruntimes", "cocoon", "Ready", "NoNodes");

        let mut second = admin.runtime();
        second["metadata"]["name"] = json!("second");
        admin.cluster.apply(&second.to_string()).unwrap();
        let message = admin.reason("cocoonruntimes", "second", "Ready", "AnotherRuntime");
        assert!(message.contains("cocoon"), "{message}");
        admin.cluster.kubectl(&["delete", "cocoonruntimes", "--all", "--timeout=240s"]).unwrap();

        // A node's process that was taken over cannot speak for another node.
        let lie = json!({"apiVersion": "cocoon.dev/v1alpha1", "kind": "CocoonNode", "metadata": {"name": "other"}, "spec": {
            "runtime": "cocoon", "revision": "r", "settings": {}}});
        admin.cluster.apply(&lie.to_string()).unwrap();
        // An apply alone: a process that may only write is not asked to read first.
        let said = json!({"apiVersion": "cocoon.dev/v1alpha1", "kind": "CocoonNode", "metadata": {"name": "other"},
            "status": {"phase": "Ready"}});
        let file = admin.cluster.node().folder().join("lie.json");
        std::fs::write(&file, said.to_string()).unwrap();
        let account = "--as=system:serviceaccount:cocoon-system:cocoon-node";
        let file = file.display().to_string();
        let args = [account, "apply", "--server-side", "--subresource=status", "-f", &file];
        let output = admin.cluster.try_kubectl(&args).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("its own node alone"), "{said}");
        admin.cluster.kubectl(&["delete", "cocoonnode", "other"]).unwrap();
        admin.remove_operator();
    });
}

fn spec_of(object: &Value) -> String {
    format!("taken: {}", object["spec"])
}

#[test]
fn an_operator_that_is_killed_again_and_again_still_arrives() {
    tell(Options::plain(), |cluster| {
        let Some(admin) = ClusterAdmin::new(cluster) else { return };
        admin.apply_operator();
        let kill = || {
            let args = [
                "delete",
                "pods",
                "-n",
                "cocoon-system",
                "--all",
                "--grace-period=0",
                "--force",
                "--wait=false",
            ];
            admin.cluster.kubectl(&args).unwrap();
        };
        admin.cluster.apply(&admin.runtime().to_string()).unwrap();
        for phase in ["", "Installing"] {
            let reached = |n: &Value| {
                phase.is_empty() || n["status"]["phase"] == phase || n["status"]["phase"] == "Ready"
            };
            admin
                .cluster
                .wait_for(&["cocoonnodes"], "node", LONG, reached)
                .unwrap_or_else(|e| admin.give_up(&e));
            kill();
        }
        admin.ready();
        admin.cluster.kubectl(&["delete", "cocoonruntime", "cocoon", "--wait=false"]).unwrap();
        kill();
        admin
            .cluster
            .kubectl(&["wait", "--for=delete", "cocoonruntime/cocoon", "--timeout=240s"])
            .unwrap_or_else(|e| admin.give_up(&e));
        assert_eq!(admin.cluster.changed_files(), []);
        admin.remove_operator();
    });
}
