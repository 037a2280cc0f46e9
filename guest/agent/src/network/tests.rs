//! What the host may say of the network, and what becomes of it.

use cocoon_sandbox_api::sandbox;
use cocoon_stage::{Code, Failure};

use super::*;

fn sample() -> ConfigureRequest {
    let interface = sandbox::Interface {
        name: "eth0".into(),
        addresses: vec!["10.0.2.15/24".into(), "fd00::15/64".into()],
        mtu: 1500,
        hw_addr: "52:54:00:12:34:56".into(),
        ..Default::default()
    };
    let route = sandbox::Route { gateway: "10.0.2.2".into(), device: "eth0".into(), ..Default::default() };
    let neighbour = sandbox::Neighbour {
        address: "10.0.2.2".into(),
        hw_addr: "52:55:0a:00:02:02".into(),
        device: "eth0".into(),
        ..Default::default()
    };
    ConfigureRequest {
        interfaces: vec![interface],
        routes: vec![route],
        neighbours: vec![neighbour],
        resolv_conf: "nameserver 10.0.2.3\n".into(),
        hostname: "demo".into(),
        host_loopback: "10.0.2.2".into(),
        ..Default::default()
    }
}

#[test]
fn a_good_configuration_is_read() {
    let network = Network::check(&sample()).unwrap();
    assert_eq!(network.host_loopback, Some("10.0.2.2".parse().unwrap()));
    assert_eq!(network.interfaces[0].addresses[0].prefix, 24);
    assert_eq!(network.interfaces[0].hardware, Some([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
    assert!(Network::check(&ConfigureRequest::default()).is_ok(), "a pod without network");
}

#[test]
fn hostile_configurations_are_refused_with_the_code() {
    type Spoil = fn(&mut ConfigureRequest);
    let spoils: &[Spoil] = &[
        |r| r.interfaces[0].name = "lo".into(),
        |r| r.interfaces[0].name = "../../etc".into(),
        |r| r.interfaces[0].name = "a".repeat(16),
        |r| r.interfaces[0].addresses = vec!["127.0.0.1/8".into()],
        |r| r.interfaces[0].addresses = vec!["10.0.0.1/33".into()],
        |r| r.interfaces[0].addresses = vec!["10.0.0.1".into()],
        |r| r.interfaces[0].addresses = vec!["10.0.0.1/8".into(); 33],
        |r| r.interfaces[0].mtu = 67,
        |r| r.interfaces[0].hw_addr = "01:00:5e:00:00:01".into(),
        |r| r.interfaces = vec![r.interfaces[0].clone(); 2],
        |r| r.interfaces = vec![sandbox::Interface::default(); 17],
        |r| r.routes[0].device = "eth1".into(),
        |r| r.routes[0].destination = "127.0.0.0/8".into(),
        |r| r.routes[0].destination = "fd00::/8".into(),
        |r| r.routes[0].gateway = "gateway".into(),
        |r| r.routes = vec![r.routes[0].clone(); 257],
        |r| r.interfaces[0].name = "all".into(),
        |r| r.interfaces[0].name = "default".into(),
        |r| r.interfaces[0].addresses = vec!["::ffff:127.0.0.1/128".into()],
        |r| r.interfaces[0].addresses = vec!["ff02::1/128".into()],
        |r| r.interfaces[0].addresses = vec!["224.0.0.1/24".into()],
        |r| r.interfaces[0].addresses = vec!["0.0.0.0/0".into()],
        |r| r.interfaces[0].mtu = 65_536,
        |r| r.interfaces[0].hw_addr = "00:00:00:00:00:00".into(),
        |r| r.interfaces[0].hw_addr = "52:54:00".into(),
        |r| {
            let twin = sandbox::Interface { name: "eth1".into(), ..r.interfaces[0].clone() };
            r.interfaces.push(twin);
        },
        |r| r.routes[0].destination = "127.1.2.3/16".into(),
        |r| r.routes[0].destination = "::1/128".into(),
        |r| r.routes[0].destination = "::ffff:127.0.0.1/128".into(),
        |r| r.routes[0].device = String::new(),
        |r| r.routes[0].device = "lo".into(),
        |r| r.routes[0].gateway = "127.0.0.1".into(),
        |r| r.routes[0].gateway = "224.0.0.1".into(),
        |r| r.routes[0].source = "127.0.0.1".into(),
        |r| r.routes[0].source = "10.0.2.16".into(),
        |r| r.routes[0].source = "fd00::15".into(),
        |r| r.routes[0].scope = "nowhere".into(),
        |r| r.routes[0].kind = "local".into(),
        |r| r.routes[0].kind = "blackhole".into(),
        |r| r.routes[0].mtu = 67,
        |r| r.routes[0].advmss = 65_536,
        |r| r.neighbours[0].address = "127.0.0.1".into(),
        |r| r.neighbours[0].address = "ff02::1".into(),
        |r| r.neighbours[0].address = String::new(),
        |r| r.neighbours[0].hw_addr = String::new(),
        |r| r.neighbours[0].hw_addr = "01:00:5e:00:00:01".into(),
        |r| r.neighbours[0].device = "eth1".into(),
        |r| r.neighbours = vec![r.neighbours[0].clone(); 257],
        |r| r.resolv_conf = "x".repeat(check::MAX_TEXT + 1),
        |r| r.hosts = "a\0b".into(),
        |r| r.hostname = "-x".into(),
        |r| r.hostname = "a b".into(),
        |r| r.host_loopback = "here".into(),
    ];
    for (number, spoil) in spoils.iter().enumerate() {
        let mut request = sample();
        spoil(&mut request);
        let failure = Failure::from(Network::check(&request).expect_err(&number.to_string()));
        assert_eq!(failure.code, Code::PlanRequestRefused, "{number}");
    }
}

#[test]
fn host_bits_of_a_destination_do_not_count() {
    let destination = |text: &str, gateway: &str| {
        let mut request = sample();
        request.routes[0].destination = text.into();
        request.routes[0].gateway = gateway.into();
        let Cidr { address, prefix } = Network::check(&request).unwrap().routes[0].destination;
        format!("{address}/{prefix}")
    };
    assert_eq!(destination("10.1.2.3/9", "10.0.2.2"), "10.0.0.0/9");
    assert_eq!(destination("10.1.2.3/32", "10.0.2.2"), "10.1.2.3/32");
    assert_eq!(destination("10.1.2.3/0", "10.0.2.2"), "0.0.0.0/0");
    assert_eq!(destination("2001:db8:1::5/33", "fe80::1"), "2001:db8::/33");
    assert_eq!(destination("", "fe80::1"), "::/0");
    assert_eq!(destination("", ""), "0.0.0.0/0");
    assert_eq!(destination("192.0.2.0/24", "fe80::1"), "192.0.2.0/24");
}

/// Run by the test below, each in a network namespace of its own.
mod inside {
    use std::process::Command;

    use super::*;

    fn ip(args: &str) -> String {
        let output = Command::new("ip").args(args.split(' ')).output().unwrap();
        assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Whether a line of the text has all the words, one after the other.
    fn has(text: &str, words: &str) -> bool {
        text.lines().any(|l| l.split_whitespace().collect::<Vec<_>>().join(" ").contains(words))
    }

    fn interface(name: &str, hw_addr: &str, addresses: &[&str], mtu: u32) -> sandbox::Interface {
        sandbox::Interface {
            name: name.into(),
            hw_addr: hw_addr.into(),
            addresses: addresses.iter().map(|a| (*a).into()).collect(),
            mtu,
            no_prefix_routes: true,
            ..Default::default()
        }
    }

    fn route(destination: &str, gateway: &str, device: &str) -> sandbox::Route {
        sandbox::Route {
            destination: destination.into(),
            gateway: gateway.into(),
            device: device.into(),
            ..Default::default()
        }
    }

    #[test]
    #[ignore = "changes the network; run by the test below in its own namespace"]
    fn a_pods_network() {
        loopback_up().unwrap();
        // The names are the wrong way round, and a third device has the one of the second.
        ip("link add eth1 mtu 9000 address 02:00:00:00:00:01 type veth peer name p1 mtu 9000");
        ip("link add net1 address 02:00:00:00:00:02 type veth peer name p2");
        ip("link add eth0 address 02:00:00:00:00:03 type veth peer name p3");
        for peer in ["p1", "p2", "p3"] {
            ip(&format!("link set {peer} up"));
        }
        let v4 = ["10.1.0.5/24", "fd01::5/64", "fe80::5/64"];
        let request = ConfigureRequest {
            interfaces: vec![
                interface("eth0", "02:00:00:00:00:01", &v4, 9000),
                interface("eth1", "02:00:00:00:00:02", &["10.2.0.5/24", "fe80::6/64"], 1400),
            ],
            routes: vec![
                route("0.0.0.0/0", "10.1.0.1", "eth0"),
                sandbox::Route { scope: "link".into(), ..route("10.1.0.1/32", "", "eth0") },
                sandbox::Route { source: "10.1.0.5".into(), ..route("10.1.0.0/24", "10.1.0.1", "eth0") },
                sandbox::Route { metric: 77, mtu: 1300, advmss: 1200, ..route("10.9.0.0/16", "", "eth1") },
                sandbox::Route { on_link: true, ..route("10.8.0.0/16", "169.254.1.1", "eth1") },
                sandbox::Route { kind: "blackhole".into(), ..route("10.66.0.0/16", "", "") },
                sandbox::Route { kind: "unreachable".into(), ..route("2001:db8:66::/48", "", "") },
                sandbox::Route { metric: 256, ..route("fe80::/64", "", "eth0") },
                sandbox::Route { metric: 256, ..route("fe80::/64", "", "eth1") },
                sandbox::Route { metric: 1024, ..route("::/0", "fe80::1", "eth0") },
                sandbox::Route { metric: 256, ..route("fd01::/64", "", "eth0") },
                route("10.7.0.0/16", "fe80::9", "eth1"),
            ],
            neighbours: vec![neighbour("10.1.0.1", "eth0"), neighbour("fe80::1", "eth0")],
            ..Default::default()
        };
        let network = Network::check(&request).unwrap();
        network.apply().unwrap();

        let links = ip("-o link");
        assert!(has(&links, "eth0@p1:") && has(&links, "mtu 9000"), "{links}");
        assert!(has(&links, "eth1@p2:") && has(&links, "mtu 1400"), "{links}");
        assert!(has(&links, "moved1@p3:") && has(&links, "link/ether 02:00:00:00:00:03"), "{links}");
        let addresses = ip("addr show dev eth0");
        for address in ["inet 10.1.0.5/24", "inet6 fd01::5/64", "inet6 fe80::5/64"] {
            assert!(has(&addresses, address), "{address} in {addresses}");
        }
        assert!(!addresses.contains("tentative"), "{addresses}");
        assert_eq!(addresses.matches("fe80::").count(), 1, "{addresses}");
        // IPv6 is usable at once.
        std::net::TcpListener::bind("[fd01::5]:0").unwrap();

        let routes = ip("route show");
        assert_eq!(routes.lines().count(), 7, "none of the kernel's own: {routes}");
        for route in [
            "default via 10.1.0.1 dev eth0",
            "10.1.0.1 dev eth0 scope link",
            "10.1.0.0/24 via 10.1.0.1 dev eth0 src 10.1.0.5",
            "10.9.0.0/16 dev eth1 scope link metric 77 mtu 1300 advmss 1200",
            "10.8.0.0/16 via 169.254.1.1 dev eth1 onlink",
            "blackhole 10.66.0.0/16",
            "10.7.0.0/16 via inet6 fe80::9 dev eth1",
        ] {
            assert!(has(&routes, route), "{route} in {routes}");
        }
        let routes = ip("-6 route show");
        for route in [
            "default via fe80::1 dev eth0 metric 1024",
            "fd01::/64 dev eth0 metric 256",
            "fe80::/64 dev eth0 metric 256",
            "fe80::/64 dev eth1 metric 256",
            "unreachable 2001:db8:66::/48",
        ] {
            assert!(has(&routes, route), "{route} in {routes}");
        }
        let neighbours = ip("neigh show");
        assert!(has(&neighbours, "10.1.0.1 dev eth0 lladdr 02:00:00:00:00:aa PERMANENT"), "{neighbours}");
        assert!(has(&neighbours, "fe80::1 dev eth0 lladdr 02:00:00:00:00:aa PERMANENT"), "{neighbours}");
        assert!(has(&ip("addr show dev lo"), "inet 127.0.0.1/8"), "loopback is as it was");
        // A second time changes nothing, and is no error.
        network.apply().unwrap();
        assert_eq!(ip("route show").lines().count(), 7);
    }

    fn neighbour(address: &str, device: &str) -> sandbox::Neighbour {
        sandbox::Neighbour {
            address: address.into(),
            hw_addr: "02:00:00:00:00:aa".into(),
            device: device.into(),
            ..Default::default()
        }
    }

    #[test]
    #[ignore = "changes the network; run by the test below in its own namespace"]
    fn user_networking() {
        ip("link add eth0 type veth peer name p0");
        ip("link set p0 up");
        let mut request = sample();
        request.interfaces[0].hw_addr.clear();
        request.neighbours.clear();
        Network::check(&request).unwrap().apply().unwrap();
        let routes = ip("route show");
        assert!(has(&routes, "default via 10.0.2.2 dev eth0"), "{routes}");
        assert!(has(&routes, "10.0.2.0/24 dev eth0 proto kernel"), "{routes}");
    }

    #[test]
    #[ignore = "changes the network; run by the test below in its own namespace"]
    fn devices_that_are_not_there() {
        let failure = Failure::from(Network::check(&sample()).unwrap().apply().unwrap_err());
        assert_eq!(failure.code, Code::PlanRequestRefused, "{failure}");
        ip("link add left address 52:54:00:12:34:56 type veth peer name right address 52:54:00:12:34:56");
        let failure = Failure::from(Network::check(&sample()).unwrap().apply().unwrap_err());
        assert!(failure.reason.contains("several"), "{failure}");
    }
}

#[test]
fn the_kernel_takes_what_was_checked() {
    let tests = ["a_pods_network", "user_networking", "devices_that_are_not_there"];
    for test in tests {
        let exe = std::env::current_exe().unwrap();
        let mut command = std::process::Command::new("unshare");
        let name = format!("network::tests::inside::{test}");
        command.args(["-n", "--"]).arg(exe).args(["--ignored", "--exact", &name]);
        match command.output() {
            Ok(output) if String::from_utf8_lossy(&output.stderr).contains("unshare failed") => {
                println!("skipped: network namespaces are not allowed here");
            }
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(output.status.success() && text.contains("1 passed"), "{text}");
            }
            Err(e) => println!("skipped: unshare(1) does not run: {e}"),
        }
    }
}
