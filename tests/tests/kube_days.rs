//! What happens to pods in the life of a cluster: the API server is killed, a pod is evicted, the node loses its power.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::time::Duration;

use cocoon_plan::SecretPlan;
use cocoon_tests::kubernetes::{Cluster, Options, container, pod, tell};
use cocoon_tests::{run, wait_until};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(300);
const SECRET: &str = "default/secret/token";

/// A Deployment of this many pods that each hold a secret.
fn deploy(cluster: &Cluster, name: &str, replicas: u32) {
    let mut template =
        pod(name, vec![container("work", cluster.image(), "echo up; while :; do sleep 0.2; done")]);
    template["spec"]["restartPolicy"] = json!("Always");
    let planned = cluster.planned(template, &[(SECRET, "hunter2")], |plan| {
        let file = Some("/run/secrets/token".to_owned());
        plan.secrets = vec![SecretPlan { uri: format!("kbs:///{SECRET}"), file }];
    });
    let planned = planned.unwrap();
    let labels = json!({"app": name});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels, "annotations": planned["metadata"]["annotations"]}, "spec": planned["spec"],
        }},
    });
    cluster.apply(&deployment.to_string()).unwrap();
    ready(cluster, name, replicas);
}

fn ready(cluster: &Cluster, name: &str, replicas: u32) {
    let all = |d: &Value| d.pointer("/status/readyReplicas") == Some(&json!(replicas));
    cluster.wait_for(&["deployments"], name, LIMIT, all).unwrap_or_else(|e| {
        let look = cluster.kubectl(&["describe", "pods"]).unwrap_or_default();
        panic!("{e}\n{look}");
    });
}

fn names(cluster: &Cluster, app: &str) -> Vec<String> {
    let pods = cluster.get(&["pods", "-l", &format!("app={app}")]).unwrap();
    let name = |p: &Value| p["metadata"]["name"].as_str().unwrap().to_owned();
    pods["items"].as_array().unwrap().iter().map(name).collect()
}

fn has_its_secret(cluster: &Cluster, pod: &str) -> bool {
    cluster.kubectl(&["exec", pod, "--", "cat", "/run/secrets/token"]).is_ok_and(|out| out == "hunter2")
}

/// The API server is killed while a log is followed: the pod, its VM and what it says go on.
fn without_the_api(cluster: &mut Cluster) {
    let machines = cluster.node().named("qemu-system-x86_64");
    let node = cluster.node().init();
    cluster.kubectl(&["cluster-info"]).unwrap();
    cluster.kill_api().unwrap();
    let again = wait_until(LIMIT, || cluster.kubectl(&["get", "--raw", "/readyz"]).is_ok_and(|o| o == "ok"));
    assert!(again, "no API server came back");
    assert_eq!(cluster.node().init(), node);
    assert_eq!(cluster.node().named("qemu-system-x86_64"), machines);
    for pod in names(cluster, "steady") {
        assert!(wait_until(LIMIT, || has_its_secret(cluster, &pod)), "{pod}");
        assert_eq!(cluster.get(&["pod", &pod]).unwrap()["status"]["containerStatuses"][0]["restartCount"], 0);
    }
}

/// A budget holds an eviction back; without it the pod goes, and another is attested in its place.
fn evicted(cluster: &Cluster) {
    let before = names(cluster, "steady");
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "steady"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "steady"}}},
    });
    cluster.apply(&budget.to_string()).unwrap();
    let known = |b: &Value| b.pointer("/status/currentHealthy") == Some(&json!(1));
    cluster.wait_for(&["poddisruptionbudgets"], "steady", LIMIT, known).unwrap();
    let evict = || {
        let place = format!("/api/v1/namespaces/default/pods/{}/eviction", before[0]);
        let wish = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": before[0]}});
        cluster.kubectl_with(&["create", "--raw", &place, "-f", "-"], wish.to_string().as_bytes())
    };
    let refused = evict().unwrap_err().to_string();
    assert!(refused.contains("disruption budget"), "{refused}");
    assert!(has_its_secret(cluster, &before[0]));
    cluster.kubectl(&["delete", "poddisruptionbudget", "steady"]).unwrap();
    evict().unwrap();
    cluster.kubectl(&["wait", "--for=delete", &format!("pod/{}", before[0]), "--timeout=120s"]).unwrap();
    ready(cluster, "steady", 1);
    let after = names(cluster, "steady");
    assert_ne!(before, after);
    assert!(has_its_secret(cluster, &after[0]));
}

/// The node loses its power and comes back: nothing of what ran is there any more. The same pods start anew and are attested anew.
fn powerless(cluster: &mut Cluster) {
    let before = names(cluster, "steady");
    let machines = cluster.node().named("qemu-system-x86_64");
    let state = cluster.owner().unwrap().class(cluster.node()).state;
    cluster.lose_power(&state).unwrap();
    ready(cluster, "steady", 1);
    assert_eq!(names(cluster, "steady"), before, "the pod is the same object");
    let again = || {
        let pod = cluster.get(&["pod", &before[0]]).unwrap();
        pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0) > 0
    };
    assert!(wait_until(LIMIT, again), "kubelet does not say that it started anew");
    ready(cluster, "steady", 1);
    assert!(wait_until(LIMIT, || has_its_secret(cluster, &before[0])));
    let now = cluster.node().named("qemu-system-x86_64");
    assert!(now.len() == 1 && now != machines, "{now:?}");
    let pods = cluster.node().path("/var/lib/kubelet").join("pods");
    let held = run("grep", ["-rl", "hunter2", &pods.display().to_string()]);
    assert!(held.is_err(), "the secret is on the node: {held:?}");
}

#[test]
fn api_server_killed_pod_evicted_node_without_power() {
    tell(Options::cocoon(), |cluster| {
        deploy(cluster, "steady", 1);
        without_the_api(cluster);
        evicted(cluster);
        powerless(cluster);
        cluster
            .kubectl(&["delete", "deployment", "steady", "--cascade=foreground", "--timeout=120s"])
            .unwrap();
    });
}
