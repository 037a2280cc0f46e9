//! A CNI plugin makes a pod's network; a guest behind the taps is then reached as the pod was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::path::Path;

use cocoon_network::PodNetwork;
use cocoon_sandbox_api::sandbox::ConfigureRequest;
use common::{Guest, Space, cni, has_plugins, reaches};
use serde_json::{Value, json};

fn bridge(leases: &Path, mtu: u32) -> Value {
    json!({
        "cniVersion": "0.4.0", "name": "pods", "type": "bridge", "bridge": "cni0", "mtu": mtu,
        "isDefaultGateway": true, "forceAddress": false, "hairpinMode": true,
        "ipam": {
            "type": "host-local", "dataDir": leases,
            "ranges": [[{ "subnet": "10.88.0.0/24" }], [{ "subnet": "fd88::/64" }]],
            "routes": [{ "dst": "10.99.0.0/16", "gw": "10.88.0.1" }]
        }
    })
}

fn described(network: &PodNetwork) -> ConfigureRequest {
    let mut request = ConfigureRequest::default();
    network.describe(&mut request);
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_bridge_plugin() {
    let Some([node, pod]) = Space::several() else { return };
    if !has_plugins(&["bridge", "host-local"]) {
        return;
    }
    // The node's own addresses are usable at once, as they long are on a node.
    node.run("sysctl -qw net.ipv6.conf.default.accept_dad=0");
    let leases = tempfile::tempdir().unwrap();
    let config = bridge(leases.path(), 1400);
    cni(&node, &pod, "ADD", "eth0", &config);

    let network = PodNetwork::attach(&pod.path()).unwrap();
    let request = described(&network);
    let eth0 = &request.interfaces[0];
    assert_eq!((request.interfaces.len(), eth0.name.as_str(), eth0.mtu), (1, "eth0", 1400));
    assert!(eth0.addresses.contains(&"10.88.0.2/24".into()) && eth0.addresses.contains(&"fd88::2/64".into()));
    assert!(eth0.addresses.iter().any(|a| a.starts_with("fe80::")), "{:?}", eth0.addresses);
    let route = |to: &str| request.routes.iter().find(|r| r.destination == to).unwrap();
    assert_eq!(route("0.0.0.0/0").gateway, "10.88.0.1");
    assert_eq!(route("::/0").gateway, "fd88::1");
    assert_eq!(route("10.99.0.0/16").gateway, "10.88.0.1");
    assert_eq!(
        (route("10.88.0.0/24").scope.as_str(), route("10.88.0.0/24").source.as_str()),
        ("link", "10.88.0.2")
    );
    assert_eq!((network.taps().len(), network.taps()[0].mtu), (1, 1400));
    assert!(pod.devices().contains(&"tap0_cocoon".into()), "{:?}", pod.devices());
    let filters = pod.run("tc filter show dev eth0 ingress");
    assert!(filters.contains("mirred (Egress Redirect to device tap0_cocoon)"), "{filters}");
    let filters = pod.run("tc filter show dev tap0_cocoon ingress");
    assert!(filters.contains("mirred (Egress Redirect to device eth0)"), "{filters}");
    assert!(!pod.run("ip addr show dev tap0_cocoon").contains("inet6"), "the tap has nothing to say");

    let guest = Guest::boot(&network);
    reaches(&node, &guest.space, "10.88.0.2:0");
    reaches(&node, &guest.space, "[fd88::2]:0");
    reaches(&guest.space, &node, "10.88.0.1:0");
    reaches(&guest.space, &node, "[fd88::1]:0");
    let frame = guest.largest();
    assert!((1390..=1400 + 14 + 12).contains(&frame), "the MTU is used and kept: {frame}");

    drop(guest);
    drop(network);
    assert!(!pod.devices().iter().any(|d| d.starts_with("tap")), "{:?}", pod.devices());
    assert!(!pod.redirected("eth0"));
    // The pod is as it was: its own processes are reached again.
    reaches(&node, &pod, "10.88.0.2:0");
    cni(&node, &pod, "DEL", "eth0", &config);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_several_interfaces() {
    let Some([node, pod, beyond]) = Space::several() else { return };
    if !has_plugins(&["bridge", "host-local", "ptp"]) {
        return;
    }
    let leases = tempfile::tempdir().unwrap();
    cni(&node, &pod, "ADD", "eth0", &bridge(leases.path(), 1500));
    let ptp = json!({
        "cniVersion": "0.4.0", "name": "fast", "type": "ptp", "mtu": 9000,
        "ipam": {
            "type": "host-local", "dataDir": leases.path(), "ranges": [[{ "subnet": "10.77.0.0/24" }]],
            "routes": [{ "dst": "10.66.0.0/16" }]
        }
    });
    cni(&node, &pod, "ADD", "net1", &ptp);
    // A machine beyond the node, with large frames all the way.
    let pid = beyond.path().components().nth(2).unwrap().as_os_str().to_str().unwrap().to_owned();
    node.run(&format!("ip link add far mtu 9000 type veth peer eth0 mtu 9000 netns {pid}"));
    node.run("ip addr add 10.66.0.1/16 dev far");
    node.run("ip link set far up");
    node.run("sysctl -qw net.ipv4.ip_forward=1");
    beyond.run("ip addr add 10.66.0.9/16 dev eth0");
    beyond.run("ip link set eth0 up");
    beyond.run("ip route add default via 10.66.0.1");
    // Others' additions: a neighbour that never answers, and a route with all there is to say about it.
    pod.run("ip neigh add 10.88.0.200 lladdr 02:00:00:00:00:c8 dev eth0 nud permanent");
    pod.run("ip route add 10.55.0.0/16 via 10.77.0.1 dev net1 src 10.77.0.2 metric 300 mtu 8000 advmss 7000");
    pod.run("ip route add 10.44.0.0/16 via 169.254.9.9 dev net1 onlink");
    pod.run("ip route add blackhole 10.33.0.0/16");
    pod.run("ip -6 route add 2001:db8::/32 via fe80::9 dev eth0 metric 512");
    pod.run("ip route add 10.22.0.0/16 dev eth0 table 100");

    let network = PodNetwork::attach(&pod.path()).unwrap();
    let request = described(&network);
    let names: Vec<(&str, u32)> = request.interfaces.iter().map(|i| (i.name.as_str(), i.mtu)).collect();
    assert_eq!(names, [("eth0", 1500), ("net1", 9000)]);
    let macs: Vec<String> =
        network.taps().iter().map(|t| t.mac.map(|b| format!("{b:02x}")).join(":")).collect();
    assert_eq!(macs, request.interfaces.iter().map(|i| i.hw_addr.clone()).collect::<Vec<_>>());
    let route = |to: &str| request.routes.iter().find(|r| r.destination == to).unwrap();
    let full = route("10.55.0.0/16");
    assert_eq!(
        (full.gateway.as_str(), full.device.as_str(), full.source.as_str()),
        ("10.77.0.1", "net1", "10.77.0.2")
    );
    assert_eq!((full.metric, full.mtu, full.advmss), (300, 8000, 7000));
    assert!(route("10.44.0.0/16").on_link);
    assert_eq!(
        (route("10.33.0.0/16").kind.as_str(), route("10.33.0.0/16").device.as_str()),
        ("blackhole", "")
    );
    assert_eq!((route("2001:db8::/32").gateway.as_str(), route("2001:db8::/32").metric), ("fe80::9", 512));
    assert!(request.routes.iter().all(|r| r.destination != "10.22.0.0/16"), "of another table");
    // The plugin takes the kernel's route to the network away and goes through the gateway instead.
    assert_eq!(route("10.77.0.0/24").gateway, "10.77.0.1");
    assert_eq!(request.neighbours.len(), 1);
    assert_eq!(request.neighbours[0].hw_addr, "02:00:00:00:00:c8");

    let guest = Guest::boot(&network);
    reaches(&node, &guest.space, "10.88.0.2:0");
    reaches(&node, &guest.space, "10.77.0.2:0");
    assert!(guest.largest() <= 9000 + 14 + 12);
    reaches(&guest.space, &beyond, "10.66.0.9:0");
    reaches(&beyond, &guest.space, "10.77.0.2:0");
    assert!(guest.largest() > 8000, "large frames pass: {}", guest.largest());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_macvlan_plugin() {
    let Some([node, pod, other]) = Space::several() else { return };
    if !has_plugins(&["macvlan", "static"]) {
        return;
    }
    let pid = other.path().components().nth(2).unwrap().as_os_str().to_str().unwrap().to_owned();
    node.run(&format!("ip link add uplink type veth peer eth0 netns {pid}"));
    node.run("ip link set uplink up");
    other.run("ip addr add 10.11.0.1/24 dev eth0");
    other.run("ip link set eth0 up");
    let macvlan = json!({
        "cniVersion": "0.4.0", "name": "lan", "type": "macvlan", "master": "uplink", "mode": "bridge",
        "ipam": { "type": "static", "addresses": [{ "address": "10.11.0.5/24" }] }
    });
    cni(&node, &pod, "ADD", "eth0", &macvlan);
    let network = PodNetwork::attach(&pod.path()).unwrap();
    let guest = Guest::boot(&network);
    reaches(&other, &guest.space, "10.11.0.5:0");
    reaches(&guest.space, &other, "10.11.0.1:0");
}

#[test]
fn a_pod_without_network_has_no_taps() {
    let Some(pod) = Space::new() else { return };
    let network = PodNetwork::attach(&pod.path()).unwrap();
    assert!(network.taps().is_empty());
    assert_eq!(described(&network), ConfigureRequest::default());
    drop(network);
    assert_eq!(pod.devices(), ["lo"]);
}
