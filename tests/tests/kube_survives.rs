//! Trouble on a real cluster's node with pods of Cocoon on it: kubelet and containerd killed and back, twelve pods at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::collections::BTreeSet;
use std::time::Duration;

use cocoon_tests::kubernetes::{Cluster, Options, container, pod, tell};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(300);

fn restarts(pod: &Value) -> u64 {
    pod.pointer("/status/containerStatuses/0/restartCount").and_then(Value::as_u64).unwrap_or(99)
}

/// Kubelet and containerd are killed one after the other: the pod runs on, as itself, and all that kubectl does goes on.
fn killed_and_back(cluster: &mut Cluster) {
    let script = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.5; done";
    let manifest = pod("steady", vec![container("work", cluster.image(), script)]);
    let manifest = cluster.planned(manifest, &[], |_| {}).unwrap();
    cluster.apply(&manifest.to_string()).unwrap();
    let before = cluster.wait_for_pod("steady", "Ready", LIMIT).unwrap();
    let vm = |cluster: &Cluster| cluster.node().named("qemu-system-x86_64");
    let machine = vm(cluster);
    assert_eq!(machine.len(), 1);

    cluster.kill_kubelet().unwrap();
    let exec = ["exec", "steady", "--", "echo", "here"];
    assert_eq!(cluster.kubectl(&exec).unwrap(), "here\n");
    cluster.kill_containerd().unwrap();
    assert!(cocoon_tests::wait_until(LIMIT, || cluster.kubectl(&exec).is_ok_and(|out| out == "here\n")));
    let after = cluster.wait_for_pod("steady", "Ready", LIMIT).unwrap();
    assert_eq!((restarts(&before), restarts(&after)), (0, 0));
    assert_eq!(before.pointer("/status/podIP"), after.pointer("/status/podIP"));
    assert_eq!(vm(cluster), machine, "another VM");
    // No line is lost.
    let lines = cluster.kubectl(&["logs", "steady"]).unwrap();
    for (i, line) in lines.lines().enumerate() {
        assert_eq!(line, format!("line {}", i + 1));
    }
    let count = lines.lines().count();
    assert!(
        cocoon_tests::wait_until(LIMIT, || cluster.kubectl(&["logs", "steady"]).unwrap().lines().count()
            > count),
        "its log stands still"
    );
    // Its VM killed: the container's end is told, and the pod is over.
    machine[0].signal(rustix::process::Signal::KILL);
    let (phase, _) = cluster.wait_for_end("steady", LIMIT).unwrap();
    assert_eq!(phase, "Failed");
    cluster.kubectl(&["delete", "pod", "steady", "--timeout=60s"]).unwrap();
}

/// A deployment of twelve, at once.
fn twelve(cluster: &mut Cluster) {
    let template = pod("many", vec![container("work", cluster.image(), "echo up; sleep 100000")]);
    let mut template = template;
    template["spec"]["restartPolicy"] = json!("Always");
    let planned = cluster.planned(template, &[], |_| {}).unwrap();
    let labels = json!({"app": "many"});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "many"},
        "spec": {"replicas": 12, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels, "annotations": planned["metadata"]["annotations"]}, "spec": planned["spec"],
        }},
    });
    cluster.apply(&deployment.to_string()).unwrap();
    let all = |d: &Value| d.pointer("/status/readyReplicas") == Some(&json!(12));
    cluster.wait_for(&["deployments"], "many", LIMIT, all).unwrap();
    let pods = cluster.get(&["pods", "-l", "app=many"]).unwrap();
    let addresses: BTreeSet<&str> = pods["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|p| p.pointer("/status/podIP")?.as_str())
        .collect();
    assert_eq!(addresses.len(), 12);
    cluster.kubectl(&["delete", "deployment", "many", "--cascade=foreground", "--timeout=120s"]).unwrap();
}

#[test]
fn kubelet_and_containerd_are_killed_and_twelve_pods_start_at_once() {
    tell(Options::cocoon(), |cluster| {
        killed_and_back(cluster);
        twelve(cluster);
    });
}
