//! What a VM cannot take over is refused by name, with its code, and left as it was; what a killed process left is
//! cleaned.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cocoon_network::{PodNetwork, is_host_netns};
use cocoon_stage::{Code, Failure};
use common::Space;

fn refused(path: &Path) -> Failure {
    Failure::from(PodNetwork::attach(path).err().unwrap())
}

#[test]
fn paths_that_are_no_pods_namespace() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let absent = dir.path().join("absent");
    for path in
        [file.as_path(), &fifo, &absent, dir.path(), Path::new("/proc/self/ns/mnt"), Path::new("/dev/null")]
    {
        let failure = refused(path);
        assert_eq!(failure.code, Code::BootNetworkFailed, "{}: {failure}", path.display());
        assert!(is_host_netns(path).is_err(), "{}", path.display());
    }
    for host in ["", "/proc/self/ns/net", "/proc/thread-self/ns/net"] {
        let failure = refused(Path::new(host));
        assert_eq!(failure.code, Code::BootNetworkUnsupported, "{host}: {failure}");
        assert!(is_host_netns(Path::new(host)).unwrap(), "{host}");
        PodNetwork::clean(Path::new(host)).unwrap();
    }
    // Gone already: nothing to clean.
    PodNetwork::clean(&absent).unwrap();
    assert!(PodNetwork::clean(&file).is_err());
    let Some(pod) = Space::new() else { return };
    assert!(!is_host_netns(&pod.path()).unwrap());
}

fn with_veth(pod: &Space, name: &str) {
    pod.run(&format!("ip link add {name} type veth peer peer-{name}"));
    pod.run(&format!("ip link set {name} up"));
}

/// The peers of [`with_veth`] are in the same namespace; they stay down and so do not count.
fn unsupported(pod: &Space, name: &str) {
    let before = (pod.devices(), pod.run("tc qdisc show"));
    let failure = refused(&pod.path());
    assert_eq!(failure.code, Code::BootNetworkUnsupported, "{failure}");
    assert!(failure.reason.contains(name), "{failure}");
    assert_eq!((pod.devices(), pod.run("tc qdisc show")), before, "nothing is changed");
}

#[test]
fn devices_and_routes_that_a_vm_cannot_have() {
    type Make = fn(&Space);
    let cases: &[(&str, Make)] = &[
        ("br9", |p| drop(p.run("ip link add br9 type bridge") + &p.run("ip link set br9 up"))),
        ("tap9", |p| drop(p.run("ip tuntap add tap9 mode tap") + &p.run("ip link set tap9 up"))),
        ("eth0", |p| drop(p.run("tc qdisc add dev eth0 clsact"))),
        ("eth0", |p| {
            p.run("tc qdisc add dev eth0 ingress");
            p.run("tc filter add dev eth0 parent ffff: protocol all u32 match u8 0 0 action mirred egress redirect dev lo");
        }),
        ("several gateways", |p| {
            p.run("ip addr add 10.0.0.2/24 dev eth0");
            p.run("ip route add 10.5.0.0/16 nexthop via 10.0.0.3 dev eth0 nexthop via 10.0.0.4 dev eth0");
        }),
        ("10.6.0.0/16", |p| drop(p.run("ip route add throw 10.6.0.0/16"))),
        ("has an address, but is down", |p| {
            p.run("ip link add eth1 type veth peer peer-eth1");
            p.run("ip addr add 10.1.0.2/24 dev eth1");
        }),
        ("hardware address", |p| {
            with_veth(p, "eth1");
            p.run("ip link set eth1 address 02:00:00:00:00:01");
            p.run("ip link set eth0 address 02:00:00:00:00:01");
        }),
        ("a+b", |p| with_veth(p, "a+b")),
        ("more than 32 addresses", |p| {
            for n in 0..33 {
                p.run(&format!("ip addr add 10.0.{n}.1/24 dev eth0"));
            }
        }),
        ("more than 16 network devices", |p| {
            for n in 1..17 {
                with_veth(p, &format!("net{n}"));
            }
        }),
    ];
    for (name, make) in cases {
        let Some(pod) = Space::new() else { return };
        with_veth(&pod, "eth0");
        make(&pod);
        unsupported(&pod, name);
    }
}

#[test]
fn devices_of_the_kernels_own_do_not_count() {
    let Some(pod) = Space::new() else { return };
    with_veth(&pod, "eth0");
    pod.run("ip link add br9 type bridge");
    let network = PodNetwork::attach(&pod.path()).unwrap();
    assert_eq!(network.taps().len(), 1);
}

#[test]
fn a_second_vm_is_refused_and_the_first_keeps_its_network() {
    let Some(pod) = Space::new() else { return };
    with_veth(&pod, "eth0");
    let first = PodNetwork::attach(&pod.path()).unwrap();
    unsupported(&pod, "tap0_cocoon");
    assert!(pod.redirected("eth0") && pod.redirected("tap0_cocoon"));
    drop(first);
    assert!(!pod.redirected("eth0"));
    assert!(PodNetwork::attach(&pod.path()).is_ok());
}

#[test]
fn a_namespace_that_goes_first_is_no_trouble() {
    let Some(pod) = Space::new() else { return };
    with_veth(&pod, "eth0");
    let network = PodNetwork::attach(&pod.path()).unwrap();
    let path = pod.path();
    drop(pod);
    PodNetwork::clean(&path).unwrap();
    drop(network);
}

#[test]
#[ignore = "run by the test below, which kills it"]
fn attach_and_wait() {
    let path = PathBuf::from(std::env::var_os("POD_NETWORK").unwrap());
    let _network = PodNetwork::attach(&path).unwrap();
    println!("\nattached");
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// Leaves what a killed process leaves.
fn crash(pod: &Space) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "attach_and_wait", "--nocapture"])
        .env("POD_NETWORK", pod.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|l| l == "attached"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(pod.redirected("eth0"), "or there is nothing to clean");
}

#[test]
fn after_a_crash_the_namespace_is_cleaned() {
    let Some(pod) = Space::new() else { return };
    with_veth(&pod, "eth0");
    with_veth(&pod, "net1");
    crash(&pod);
    for _ in 0..2 {
        PodNetwork::clean(&pod.path()).unwrap();
        assert!(!pod.redirected("eth0") && !pod.redirected("net1"));
        assert!(!pod.devices().iter().any(|d| d.starts_with("tap")), "{:?}", pod.devices());
    }
    // A new VM needs no cleaning first.
    crash(&pod);
    let network = PodNetwork::attach(&pod.path()).unwrap();
    assert_eq!(network.taps().len(), 2);
}

#[test]
fn cleaning_leaves_others_traffic_control_alone() {
    let Some(pod) = Space::new() else { return };
    with_veth(&pod, "eth0");
    pod.run("tc qdisc add dev eth0 ingress");
    pod.run("tc filter add dev eth0 parent ffff: protocol all u32 match u8 0 0 action mirred egress redirect dev lo");
    PodNetwork::clean(&pod.path()).unwrap();
    assert!(pod.run("tc filter show dev eth0 ingress").contains("mirred"));
}
