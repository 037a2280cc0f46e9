//! `ctr run` with Cocoon's runtime, under every containerd: no kubelet, no CNI, one container that is its own pod.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::process::Stdio;
use std::time::Duration;

use cocoon_stage::Code;
use cocoon_tests::containerd::{ANNOTATION, ContainerWish, Machine, Story, Version};
use cocoon_tests::wait_until;

/// Runs `ctr`; gives whether it succeeded and what it said on both streams.
fn ctr(machine: &Machine, args: &[&str]) -> (bool, String) {
    let output = machine.containerd.ctr(&machine.node, args).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    // Newer ones warn of what a configuration should no longer say.
    let words = said.split_inclusive('\n').filter(|line| !line.contains("level=warning"));
    (output.status.success(), words.collect())
}

fn must(machine: &Machine, args: &[&str]) -> String {
    let (good, said) = ctr(machine, args);
    assert!(good, "ctr {args:?}: {said}\n{}", machine.containerd.log());
    said
}

async fn a_life(machine: Machine) -> Machine {
    let owner = machine.owner().unwrap();
    let script = "trap 'echo asked; exit 5' TERM; echo ready; while :; do sleep 0.1; done";
    let work = ContainerWish::script("main", &machine.image, script);
    let plan = owner.plan("by-ctr", vec![owner.container(&work).unwrap()]).unwrap();
    let annotation = format!("{ANNOTATION}={}", owner.register(&plan, &[]).await.unwrap());
    must(&machine, &["images", "pull", "--plain-http", &machine.image]);
    let class = machine.containerd.file("class.toml").display().to_string();
    let runtime = ["--runtime", "io.containerd.cocoon.v2", "--runtime-config-path", &class];

    // The host's program is not what runs.
    let named = ["--annotation", &annotation, &machine.image, "one", "/bin/false"];
    must(&machine, &[&["run", "--detach"][..], &runtime[..], &named[..]].concat());
    let listed = must(&machine, &["tasks", "ls"]);
    let line = listed.lines().find(|l| l.starts_with("one")).unwrap_or_else(|| panic!("{listed}"));
    assert!(line.ends_with("RUNNING"), "{line}");
    let vm = machine.node.named("qemu-system-x86_64");
    assert_eq!(vm.len(), 1);
    assert_eq!(must(&machine, &["tasks", "exec", "--exec-id", "a", "one", "/bin/echo", "here"]), "here\n");
    let failing = ["tasks", "exec", "--exec-id", "b", "one", "/bin/sh", "-c", "echo failing; exit 7"];
    let (good, said) = ctr(&machine, &failing);
    assert!(!good && said.contains("failing"), "{said}");
    // Its id counts once.
    assert!(!ctr(&machine, &["tasks", "exec", "--exec-id", "a", "one", "/bin/echo", "again"]).0);
    let metrics = must(&machine, &["tasks", "metrics", "one"]);
    assert!(metrics.contains("one"), "{metrics}");
    must(&machine, &["tasks", "pause", "one"]);
    assert!(must(&machine, &["tasks", "ls"]).contains("PAUSED"));
    must(&machine, &["tasks", "resume", "one"]);
    assert!(!ctr(&machine, &["tasks", "rm", "one"]).0, "it runs");

    must(&machine, &["tasks", "kill", "--signal", "SIGTERM", "one"]);
    let stopped =
        || must(&machine, &["tasks", "ls"]).lines().any(|l| l.starts_with("one") && l.ends_with("STOPPED"));
    assert!(wait_until(Duration::from_secs(60), stopped), "{}", must(&machine, &["tasks", "ls"]));
    // Its exit status, which newer ones of `ctr` end with and older ones print.
    let removed = machine.containerd.ctr(&machine.node, &["tasks", "rm", "one"]).output().unwrap();
    let said = String::from_utf8_lossy(&removed.stderr).into_owned();
    assert!(removed.status.code() == Some(5) || said.contains("exit code 5"), "{:?}: {said}", removed.status);
    must(&machine, &["containers", "rm", "one"]);
    assert!(!must(&machine, &["tasks", "ls"]).contains("one"));
    assert_eq!(must(&machine, &["containers", "ls", "-q"]), "");

    // In the foreground, killed from elsewhere; and without a plan, which says why.
    let run = [&["run", "--rm"][..], &runtime[..], &["--annotation", &annotation, &machine.image, "two"][..]]
        .concat();
    let mut foreground = machine.containerd.ctr(&machine.node, &run);
    let foreground = foreground.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let runs = || {
        let (_, listed) = ctr(&machine, &["tasks", "ls"]);
        listed.lines().any(|l| l.starts_with("two") && l.ends_with("RUNNING"))
    };
    assert!(wait_until(Duration::from_secs(120), runs), "{}", machine.containerd.log());
    must(&machine, &["tasks", "kill", "--signal", "SIGKILL", "two"]);
    let ended = foreground.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(137), "{}", String::from_utf8_lossy(&ended.stderr));
    let (good, said) =
        ctr(&machine, &[&["run", "--rm"][..], &runtime[..], &[&machine.image, "bare"][..]].concat());
    assert!(!good && said.contains(Code::InitdataMissing.as_str()), "{said}");
    assert_eq!(must(&machine, &["containers", "ls", "-q"]), "");
    machine
}

#[test]
fn under_containerd_1_6() {
    Story::Cocoon(|_| {}).tell(Version::V1_6, a_life);
}

#[test]
fn under_containerd_1_7() {
    Story::Cocoon(|_| {}).tell(Version::V1_7, a_life);
}

#[test]
fn under_containerd_2() {
    Story::Cocoon(|_| {}).tell(Version::V2, a_life);
}
