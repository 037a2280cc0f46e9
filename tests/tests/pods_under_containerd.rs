//! A pod of Cocoon from its first container to its removal, as kubelet drives it through containerd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::time::Duration;

use cocoon_plan::pod::ContainerKind;
use cocoon_plan::{Restart, SecretPlan};
use cocoon_tests::containerd::{COCO_ANNOTATION, ContainerWish, Machine, Pod, PodWish, Story, Version, cri};
use cocoon_tests::{run, wait_until};
use protobuf::EnumOrUnknown;

const WORK: &str = r#"
echo "to stdout"; echo "to stderr" >&2
trap 'echo asked; exit 5' TERM
mkdir -p /www; echo content >/www/index.html; busybox httpd -p 8080 -h /www
echo ready
while :; do sleep 0.1; done
"#;

fn token(plan: &mut cocoon_plan::Plan) {
    let file = Some("/run/secrets/token".to_owned());
    plan.secrets = vec![SecretPlan { uri: "kbs:///default/secret/token".into(), file }];
}

async fn ended(pod: &Pod, container: &ContainerWish) -> (i32, String) {
    let id = pod.container(container).await.unwrap();
    let ended = pod.wait(&id).await.unwrap();
    (ended.code, ended.reason)
}

/// An init container, two others at once, one of them again after it failed; their words, their ends, the pod's end.
async fn a_life(machine: Machine) -> Machine {
    let image = &machine.image;
    let first = ContainerWish::script("first", image, "echo one; test -s /run/secrets/token");
    let work = ContainerWish::script("work", image, WORK);
    let mut fails = ContainerWish::script("fails", image, "echo failing; exit 3");
    let wish = PodWish::new("life", "cocoon");
    let pod = machine
        .planned(wish, &[&first, &work, &fails], &[("default/secret/token", "hunter2")], |plan| {
            token(plan);
            plan.containers[0].kind = ContainerKind::Init;
            plan.containers[2].restart = Restart::OnFailure;
        })
        .await
        .unwrap();
    let status = pod.pod_status().await.unwrap();
    assert_eq!(status.state, EnumOrUnknown::new(cri::PodSandboxState::SANDBOX_READY));
    let ip = status.network.ip.clone();
    assert!(ip.starts_with("10.88."), "{ip}");

    assert_eq!(ended(&pod, &first).await, (0, "Completed".into()));
    assert_eq!(pod.log("first", 0, "stdout").unwrap(), "one\n");

    let working = pod.container(&work).await.unwrap();
    pod.wait_for_log("work", 0, "ready\n").await.unwrap();
    assert_eq!(pod.log("work", 0, "stdout").unwrap(), "to stdout\nready\n");
    assert_eq!(pod.log("work", 0, "stderr").unwrap(), "to stderr\n");
    assert_eq!(pod.sh(&working, "cat /run/secrets/token").await.unwrap(), "hunter2");

    assert_eq!(ended(&pod, &fails).await, (3, "Error".into()));
    fails.attempt = 1;
    assert_eq!(ended(&pod, &fails).await, (3, "Error".into()));
    assert_eq!(pod.log("fails", 1, "stdout").unwrap(), "failing\n");

    // The pod's own address and name, inside and from the node.
    assert_eq!(pod.sh(&working, "busybox hostname").await.unwrap(), "life");
    assert!(pod.sh(&working, "busybox ip addr show eth0").await.unwrap().contains(&ip));
    let resolv = pod.sh(&working, "cat /etc/resolv.conf").await.unwrap();
    for line in ["nameserver 10.88.0.1", "search default.svc.cluster.local", "options ndots:5"] {
        assert!(resolv.contains(line), "{resolv}");
    }
    // A kubelet writes this file; containerd alone takes the node's.
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap();
    assert_eq!(pod.sh(&working, "cat /etc/hosts").await.unwrap().trim(), hosts.trim());
    let page = run("busybox", ["wget", "-q", "-O", "-", &format!("http://{ip}:8080/index.html")]).unwrap();
    assert_eq!(page, b"content\n");

    // Asked to end, it ends in its own way, and says so.
    pod.stop_container(&working, 60).await.unwrap();
    assert_eq!(pod.wait(&working).await.unwrap().code, 5);
    assert!(pod.log("work", 0, "stdout").unwrap().ends_with("asked\n"));
    pod.stop().await.unwrap();
    let status = pod.pod_status().await.unwrap();
    assert_eq!(status.state, EnumOrUnknown::new(cri::PodSandboxState::SANDBOX_NOTREADY));
    assert!(
        wait_until(Duration::from_secs(20), || machine.node.named("qemu-system-x86_64").is_empty()),
        "QEMU outlives its pod"
    );
    // Both are allowed again, and change nothing.
    pod.stop().await.unwrap();
    pod.remove().await.unwrap();
    pod.remove().await.unwrap();
    machine
}

#[test]
fn a_pod_lives_and_ends_under_containerd_2() {
    Story::Cocoon(|_| {}).tell(Version::V2, a_life);
}

/// The same with CoCo's annotation, and the container killed by the grace period's end.
async fn a_short_life(machine: Machine) -> Machine {
    let work = ContainerWish::script(
        "work",
        &machine.image,
        "trap '' TERM; echo ready; while :; do sleep 0.1; done",
    );
    let owner = machine.owner().unwrap();
    let plan = owner.plan("short", vec![owner.container(&work).unwrap()]).unwrap();
    let mut wish = PodWish::new("short", "cocoon");
    wish.annotations.insert(COCO_ANNOTATION.into(), owner.register(&plan, &[]).await.unwrap());
    let pod = machine.pod(wish).await.unwrap();
    let working = pod.container(&work).await.unwrap();
    pod.wait_for_log("work", 0, "ready\n").await.unwrap();
    let asked = ["/bin/sh", "-c", "echo a; echo b >&2; exit 7"];
    assert_eq!(pod.exec(&working, &asked).await.unwrap(), ("a\n".into(), "b\n".into(), 7));
    pod.stop_container(&working, 1).await.unwrap();
    assert_eq!(pod.wait(&working).await.unwrap().code, 137);
    pod.remove().await.unwrap();
    machine
}

#[test]
fn a_pod_lives_and_ends_under_containerd_1_7() {
    Story::Cocoon(|_| {}).tell(Version::V1_7, a_short_life);
}

#[test]
fn a_pod_lives_and_ends_under_containerd_1_6() {
    Story::Cocoon(|_| {}).tell(Version::V1_6, a_short_life);
}
