//! The admission webhook: pods of a labelled namespace get what they lack, whoever makes them is warned, and nothing depends on it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::time::Duration;

use cocoon_tests::kubernetes::{Cluster, Installed, Options, container, pod, tell};
use cocoon_tests::wait_until;
use serde_json::{Value, json};

const CONFIGURATION: &[&str] = &["mutatingwebhookconfiguration", "cocoon-operator"];

/// Makes a pod in `trial`, which never finds a place; gives what kubectl warned of, and the pod.
fn made(cluster: &Cluster, name: &str, change: impl FnOnce(&mut Value)) -> (String, Value) {
    let mut object = pod(name, vec![container("main", cluster.image(), "sleep 1000")]);
    object["metadata"]["namespace"] = json!("trial");
    object["spec"]["nodeSelector"] = json!({"no": "such-node"});
    change(&mut object);
    let file = cluster.node().folder().join("pod.json");
    std::fs::write(&file, object.to_string()).unwrap();
    let output = cluster.try_kubectl(&["create", "-f", &file.display().to_string()]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    (said, cluster.get(&["pod", name, "-n", "trial"]).unwrap())
}

fn bundle(cluster: &Cluster) -> String {
    let configuration = cluster.get(CONFIGURATION).unwrap();
    configuration["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn pods_get_what_they_lack_and_are_made_without_the_webhook_too() {
    tell(Options { owner: false, ..Options::cocoon() }, |cluster| {
        let Some(installed) = Installed::start(cluster, &["--webhook"]).unwrap() else { return };
        let labelled = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "trial", "labels": {"cocoon.dev/runtime": "cocoon"}},
        });
        cluster.apply(&labelled.to_string()).unwrap();
        cluster
            .wait_for(&["serviceaccounts", "-n", "trial"], "default", Duration::from_secs(60), |_| true)
            .unwrap();
        installed
            .wait(&CONFIGURATION[..1], CONFIGURATION[1], |c| {
                c["webhooks"]
                    .as_array()
                    .is_some_and(|all| all.iter().all(|w| w["clientConfig"]["caBundle"].is_string()))
            })
            .unwrap();

        // From the CA to the first answer is a moment: the API server reads what it is told.
        let mut n = 0;
        let answered = wait_until(Duration::from_secs(60), || {
            n += 1;
            made(cluster, &format!("first-{n}"), |_| ()).1["spec"]["runtimeClassName"] == "cocoon"
        });
        assert!(answered, "{}", installed.words());

        let (said, seen) = made(cluster, "plain", |_| ());
        assert_eq!(seen["spec"]["runtimeClassName"], "cocoon");
        assert_eq!(
            seen["spec"]["containers"][0]["resources"]["requests"],
            json!({"cpu": "100m", "memory": "256Mi"})
        );
        // What Kubernetes does for a class is done after the webhook.
        assert!(seen["spec"]["overhead"]["memory"].is_string(), "{}", seen["spec"]);
        assert!(said.contains("Warning: no plan"), "{said}");

        let (said, _) = made(cluster, "bad", |pod| {
            for field in ["hostNetwork", "hostPID", "hostIPC"] {
                pod["spec"][field] = json!(true);
            }
            pod["spec"]["volumes"] = json!([{"name": "etc", "hostPath": {"path": "/etc"}}]);
            pod["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
        });
        for part in
            ["hostNetwork:", "hostPID:", "hostIPC:", "hostPath volumes etc:", "privileged containers main:"]
        {
            assert!(said.contains(&format!("Warning: {part}")), "{part} is not in {said}");
        }

        // Own resources and own words stay.
        let (_, seen) = made(cluster, "own", |pod| {
            pod["metadata"]["labels"] = json!({"cocoon.dev/runtime": "none"});
        });
        assert!(seen["spec"].get("runtimeClassName").is_none(), "{}", seen["spec"]);

        // Someone breaks its certificate: both are made anew, and answers come again.
        let before = bundle(cluster);
        cluster.kubectl(&["delete", "secret", "cocoon-operator-webhook", "-n", "cocoon-system"]).unwrap();
        assert!(
            wait_until(Duration::from_secs(60), || !bundle(cluster).is_empty() && bundle(cluster) != before)
        );
        let answered = wait_until(Duration::from_secs(60), || {
            n += 1;
            made(cluster, &format!("again-{n}"), |_| ()).1["spec"]["runtimeClassName"] == "cocoon"
        });
        assert!(answered, "{}", installed.words());

        // Nobody answers: pods are made as if there were no webhook.
        cluster
            .kubectl(&["scale", "deployment", "cocoon-operator", "-n", "cocoon-system", "--replicas=0"])
            .unwrap();
        cluster
            .kubectl(&[
                "wait",
                "--for=delete",
                "pod",
                "-l",
                "app.kubernetes.io/component=operator",
                "-n",
                "cocoon-system",
                "--timeout=60s",
            ])
            .unwrap();
        let (said, seen) = made(cluster, "without", |_| ());
        assert!(seen["spec"].get("runtimeClassName").is_none() && said.is_empty(), "{said}{}", seen["spec"]);
        cluster.kubectl(&["delete", "namespace", "trial", "--timeout=120s"]).unwrap();
        installed.remove().unwrap();
        assert!(cluster.get(CONFIGURATION).is_err());
    });
}
