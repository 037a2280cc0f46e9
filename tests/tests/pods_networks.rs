//! Networks that CNI plugins make for a pod: several devices of both families, their MTUs and routes, taken over by the
//! VM; and those that no VM can take over, refused by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::fs;

use cocoon_plan::Plan;
use cocoon_stage::Code;
use cocoon_tests::containerd::{ContainerWish, Machine, Pod, PodWish, Story, Version};
use cocoon_tests::run;
use rustix::process::Signal;
use serde_json::{Value, json};

/// Networks of the node in the plain form of a CNI configuration list; containerd gives a pod a device in each, in the
/// order of the files' names.
fn write_network(machine: &Machine, file: &str, name: &str, plugin: &Value) {
    let list = json!({"cniVersion": "1.0.0", "name": name, "plugins": [plugin]});
    fs::write(machine.containerd.file("cni").join(file), list.to_string()).unwrap();
}

fn addresses(machine: &Machine, ranges: Value, routes: Value) -> Value {
    let folder = machine.containerd.file("addresses");
    json!({"type": "host-local", "dataDir": folder, "ranges": ranges, "routes": routes})
}

/// The pod's bridge with a smaller MTU, and beside it a device between node and pod alone, with routes of its own.
fn two_networks(machine: &Machine) {
    let both = json!([[{"subnet": "10.88.0.0/16"}], [{"subnet": "fd00:88::/64"}]]);
    let everywhere = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    let bridge = json!({
        "type": "bridge", "bridge": "cocoon0", "isGateway": true, "mtu": 1400,
        "ipam": addresses(machine, both, everywhere),
    });
    write_network(machine, "10-cocoon.conflist", "cocoon", &bridge);
    let both = json!([[{"subnet": "10.89.0.0/24"}], [{"subnet": "fd00:89::/64"}]]);
    let few = json!([{"dst": "198.51.100.0/24"}, {"dst": "2001:db8:77::/48"}]);
    let direct = json!({"type": "ptp", "mtu": 1300, "ipam": addresses(machine, both, few)});
    write_network(machine, "20-direct.conflist", "direct", &direct);
}

fn ping(address: &str) {
    run("busybox", ["ping", "-c", "1", "-W", "20", address]).unwrap();
}

async fn guest_pings(pod: &Pod, id: &str, address: &str) {
    pod.sh(id, &format!("busybox ping -c 1 -W 20 {address}")).await.unwrap();
}

/// The addresses of a device as the guest has them, without prefix lengths, link-local ones left out.
async fn addresses_of(pod: &Pod, id: &str, device: &str) -> Vec<String> {
    let text = pod.sh(id, &format!("busybox ip -o addr show dev {device}")).await.unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    let after = |pair: &[&str]| {
        (pair[0] == "inet" || pair[0] == "inet6").then(|| pair[1].split('/').next().unwrap().to_owned())
    };
    words.windows(2).filter_map(after).filter(|a| !a.starts_with("fe80:")).collect()
}

async fn several(mut machine: Machine) -> Machine {
    two_networks(&machine);
    machine.containerd.end(&machine.node, Signal::TERM).unwrap();
    machine.containerd.start_again(&machine.node).unwrap();
    // What the second device's routes lead to.
    for address in ["198.51.100.1/32", "2001:db8:77::1/128"] {
        run("ip", ["address", "add", address, "dev", "lo"]).unwrap();
    }
    let script = "mkdir -p /www; echo content >/www/index.html; head -c 300000 /dev/zero >/www/large; \
                  busybox httpd -p 8080 -h /www; echo ready; sleep 100000";
    let work = ContainerWish::script("work", &machine.image, script);
    let wish = PodWish::new("several", "cocoon");
    let forward = |plan: &mut Plan| plan.forward_ports = vec![8080];
    let pod = machine.planned(wish, &[&work], &[], forward).await.unwrap();
    let id = pod.container(&work).await.unwrap();
    pod.wait_for_log("work", 0, "ready\n").await.unwrap();

    // The same devices, addresses, MTUs and routes as in the namespace that the plugins filled.
    let status = pod.pod_status().await.unwrap().network;
    let mut told: Vec<String> = status.additional_ips.iter().map(|ip| ip.ip.clone()).collect();
    told.push(status.ip.clone());
    let (first, second) = (addresses_of(&pod, &id, "eth0").await, addresses_of(&pod, &id, "eth1").await);
    assert!(first.len() == 2 && first.iter().all(|a| told.contains(a)), "{first:?} of {told:?}");
    assert!(second.len() == 2 && second[0].starts_with("10.89.0."), "{second:?}");
    assert!(second[1].starts_with("fd00:89::"), "{second:?}");
    for (device, mtu) in [("eth0", "1400"), ("eth1", "1300")] {
        assert_eq!(pod.sh(&id, &format!("cat /sys/class/net/{device}/mtu")).await.unwrap(), mtu);
    }
    let routes = pod.sh(&id, "busybox ip route; busybox ip -6 route").await.unwrap();
    for route in [
        "default via 10.88.0.1 dev eth0",
        "198.51.100.0/24 via 10.89.0.1 dev eth1",
        "default via fd00:88::1 dev eth0",
        "2001:db8:77::/48 via fd00:89::1 dev eth1",
    ] {
        assert!(routes.contains(route), "{route} is not in\n{routes}");
    }

    for address in first.iter().chain(&second) {
        ping(address);
    }
    for address in ["10.88.0.1", "10.89.0.1", "fd00:88::1", "fd00:89::1", "198.51.100.1", "2001:db8:77::1"] {
        guest_pings(&pod, &id, address).await;
    }
    // More than fits into a packet, over each.
    for host in [first[0].clone(), second[0].clone(), format!("[{}]", first[1]), format!("[{}]", second[1])] {
        let page = run("busybox", ["wget", "-q", "-O", "-", &format!("http://{host}:8080/large")]).unwrap();
        assert_eq!(page.len(), 300_000, "{host}");
    }
    let mut web = pod.forward(8080).await.unwrap();
    web.write(b"GET /index.html HTTP/1.0\r\n\r\n").await.unwrap();
    web.wait_for("content\n").await.unwrap();
    pod.remove().await.unwrap();

    refused(&mut machine, &work).await;
    machine
}

/// Networks that are none for a VM: the event has a code and what it is about, and nothing boots.
async fn refused(machine: &mut Machine, work: &ContainerWish) {
    let mut host = PodWish::new("host", "cocoon");
    host.host_network = true;
    let error = machine.planned(host, &[work], &[], |_| {}).await.map(drop).unwrap_err().to_string();
    assert!(error.contains(Code::PlanRequestRefused.as_str()) && error.contains("hostNetwork"), "{error}");

    // A device that is a program's on the node: no pod's to take over.
    run("ip", ["tuntap", "add", "dev", "program0", "mode", "tap"]).unwrap();
    let range = json!([[{"subnet": "10.90.0.0/24"}]]);
    let moved =
        json!({"type": "host-device", "device": "program0", "ipam": addresses(machine, range, json!([]))});
    write_network(machine, "20-direct.conflist", "moved", &moved);
    machine.containerd.end(&machine.node, Signal::TERM).unwrap();
    machine.containerd.start_again(&machine.node).unwrap();
    let moved = machine.planned(PodWish::new("moved", "cocoon"), &[work], &[], |_| {}).await;
    let error = moved.map(drop).unwrap_err().to_string();
    assert!(error.contains(Code::BootNetworkUnsupported.as_str()) && error.contains("eth1"), "{error}");
    // It is the node's again.
    run("ip", ["link", "delete", "program0"]).unwrap();
}

#[test]
fn several_devices_of_both_families_and_what_cannot_be() {
    Story::Cocoon(|_| {}).tell(Version::V2, several);
}
