//! What runs on the node beside containerd: kubelet, kube-proxy, and the cluster's name server.

use std::fs;

use anyhow::Result;
use serde_json::json;

use super::Part;
use super::containerd::SOCKET;
use super::control_plane::Place;
use crate::containerd::Node;

/// The node's name.
pub(super) const NAME: &str = "node";
/// The name server's address among the services.
const DNS: &str = "10.96.0.10";

/// How much the pods together may take of the machine's CPUs where these are scarce; a process has 1024.
const CPU_SHARES: &str = "16384";

/// A node as kubelet tells of it.
pub(super) struct Own<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its address.
    pub address: &'a str,
    /// Where kubelet serves.
    pub port: u16,
}

/// The first node.
pub(super) const FIRST: Own = Own { name: NAME, address: Node::ADDRESS, port: 10250 };

/// Starts kubelet.
pub(super) fn start_kubelet(place: &Place, own: &Own) -> Result<Part> {
    let (node, authority) = (place.node, place.authority);
    let server = format!("kubelet-{}", own.name);
    authority.server(&server, &[own.name, own.address, "127.0.0.1"])?;
    make_cgroups(node)?;
    let folder = node.folder();
    fs::write(folder.join("resolv.conf"), "")?;
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "address": "0.0.0.0", "port": own.port, "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": false}, "webhook": {"enabled": true},
            "x509": {"clientCAFile": authority.file("ca.pem")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": authority.file(&format!("{server}.pem")),
        "tlsPrivateKeyFile": authority.file(&format!("{server}.key")),
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "clusterDNS": [DNS], "clusterDomain": "cluster.local",
        "resolvConf": folder.join("resolv.conf"),
        "cgroupDriver": "cgroupfs", "cgroupRoot": node.cgroup_parent(), "enforceNodeAllocatable": [],
        "failCgroupV1": false, "failSwapOn": false, "oomScoreAdj": 0,
        "evictionHard": {
            "memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%",
        },
        // Stories wait for what kubelet tells and for content that it brings up to date.
        "syncFrequency": "5s", "nodeStatusUpdateFrequency": "5s", "configMapAndSecretChangeDetectionStrategy": "Watch",
        "runtimeRequestTimeout": "5m",
        "maxPods": 110,
        "logging": {"verbosity": 2},
    });
    let file = folder.join("kubelet.json");
    fs::write(&file, config.to_string())?;
    place.part(
        "kubelet",
        &[
            format!("--config={}", file.display()),
            place.kubeconfig(&format!("system:node:{}", own.name), "system:nodes")?,
            format!("--hostname-override={}", own.name),
            format!("--node-ip={}", own.address),
        ],
    )
}

/// Starts kube-proxy and CoreDNS.
pub(super) fn start_network(place: &Place) -> Result<Vec<Part>> {
    let proxy = place.part(
        "kube-proxy",
        &[
            place.kubeconfig("system:kube-proxy", "system:node-proxier")?,
            format!("--hostname-override={NAME}"),
            "--proxy-mode=iptables".into(),
            // Pods share one bridge: an answer must come back the way of the question.
            "--masquerade-all=true".into(),
            // The machine's limits are not the node's to set.
            "--conntrack-max-per-core=0".into(),
            "--conntrack-tcp-timeout-established=0".into(),
            "--conntrack-tcp-timeout-close-wait=0".into(),
        ],
    )?;
    let config =
        place.authority.kubeconfig("coredns", "coredns", "system:masters", super::control_plane::API)?;
    let corefile = place.node.folder().join("Corefile");
    fs::write(
        &corefile,
        format!(
            ".:53 {{\n  bind {}\n  errors\n  kubernetes cluster.local in-addr.arpa ip6.arpa {{\n    kubeconfig {}\n    \
             pods insecure\n    fallthrough in-addr.arpa ip6.arpa\n  }}\n  cache 5\n}}\n",
            Node::ADDRESS,
            config.display()
        ),
    )?;
    let dns = place.part("coredns", &[format!("-conf={}", corefile.display())])?;
    Ok(vec![proxy, dns])
}

/// What makes the name server a service of the cluster.
pub(super) fn dns_service() -> serde_json::Value {
    let port = |protocol: &str, name: &str| json!({"name": name, "port": 53, "protocol": protocol});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {"clusterIP": DNS, "ports": [port("UDP", "dns"), port("TCP", "dns-tcp")]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": "kube-dns-node", "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns"},
            },
            "endpoints": [{"addresses": [Node::ADDRESS], "conditions": {"ready": true}}],
            "ports": [port("UDP", "dns"), port("TCP", "dns-tcp")],
        },
    ]})
}

/// kubelet wants the cgroup below which it works to be there: in each hierarchy of version 1, or the one of version 2.
fn make_cgroups(node: &Node) -> Result<()> {
    let name = node.cgroup_parent();
    let name = name.trim_start_matches('/');
    let root = std::path::Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return Ok(fs::create_dir_all(root.join(name))?);
    }
    for hierarchy in fs::read_dir(root)?.flatten() {
        let own = hierarchy.path();
        // cpu and cpuacct are links to the one of both. One without its own controllers is only for systemd.
        if own.join("cgroup.procs").exists() && !hierarchy.file_type()?.is_symlink() {
            let own = own.join(name);
            fs::create_dir_all(&own)?;
            // A new cpuset has no CPUs, and none below it could get any.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let (Ok(parents), Some(parent)) =
                    (fs::read_to_string(root.join("cpuset").join(file)), own.parent())
                    && parent.ends_with("cpuset")
                {
                    fs::write(own.join(file), parents)?;
                }
            }
            // All pods together would count as one process beside those of the machine: on a busy one, no VM would boot in time.
            let shares = own.join("cpu.shares");
            if shares.exists() {
                fs::write(shares, CPU_SHARES)?;
            }
        }
    }
    Ok(())
}
