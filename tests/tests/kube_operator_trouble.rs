//! What goes wrong around the operator: another operator, an API server that goes away, nodes that come, go and are drained.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use cocoon_tests::kubernetes::{ClusterAdmin, LONG, Options, SECOND, holds, tell};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The operator's pods, and the one that has the lease.
fn operators(admin: &ClusterAdmin) -> (Vec<String>, String) {
    let label = "app.kubernetes.io/component=operator";
    let pods = admin.cluster.get(&["pods", "-n", "cocoon-system", "-l", label]).unwrap();
    let names =
        pods["items"].as_array().unwrap().iter().filter(|p| p["metadata"]["deletionTimestamp"].is_null());
    let names = names.map(|p| p["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    (
        names,
        holder(&admin.cluster.get(&["lease", "-n", "cocoon-system", "cocoon-operator"]).unwrap()).to_owned(),
    )
}

fn holder(lease: &Value) -> &str {
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default()
}

#[test]
fn a_second_operator_waits_and_an_api_that_goes_away_comes_back_to_a_whole_cluster() {
    tell(Options::plain(), |cluster| {
        let Some(mut admin) = ClusterAdmin::new(cluster) else { return };
        admin.apply_operator();
        let scale = ["scale", "-n", "cocoon-system", "deployment/cocoon-operator", "--replicas=2"];
        admin.cluster.kubectl(&scale).unwrap();
        admin.wait_for_operator();
        let (pods, first) = operators(&admin);
        assert!(pods.contains(&first), "{pods:?} {first}");

        // The API server dies in the middle of what the operator does, and again in the middle of what the node does.
        admin.cluster.apply(&admin.runtime().to_string()).unwrap();
        for phase in ["", "Installing"] {
            admin.node_when(|n| phase.is_empty() || n["status"]["phase"] == phase || holds(n, "Ready"));
            let node = admin.cluster.node();
            let api = node.named("kube-apiserver");
            api.iter().for_each(|p| p.signal(Signal::KILL));
        }
        admin.ready();
        let classes = admin.cluster.get(&["runtimeclasses"]).unwrap();
        assert_eq!(classes["items"].as_array().map(Vec::len), Some(2));

        // The one that works ends without a word; the other goes on where it was.
        let (_, working) = operators(&admin);
        let args = ["delete", "pod", "-n", "cocoon-system", &working, "--grace-period=0", "--force"];
        admin.cluster.kubectl(&args).unwrap();
        admin.cluster.kubectl(&["delete", "runtimeclass", "cocoon-sim"]).unwrap();
        admin.cluster.wait_for(&["runtimeclasses"], "cocoon-sim", LONG, |_| true).unwrap();
        let (_, next) = operators(&admin);
        assert_ne!(next, working);

        nodes_come_and_go(&mut admin);
        admin.remove_runtime();
        assert_eq!(admin.cluster.changed_files(), []);
        admin.remove_operator();
    });
}

/// Whether Cocoon's programs are on the second machine.
fn installed_there(admin: &mut ClusterAdmin) -> bool {
    admin.cluster.second().unwrap().node().path("/opt/cocoon").exists()
}

/// A second machine joins, gets what the first has, falls silent without holding anybody up, and leaves; the first one is drained.
fn nodes_come_and_go(admin: &mut ClusterAdmin) {
    admin.join();
    let revision = admin.ready()["status"]["revisions"]["stable"].clone();
    admin.runtime_when(|r| r["status"]["nodes"]["ready"] == 2 && holds(r, "Ready"));
    let theirs = admin.cluster.get(&["cocoonnode", SECOND]).unwrap();
    assert_eq!(theirs["spec"]["revision"], revision);
    assert!(installed_there(admin));
    let node = admin.cluster.get(&["node", SECOND]).unwrap();
    assert_eq!(node["metadata"]["labels"]["cocoon.dev/class.cocoon"], "true");

    one_after_the_other(admin);

    // It is told to be left alone: every file is as it was there, and the first one is not touched.
    let elsewhere = json!({"spec": {"nodeSelector": {"kubernetes.io/hostname": "node"}}}).to_string();
    let patch = ["patch", "cocoonruntime", "cocoon", "--type=merge", "-p"];
    admin.cluster.kubectl(&[&patch[..], &[&elsewhere]].concat()).unwrap();
    admin.cluster.kubectl(&["wait", "--for=delete", "cocoonnode/second", "--timeout=240s"]).unwrap();
    assert!(!installed_there(admin));
    admin.runtime_when(|r| r["status"]["nodes"]["selected"] == 1 && holds(r, "Ready"));

    // It comes back, dies, and is deleted, as a person does with a machine that will not come back.
    let everywhere = json!({"spec": {"nodeSelector": null}}).to_string();
    admin.cluster.kubectl(&[&patch[..], &[&everywhere]].concat()).unwrap();
    admin.runtime_when(|r| r["status"]["nodes"]["ready"] == 2 && holds(r, "Ready"));
    admin.cluster.take_away();
    admin.cluster.kubectl(&["delete", "node", SECOND]).unwrap();
    admin.cluster.kubectl(&["wait", "--for=delete", "cocoonnode/second", "--timeout=120s"]).unwrap();
    admin.runtime_when(|r| r["status"]["nodes"]["selected"] == 1 && holds(r, "Ready"));

    let drain =
        ["drain", "node", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=120s"];
    admin.cluster.kubectl(&drain).unwrap();
    let node = admin.cluster.get(&["cocoonnode", "node"]).unwrap();
    assert!(holds(&node, "Ready"), "a drained node keeps what is installed: {}", node["status"]);
    admin.cluster.kubectl(&["uncordon", "node"]).unwrap();
    admin.wait_for_operator();
    admin.ready();
}

/// A change of settings goes to both nodes, never to both at once.
fn one_after_the_other(admin: &ClusterAdmin) {
    let patch =
        json!({"spec": {"guests": {"bootTimeoutSeconds": 170}, "update": {"maxUnavailable": 1}}}).to_string();
    admin.cluster.kubectl(&["patch", "cocoonruntime", "cocoon", "--type=merge", "-p", &patch]).unwrap();
    let mut least = u64::MAX;
    let done = admin.runtime_when(|r| {
        let count = |name: &str| r["status"]["nodes"][name].as_u64().unwrap_or(0);
        least = least.min(count("ready"));
        let revisions = &r["status"]["revisions"];
        revisions["target"] == revisions["stable"]
            && count("updated") == 2
            && holds(r, "Ready")
            && r["status"]["observedGeneration"] == r["metadata"]["generation"]
    });
    assert!(least >= 1, "at least one node could always run pods: {}", done["status"]);
}
