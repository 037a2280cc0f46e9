//! A container is paused and resumed: nothing in it moves meanwhile, and it can be killed all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::time::Duration;

use cocoon_stage::Code;
use cocoon_tests::containerd::{ContainerWish, Machine, PodWish, Story, Version, cri};
use protobuf::EnumOrUnknown;

const COUNT: &str = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.1; done";

fn task(machine: &Machine, words: &[&str]) -> String {
    let words: Vec<&str> = ["-n", "k8s.io", "tasks"].iter().chain(words).copied().collect();
    let output = machine.containerd.ctr(&machine.node, &words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn status(machine: &Machine, id: &str) -> String {
    let list = task(machine, &["list"]);
    let line = list.lines().find(|l| l.starts_with(id)).unwrap_or_else(|| panic!("{list}"));
    line.split_whitespace().last().unwrap().to_owned()
}

async fn paused(machine: Machine) -> Machine {
    let count = ContainerWish::script("count", &machine.image, COUNT);
    let mut other = count.clone();
    other.name = "other".into();
    let wishes = [&count, &other];
    let pod = machine.planned(PodWish::new("paused", "cocoon"), &wishes, &[], |_| {}).await.unwrap();
    let (id, running) = (pod.container(&count).await.unwrap(), pod.container(&other).await.unwrap());
    let lines = |name: &str| pod.log(name, 0, "stdout").unwrap().lines().count();
    pod.wait_for_log("count", 0, "\n2\n").await.unwrap();

    task(&machine, &["pause", &id]);
    assert_eq!(status(&machine, &id), "PAUSED");
    // What it said before may still be on its way; after that nothing, while the other goes on.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (still, goes) = (lines("count"), lines("other"));
    pod.wait_for_log("other", 0, &format!("\n{}\n", goes + 5)).await.unwrap();
    assert_eq!(lines("count"), still);
    let refused = pod.sh(&id, "true").await.unwrap_err().to_string();
    assert!(refused.contains(Code::PlanRequestRefused.as_str()) || refused.contains("paused"), "{refused}");

    task(&machine, &["resume", &id]);
    assert_eq!(status(&machine, &id), "RUNNING");
    pod.wait_for_log("count", 0, &format!("\n{}\n", still + 3)).await.unwrap();
    assert_eq!(pod.sh(&id, "echo here").await.unwrap(), "here");

    // Killed while it stands still.
    task(&machine, &["pause", &id]);
    task(&machine, &["kill", "--signal", "SIGKILL", &id]);
    assert_eq!(pod.wait(&id).await.unwrap().code, 137);
    // And the whole pod removed.
    task(&machine, &["pause", &running]);
    assert_eq!(
        pod.pod_status().await.unwrap().state,
        EnumOrUnknown::new(cri::PodSandboxState::SANDBOX_READY)
    );
    pod.remove().await.unwrap();
    machine
}

#[test]
fn what_is_paused_stands_still() {
    Story::Cocoon(|_| {}).tell(Version::V2, paused);
}
