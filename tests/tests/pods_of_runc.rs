//! The tests' own machinery, shown on a runtime that everybody knows: pods of runc, under every containerd. What fails
//! here is not Cocoon's fault.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use cocoon_tests::containerd::{ContainerWish, Machine, PodWish, Story, Version};
use rustix::process::Signal;

const WORK: &str = r#"
echo "to stdout"; echo "to stderr" >&2
trap 'echo asked; exit 5' TERM
mkdir -p /www; echo content >/www/index.html; busybox httpd -p 8080 -h /www
echo ready
while :; do sleep 0.1; done
"#;

async fn a_pod(machine: Machine) -> Machine {
    let image = machine.image.clone();
    let mut wish = PodWish::new("plain", "runc");
    wish.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "1000".into());
    let pod = machine.pod(wish).await.unwrap();
    let first = ContainerWish::script("first", &image, "exit 3");
    let ended = pod.container(&first).await.unwrap();
    let ended = pod.wait(&ended).await.unwrap();
    assert_eq!((ended.code, ended.reason.as_str()), (3, "Error"));

    let work = pod.container(&ContainerWish::script("work", &image, WORK)).await.unwrap();
    pod.wait_for_log("work", 0, "ready\n").await.unwrap();
    assert_eq!(pod.log("work", 0, "stderr").unwrap(), "to stderr\n");
    assert_eq!(
        pod.exec(&work, &["/bin/sh", "-c", "echo a; echo b >&2; exit 7"]).await.unwrap(),
        ("a\n".into(), "b\n".into(), 7)
    );
    assert!(pod.exec_within(&work, &["/bin/sleep", "600"], 1).await.is_err());
    assert_eq!(pod.sh(&work, "busybox hostname").await.unwrap(), "plain");
    assert!(pod.sh(&work, "cat /etc/resolv.conf").await.unwrap().contains("nameserver 10.88.0.1"));
    let ip = pod.pod_status().await.unwrap().network.ip.clone();
    assert!(ip.starts_with("10.88."), "{ip}");

    let mut shell = pod.exec_stream(&work, &["/bin/sh"], true, true).await.unwrap();
    shell.resize(123, 45).await.unwrap();
    shell.write(b"until busybox stty size | grep '45 123'; do sleep 0.1; done; exit 4\n").await.unwrap();
    assert_eq!(shell.finish().await.unwrap(), 4, "{}", String::from_utf8_lossy(&shell.stdout));
    let mut pipe =
        pod.exec_stream(&work, &["/bin/sh", "-c", "head -c 6; echo oh >&2"], false, true).await.unwrap();
    pipe.write(b"abcdef").await.unwrap();
    assert_eq!(pipe.finish().await.unwrap(), 0);
    assert_eq!((pipe.stdout.as_slice(), pipe.stderr.as_slice()), (b"abcdef".as_slice(), b"oh\n".as_slice()));

    let mut web = pod.forward(8080).await.unwrap();
    web.write(b"GET /index.html HTTP/1.0\r\n\r\n").await.unwrap();
    web.wait_for("content\n").await.unwrap();

    assert!(pod.container_stats(&work).await.unwrap().cpu.usage_core_nano_seconds.value > 0);
    pod.stop_container(&work, 30).await.unwrap();
    assert_eq!(pod.wait(&work).await.unwrap().code, 5);
    assert!(pod.log("work", 0, "stdout").unwrap().ends_with("asked\n"));

    let mut echo = ContainerWish::script("echo", &image, "read line; echo \"got $line\"; sleep 1000");
    echo.stdin = true;
    let echo = pod.container(&echo).await.unwrap();
    let mut attached = pod.attach(&echo, false, true).await.unwrap();
    attached.write(b"words\n").await.unwrap();
    attached.wait_for("got words").await.unwrap();
    machine.remove(pod).await.unwrap();
    machine
}

#[test]
fn under_containerd_1_6() {
    Story::Runc.tell(Version::V1_6, a_pod);
}

#[test]
fn under_containerd_1_7() {
    Story::Runc.tell(Version::V1_7, a_pod);
}

#[test]
fn under_containerd_2() {
    Story::Runc.tell(Version::V2, a_pod);
}

/// A containerd that is killed and started again finds its pods.
#[test]
fn containerd_is_killed_and_comes_back() {
    Story::Runc.tell(Version::V2, async |mut machine| {
        let pod = machine.pod(PodWish::new("stays", "runc")).await.unwrap();
        let work = ContainerWish::script(
            "work",
            &machine.image,
            "trap 'exit 6' TERM; echo ready; while :; do sleep 0.1; done",
        );
        let work = pod.container(&work).await.unwrap();
        pod.wait_for_log("work", 0, "ready\n").await.unwrap();
        machine.containerd.end(&machine.node, Signal::KILL).unwrap();
        machine.containerd.start_again(&machine.node).unwrap();
        assert_eq!(pod.sh(&work, "echo here").await.unwrap(), "here");
        pod.stop_container(&work, 30).await.unwrap();
        assert_eq!(pod.wait(&work).await.unwrap().code, 6);
        machine.remove(pod).await.unwrap();
        machine
    });
}
