//! What the containers of a pod share, what they do not, and what they leave.

// Helpers of tests are tests too.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::path::PathBuf;
use std::time::Duration;

use cocoon_guest::container::{Container, ExecSpec, HostPart, MAX_MESSAGE, Streams};
use cocoon_plan::ContainerPlan;
use cocoon_stage::Code;
use common::{Machine, plan};
use tokio::io::AsyncReadExt;

async fn started(machine: &Machine, plan: &ContainerPlan) -> Container {
    let container = machine.create(plan, &[], Streams::default()).await.unwrap();
    container.start().await.unwrap();
    container
}

/// Says when it is ready.
async fn ready(machine: &Machine, plan: &ContainerPlan) -> Container {
    let (mut out, near) = tokio::io::duplex(4096);
    let streams = Streams { stdout: Some(Box::new(near)), ..Streams::default() };
    let container = machine.create(plan, &[], streams).await.unwrap();
    container.start().await.unwrap();
    let mut line = [0; 6];
    out.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"ready\n");
    // Later output goes nowhere.
    container
}

#[tokio::test]
async fn host_name_ipc_and_shared_memory_are_the_pods_and_the_rest_is_not() {
    let Some(machine) = Machine::new() else { return };
    let one = ready(
        &machine,
        &plan("one", "echo hello > /dev/shm/x; echo own > /tmp/x; echo ready; exec busybox sleep 1000"),
    )
    .await;
    let two = machine
        .run(&plan("two", "cat /dev/shm/x; cat /tmp/x || echo none; busybox hostname; busybox ps -o args | busybox grep -c 100[0]; ls /dev/mqueue"), &[])
        .await;
    assert_eq!(two.stdout, "hello\nnone\npod\n0\n", "{}", two.stderr);
    let namespace = |kind: &str, pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    let three = started(&machine, &plan("three", "exec busybox sleep 1000")).await;
    let (a, b, me) = (one.process().pid(), three.process().pid(), std::process::id());
    for shared in ["ipc", "uts"] {
        assert_eq!(namespace(shared, a), namespace(shared, b));
        assert_ne!(namespace(shared, a), namespace(shared, me));
    }
    for own in ["pid", "mnt"] {
        assert_ne!(namespace(own, a), namespace(own, b));
    }
    assert_eq!(namespace("net", a), namespace("net", me));
    one.destroy().await;
    three.destroy().await;
}

#[tokio::test]
async fn process_ids_are_shared_where_the_plan_says_so() {
    let Some(machine) = Machine::of(true) else { return };
    let one = ready(&machine, &plan("one", "echo ready; exec busybox sleep 1234")).await;
    let script = "echo pid $$ | busybox sed 's/pid 1$/first/;s/[0-9]*//g'; busybox ps -o args | busybox grep -c 'sleep 123[4]'; \
        busybox tr '\\0' ' ' < /proc/1/cmdline; ls /proc/1/root/; cat /proc/1/fd/0; \
        busybox grep -E 'Uid|CapEff|CapBnd|Seccomp:|NoNewPrivs' /proc/1/status; kill $(busybox ps -o pid,args | busybox grep 'sleep 123[4]' | busybox sed 's/^ *\\([0-9]*\\).*/\\1/')";
    let two = machine.run(&plan("two", script), &[]).await;
    let nobody = "65534\t65534\t65534\t65534";
    assert!(two.stdout.starts_with("pid \n1\ncocoon-pod Uid"), "{} {}", two.stdout, two.stderr);
    for set in ["CapEff", "CapBnd"] {
        assert!(two.stdout.contains(&format!("{set}:\t0000000000000000")), "{}", two.stdout);
    }
    assert!(
        two.stdout.contains(&format!("Uid:\t{nobody}")) && two.stdout.contains("NoNewPrivs:\t1"),
        "{}",
        two.stdout
    );
    assert!(two.stderr.contains("denied"), "nobody looks into the pod's first process: {}", two.stderr);
    let end = tokio::time::timeout(Duration::from_secs(10), one.wait()).await.unwrap();
    assert_eq!(end.status, 128 + 15, "a container may signal another's, and its exit is seen");
    one.destroy().await;
}

#[tokio::test]
async fn orphans_of_a_pod_are_reaped_and_its_first_process_cannot_be_killed() {
    let Some(machine) = Machine::of(true) else { return };
    let script = "(busybox sleep 0.05 &) ; (busybox true &) ; kill -9 1; kill -15 1; busybox sleep 0.3; \
        busybox ps -o stat,args | busybox grep -c '^Z' ; ls -d /proc/1";
    let mut killer = plan("killer", script);
    killer.capabilities.push("CAP_KILL".into());
    let done = machine.run(&killer, &[]).await;
    assert_eq!(done.stdout, "0\n/proc/1\n", "{}", done.stderr);
}

#[tokio::test]
async fn groups_are_added_and_root_is_refused_where_the_plan_says_so() {
    let Some(machine) = Machine::new() else { return };
    let mut alice = plan("alice", "id -G");
    (alice.user, alice.groups, alice.run_as_non_root) = ("alice".into(), vec![50, 3000], true);
    assert_eq!(machine.run(&alice, &[]).await.stdout, "1000 50 3000\n");
    for (i, user) in ["", "0", "root", "root:alice"].into_iter().enumerate() {
        let mut root = plan(&format!("root{i}"), "id");
        (root.user, root.run_as_non_root) = (user.into(), true);
        let failure = machine.create(&root, &[], Streams::default()).await.unwrap_err();
        assert_eq!(failure.code, Code::StartUserRoot, "{user:?}");
        assert_eq!(failure.for_host().reason, None);
    }
}

#[tokio::test]
async fn the_hosts_part_is_its_variables_and_hosts_file() {
    let Some(machine) = Machine::new() else { return };
    let (mut out, near) = tokio::io::duplex(4096);
    let streams = Streams { stdout: Some(Box::new(near)), ..Streams::default() };
    let host = HostPart {
        id: "0f3a".into(),
        env: vec!["POD_IP=10.0.0.1".into()],
        hosts: Some("10.0.0.1 mine\n".into()),
        resources: None,
        ..HostPart::default()
    };
    let container = machine
        .create_as(&plan("main", "echo $POD_IP; cat /etc/hosts /etc/resolv.conf"), &host, &[], streams)
        .await
        .unwrap();
    container.start().await.unwrap();
    let mut text = String::new();
    out.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "10.0.0.1\n10.0.0.1 mine\nnameserver 192.0.2.1\n");
    container.wait().await;
    container.destroy().await;
}

#[tokio::test]
async fn the_last_words_are_read_back_and_bounded() {
    let Some(machine) = Machine::new() else { return };
    let told = async |name: &str, script: &str| {
        let mut plan = plan(name, script);
        (plan.termination_message, plan.user) = (Some("/dev/termination-log".into()), "alice".into());
        let container = started(&machine, &plan).await;
        container.wait().await;
        let message = container.termination_message().unwrap().unwrap();
        container.destroy().await;
        assert_eq!(container.termination_message().unwrap().unwrap(), message, "still there");
        message
    };
    assert_eq!(told("words", "echo bye > /dev/termination-log").await, b"bye\n");
    assert_eq!(told("silent", "busybox rm -f /dev/termination-log; true").await, b"");
    let long =
        told("long", "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done > /dev/termination-log")
            .await;
    assert_eq!(long.len(), MAX_MESSAGE);
    assert!(long.ends_with(b"line 2999\n"));
    let flood = told("flood", "busybox dd if=/dev/zero of=/dev/termination-log bs=64k count=64; true").await;
    assert!(flood.len() <= MAX_MESSAGE);
    let none = started(&machine, &plan("none", "true")).await;
    none.wait().await;
    assert_eq!(none.termination_message().unwrap(), None);
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&format!("{}/work/0", machine.dir.path().display())));
    assert!(!mounts.contains("/termination "), "nothing stays mounted");
}

#[tokio::test]
async fn an_instance_follows_another_of_the_same_id() {
    let Some(machine) = Machine::new() else { return };
    for _ in 0..3 {
        let done = machine.run(&plan("again", "echo run"), &[]).await;
        assert_eq!((done.stdout.as_str(), done.exit.status), ("run\n", 0));
        std::fs::remove_dir_all(machine.dir.path().join("images")).unwrap();
    }
    let left: Vec<_> = std::fs::read_dir(machine.dir.path().join("work")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "the pod's folder: {left:?}");
}

/// A folder in the unified hierarchy, gone with the test.
struct Group(PathBuf);

impl Group {
    fn new() -> Option<Self> {
        let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(PathBuf::from);
        let root = root.into_iter().find(|r| r.join("cgroup.procs").exists())?;
        let path = root.join(format!("cocoon-test-{}-{:?}", std::process::id(), std::thread::current().id()));
        std::fs::create_dir(&path).ok()?;
        path.join("cgroup.kill").exists().then_some(Group(path))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[tokio::test]
async fn all_processes_are_counted_signalled_and_killed_together() {
    for shared in [false, true] {
        let (Some(mut machine), Some(group)) = (Machine::of(shared), Group::new()) else {
            println!("skipped: needs a unified cgroup hierarchy");
            return;
        };
        machine.settings.cgroups = Some(group.0.clone());
        let script =
            "trap 'echo > /dev/null' TERM; busybox sleep 1000 & echo ready; wait; busybox sleep 1000; exit 1";
        let container = ready(&machine, &plan("all", script)).await;
        let spec = ExecSpec {
            args: ["busybox", "sleep", "1000"].map(String::from).to_vec(),
            env: Vec::new(),
            cwd: None,
            terminal: false,
        };
        let exec = container.exec(&machine.settings, &spec, Streams::default()).await.unwrap();
        exec.start().await.unwrap();
        let pids = container.pids();
        assert_eq!(pids.len(), 3, "{pids:?}");
        assert!(pids.contains(&container.process().pid()) && pids.contains(&exec.pid()));
        container.signal_all(15).unwrap();
        assert_eq!(exec.wait().await.status, 143, "the signal reaches those beside it");
        container.signal_all(9).unwrap();
        let end = tokio::time::timeout(Duration::from_secs(10), container.wait()).await.unwrap();
        assert_eq!(end.status, 137);
        assert!(container.pids().is_empty(), "shared: {shared}");

        // A container's end takes along what it left running.
        let container = ready(&machine, &plan("left", "busybox sleep 1000 & echo ready; exit 4")).await;
        let end = tokio::time::timeout(Duration::from_secs(10), container.wait()).await.unwrap();
        assert_eq!(end.status, 4);
        assert!(container.pids().is_empty(), "shared: {shared}");
        container.destroy().await;
        drop(container);
        drop(machine);
        let left: Vec<_> =
            std::fs::read_dir(&group.0).unwrap().flatten().filter(|e| e.path().is_dir()).collect();
        assert!(left.len() <= 1, "{left:?}");
        for folder in left {
            let _ = std::fs::remove_dir(folder.path());
        }
    }
}
