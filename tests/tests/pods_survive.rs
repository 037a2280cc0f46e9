//! Processes die, pods come in crowds, somebody talks nonsense to the shim: pods that can go on do, and of those that
//! cannot nothing is left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use cocoon_tests::containerd::{ContainerWish, Machine, Pod, PodWish, Story, Version, cri};
use cocoon_tests::wait_until;
use protobuf::EnumOrUnknown;
use rustix::process::Signal;

const SHIM: &str = "containerd-shim-cocoon-v2";
const QEMU: &str = "qemu-system-x86_64";
const SOON: Duration = Duration::from_secs(30);

async fn worker(machine: &Machine, name: &str) -> (Pod, String) {
    let script = "trap 'exit 6' TERM; echo ready; while :; do sleep 0.1; done";
    let work = ContainerWish::script("work", &machine.image, script);
    let pod = machine.planned(PodWish::new(name, "cocoon"), &[&work], &[], |_| {}).await.unwrap();
    let id = pod.container(&work).await.unwrap();
    pod.wait_for_log("work", 0, "ready\n").await.unwrap();
    (pod, id)
}

/// Waits until kubelet would see that the pod is gone, then removes it.
async fn is_gone(machine: &Machine, pod: Pod, container: &str) {
    let began = Instant::now();
    loop {
        let status = pod.status(container).await.unwrap();
        let sandbox = pod.pod_status().await.unwrap().state;
        if status.state == EnumOrUnknown::new(cri::ContainerState::CONTAINER_EXITED)
            && sandbox == EnumOrUnknown::new(cri::PodSandboxState::SANDBOX_NOTREADY)
        {
            assert_ne!(status.exit_code, 0);
            break;
        }
        assert!(began.elapsed() < SOON, "{:?}, pod {sandbox:?}\n{}", status.state, machine.containerd.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pod.remove().await.unwrap();
    assert_eq!(machine.left(SOON).unwrap(), Vec::<String>::new(), "{}", machine.containerd.log());
}

async fn deaths(mut machine: Machine) -> Machine {
    // containerd: the pod goes on, and is served again.
    let (pod, work) = worker(&machine, "first").await;
    for signal in [Signal::TERM, Signal::KILL] {
        machine.containerd.end(&machine.node, signal).unwrap();
        assert_eq!(machine.node.named(QEMU).len(), 1);
        machine.containerd.start_again(&machine.node).unwrap();
        assert_eq!(pod.sh(&work, "echo here").await.unwrap(), "here");
        assert_eq!(
            pod.pod_status().await.unwrap().state,
            EnumOrUnknown::new(cri::PodSandboxState::SANDBOX_READY)
        );
    }
    // Nonsense on the shim's socket: it goes on.
    for socket in machine.node.sockets("/run/containerd/s") {
        for nonsense in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0xff; 64],
            &[0, 0, 0, 4, 0, 0, 0, 1, 1, 0, 0xff, 0xff, 0xff, 0xff],
        ] {
            let mut stream = UnixStream::connect(&socket).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let _ = stream.write_all(nonsense);
            let _ = stream.read(&mut [0; 64]);
        }
        let mut claims = UnixStream::connect(&socket).unwrap();
        let _ = claims.write_all(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1, 0]);
    }
    assert_eq!(pod.sh(&work, "echo here").await.unwrap(), "here");
    pod.stop_container(&work, 60).await.unwrap();
    assert_eq!(pod.wait(&work).await.unwrap().code, 6);
    pod.remove().await.unwrap();

    // QEMU.
    let (pod, work) = worker(&machine, "second").await;
    machine.node.named(QEMU)[0].signal(Signal::KILL);
    is_gone(&machine, pod, &work).await;

    // The shim: its VM does not outlive it.
    let (pod, work) = worker(&machine, "third").await;
    machine.node.named(SHIM)[0].signal(Signal::KILL);
    assert!(wait_until(SOON, || machine.node.named(QEMU).is_empty()), "QEMU outlives the shim");
    is_gone(&machine, pod, &work).await;

    // All at once.
    let (pod, work) = worker(&machine, "fourth").await;
    let shim = machine.node.named(SHIM);
    machine.containerd.end(&machine.node, Signal::KILL).unwrap();
    shim[0].signal(Signal::KILL);
    machine.containerd.start_again(&machine.node).unwrap();
    is_gone(&machine, pod, &work).await;
    machine
}

#[test]
fn whatever_is_killed() {
    Story::Cocoon(|_| {}).tell(Version::V2, deaths);
}

async fn crowd(machine: Machine) -> Machine {
    let work = ContainerWish::script("work", &machine.image, "busybox hostname; sleep 100000");
    let one = |number: usize| {
        let (machine, work) = (&machine, &work);
        async move {
            let name = format!("crowd-{number}");
            let pod = machine.planned(PodWish::new(&name, "cocoon"), &[work], &[], |_| {}).await.unwrap();
            pod.container(work).await.unwrap();
            pod.wait_for_log("work", 0, &format!("{name}\n")).await.unwrap();
            pod
        }
    };
    let pods = futures_util::future::join_all((0..8).map(one)).await;
    assert_eq!(machine.node.named(QEMU).len(), 8);
    for shim in machine.node.named(SHIM) {
        println!(
            "shim: RssAnon {:?} KiB, RssFile {:?} KiB",
            shim.memory().unwrap().0,
            shim.memory().unwrap().1
        );
    }
    futures_util::future::join_all(pods.iter().map(Pod::remove)).await.into_iter().for_each(Result::unwrap);
    machine
}

#[test]
fn eight_pods_at_once() {
    Story::Cocoon(|class| class.default_memory_mib = 192).tell(Version::V2, crowd);
}
