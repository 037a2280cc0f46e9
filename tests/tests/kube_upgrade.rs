//! An upgrade of nodes with running pods, as a cluster's administrator sees it: a good version, then a broken one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use cocoon_tests::containerd::shim_program;
use cocoon_tests::kubernetes::{
    ClusterAdmin, LONG, Options, Variant, condition, container, holds, pod, push, tell, variant,
};
use cocoon_tests::{cocoon_program, guest_image};
use serde_json::{Value, json};

/// A version with this guest image, in the registry.
fn version(admin: &ClusterAdmin, guest: &Path, tag: &str) -> String {
    let shim = shim_program().unwrap();
    push(admin.cluster, &cocoon_program().unwrap(), Path::new(&shim), guest, tag).unwrap()
}

/// A pod that runs until it is deleted.
fn start(admin: &ClusterAdmin, name: &str) {
    let work = pod(name, vec![container("main", admin.cluster.image(), "echo up; sleep 100000")]);
    let manifest = admin.cluster.planned(work, &[], |_| ()).unwrap();
    admin.cluster.apply(&manifest.to_string()).unwrap();
    admin.cluster.wait_for_pod(name, "Ready", LONG).unwrap_or_else(|e| admin.give_up(&e));
}

/// That a pod goes on: its first start, and its guest answers.
fn goes_on(admin: &ClusterAdmin, name: &str) {
    let seen = admin.cluster.get(&["pod", name]).unwrap();
    assert!(holds(&seen, "Ready"), "{name}: {}", seen["status"]);
    assert_eq!(seen["status"]["containerStatuses"][0]["restartCount"], 0);
    let said = admin.cluster.kubectl(&["exec", name, "--", "echo", "here"]).unwrap();
    assert_eq!(said.trim(), "here");
}

/// How many VMs and shims run from a version's folder.
fn users(admin: &ClusterAdmin, version: &str) -> (usize, usize) {
    let folder = format!("/opt/cocoon/{version}/");
    let processes = admin.cluster.node().processes();
    let count = |start: &str| {
        processes.iter().filter(|p| p.name.starts_with(start) && p.arguments.contains(&folder)).count()
    };
    (count("qemu"), count("containerd-shim"))
}

fn installed(admin: &ClusterAdmin, version: &str) -> bool {
    admin.cluster.node().path(&format!("/opt/cocoon/{version}")).exists()
}

fn set_image(admin: &ClusterAdmin, image: &str) {
    let patch = json!({"spec": {"image": image}}).to_string();
    admin.cluster.kubectl(&["patch", "cocoonruntime", "cocoon", "--type=merge", "-p", &patch]).unwrap();
}

fn text<'a>(object: &'a Value, at: &str) -> &'a str {
    object.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

/// Reasons of the Events about the CocoonRuntime.
fn events(admin: &ClusterAdmin) -> Vec<String> {
    let list = admin.cluster.get(&["events", "-A"]).unwrap();
    let about = list["items"].as_array().unwrap().iter();
    about
        .filter(|e| e["involvedObject"]["kind"] == "CocoonRuntime")
        .map(|e| text(e, "/reason").to_owned())
        .collect()
}

#[test]
fn running_pods_keep_their_version_and_a_broken_one_is_taken_back() {
    tell(Options::plain_with_owner(), |cluster| {
        let Some(mut admin) = ClusterAdmin::new(cluster) else { return };
        let folder = tempfile::tempdir().unwrap();
        let guest = guest_image().unwrap();
        let (newer, broken) = (folder.path().join("newer"), folder.path().join("broken"));
        variant(&guest, &newer, Variant::Release("2")).unwrap();
        variant(&guest, &broken, Variant::Empty).unwrap();
        let images = [version(&admin, &newer, "2"), version(&admin, &broken, "3")];

        // The first version, tried by a canary too.
        admin.apply_operator();
        let mut runtime = admin.runtime();
        runtime["spec"]["update"] = json!({"maxUnavailable": 1, "canary": {"timeoutSeconds": 120}});
        runtime["spec"]["image"] = json!(admin.image);
        admin.cluster.apply(&runtime.to_string()).unwrap();
        let first = admin.ready();
        let a = text(&first, "/status/revisions/stable").to_owned();
        let version_a = text(&admin.node_when(|n| holds(n, "Ready")), "/status/version").to_owned();
        start(&admin, "old");
        assert_eq!(users(&admin, &version_a), (1, 1));

        let version_b = a_good_version(&admin, &newer, &images[0], (&a, &version_a));
        a_broken_version(&admin, &images[1], &version_b);

        // The last pod of the first version ends, and what it ran with goes.
        goes_on(&admin, "old");
        admin.cluster.kubectl(&["delete", "pod", "old", "--timeout=120s"]).unwrap();
        admin.node_when(|n| n["status"]["olderVersions"] == json!([]));
        assert!(!installed(&admin, &version_a), "{version_a} is still there");
        goes_on(&admin, "new");
        admin.cluster.kubectl(&["delete", "pods", "--all", "--grace-period=1", "--timeout=120s"]).unwrap();
        admin.remove_runtime();
        assert_eq!(admin.cluster.changed_files(), []);
        admin.image.clone_from(&images[0]);
        admin.remove_operator();
    });
}

/// A release whose guest is another one. Its version.
fn a_good_version(admin: &ClusterAdmin, guest: &Path, image: &str, (a, version_a): (&str, &str)) -> String {
    // Trustee hears of the new guest first; both are good until the old one is withdrawn.
    admin.cluster.block_on(admin.cluster.owner().unwrap().accept_image("newer", guest)).unwrap();
    set_image(admin, image);
    let under_way = admin.runtime_when(|r| {
        condition(r, "Progressing", "reason") == "Changing" && text(r, "/status/revisions/target") != a
    });
    assert!(condition(&under_way, "Progressing", "message").contains("of 1 nodes"), "{under_way}");
    let done = admin.runtime_when(|r| {
        text(r, "/status/revisions/stable") != a && holds(r, "Ready") && !holds(r, "Progressing")
    });
    let b = text(&done, "/status/revisions/stable").to_owned();
    assert_eq!(text(&done, "/status/revisions/tried"), b, "a canary tried it");
    assert_eq!(done["status"]["nodes"]["updated"], 1, "{}", done["status"]);
    assert!(!holds(&done, "Degraded"), "{}", done["status"]);

    let node = admin.node_when(|n| holds(n, "Ready"));
    let version_b = text(&node, "/status/version").to_owned();
    assert_ne!(version_b, version_a);
    assert_eq!(node["status"]["olderVersions"], json!([version_a]));
    assert!(installed(admin, version_a) && installed(admin, &version_b));
    goes_on(admin, "old");
    start(admin, "new");
    assert_eq!((users(admin, version_a), users(admin, &version_b)), ((1, 1), (1, 1)));
    version_b
}

/// A release whose guest does not start.
fn a_broken_version(admin: &ClusterAdmin, image: &str, version_b: &str) {
    let before = admin.ready();
    let b = text(&before, "/status/revisions/stable").to_owned();
    set_image(admin, image);
    let message = admin.reason("cocoonruntimes", "cocoon", "Degraded", "RevisionRefused");
    println!("what is said of it: {message}");
    assert!(message.contains("the canary pod") && message.contains(&b), "{message}");
    assert!(message.contains("BOOT-"), "it says what failed: {message}");
    let back = admin.runtime_when(|r| {
        holds(r, "Ready") && r["status"]["revisions"]["refused"] == r["status"]["revisions"]["target"]
    });
    assert_eq!(text(&back, "/status/revisions/stable"), b, "{}", back["status"]);
    assert!(events(admin).iter().any(|e| e == "RevisionRefused"), "{:?}", events(admin));
    let node = admin.node_when(|n| n["spec"]["revision"] == b.as_str() && holds(n, "Ready"));
    assert_eq!(text(&node, "/status/version"), version_b);
    goes_on(admin, "new");
    start(admin, "after");
    assert_eq!(users(admin, version_b), (2, 2));
    // Nothing of the broken one stays: the folders are those of both versions that run.
    let folders = std::fs::read_dir(admin.cluster.node().path("/opt/cocoon")).unwrap().count();
    assert_eq!(folders, 2);
    let canaries = admin.cluster.get(&["pods", "-n", "cocoon-system", "-l", "cocoon.dev/canary"]).unwrap();
    assert_eq!(canaries["items"], json!([]));
}
