//! A cluster's administrator: what stories about the operator do, and what they look at.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test's frame: it gives up with all that is known

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::installer::{RESTART, push, service_manager};
use super::{Cluster, condition, holds};
use crate::containerd::shim_program;
use crate::{cocoon_program, guest_image};

/// How long nodes may take.
pub const LONG: Duration = Duration::from_secs(240);
/// containerd's main file on nodes.
pub const CONFIG: &str = "/etc/containerd/config.toml";

/// The administrator's means on a cluster.
pub struct ClusterAdmin<'a> {
    /// The cluster.
    pub cluster: &'a mut Cluster,
    /// The image of all roles, in the cluster's registry.
    pub image: String,
}

impl<'a> ClusterAdmin<'a> {
    /// Puts the image of all roles into the registry, and a service manager beside containerd. `None`, and the reason printed,
    /// where this call of the tests lacks something.
    ///
    /// # Panics
    /// Where the image cannot be made.
    pub fn new(cluster: &'a mut Cluster) -> Option<Self> {
        let (Some(program), Some(shim), Some(guest)) = (cocoon_program(), shim_program(), guest_image())
        else {
            println!(
                "skipped: COCOON_BIN, COCOON_SHIM_BIN, COCOON_GUEST_IMAGE do not name what to test (make test does)"
            );
            return None;
        };
        let image = push(cluster, &program, Path::new(&shim), &guest, "1").unwrap();
        let pid = cluster.containerd().pid_file();
        service_manager(cluster.node(), &pid).unwrap();
        Some(ClusterAdmin { cluster, image })
    }

    /// A second machine joins the cluster, with a service manager for its containerd.
    ///
    /// # Panics
    /// Where it does not.
    pub fn join(&mut self) {
        let second = self.cluster.join().unwrap();
        service_manager(second.node(), &second.containerd_pid_file()).unwrap();
    }

    /// `cocoon` with the administrator's kubeconfig; gives its standard output.
    ///
    /// # Panics
    /// Where it does not succeed.
    pub fn cocoon(&self, args: &[&str]) -> String {
        let output = Command::new(cocoon_program().unwrap())
            .args(args)
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Applies the operator's manifest, and waits until it answers.
    ///
    /// # Panics
    /// Where it does not.
    pub fn apply_operator(&self) {
        let manifest = self.cocoon(&["operator", "manifests", "--image", &self.image]);
        self.cluster.kubectl_with(&["apply", "--server-side", "-f", "-"], manifest.as_bytes()).unwrap();
        self.wait_for_operator();
    }

    /// Waits until the operator answers.
    ///
    /// # Panics
    /// Where it does not.
    pub fn wait_for_operator(&self) {
        self.cluster
            .wait_for(&["deployments", "-n", "cocoon-system"], "cocoon-operator", LONG, |d| {
                holds(d, "Available")
            })
            .unwrap_or_else(|e| self.give_up(&e));
    }

    /// A CocoonRuntime `cocoon` for simulated guests whose evidence the owner accepts.
    pub fn runtime(&self) -> Value {
        json!({
            "apiVersion": "cocoon.dev/v1alpha1", "kind": "CocoonRuntime", "metadata": {"name": "cocoon"},
            "spec": self.runtime_spec(),
        })
    }

    /// Its spec.
    pub fn runtime_spec(&self) -> Value {
        let mut spec = json!({
            "platforms": ["Sim"],
            "guests": {"acceleration": "Emulated", "defaultMemoryMiB": 256, "console": true},
            "containerd": {"config": CONFIG, "program": self.containerd(), "restart": {"command": RESTART, "timeoutSeconds": 60}},
            "update": {"canary": {"enabled": false}},
        });
        if let (Ok(owner), Some(map)) = (self.cluster.owner(), spec.as_object_mut()) {
            let class = owner.class(self.cluster.node());
            map.insert("paths".into(), json!({"pods": class.state, "data": class.data}));
        }
        spec
    }

    /// containerd's program as the node's service manager starts it.
    fn containerd(&self) -> String {
        let processes = self.cluster.node().processes();
        let process = processes.iter().find(|p| p.name == "containerd").expect("containerd runs");
        let path = std::fs::read_link(format!("/proc/{}/exe", process.pid)).unwrap();
        path.display().to_string()
    }

    /// Waits until the CocoonRuntime is ready.
    ///
    /// # Panics
    /// Where it is not in time.
    pub fn ready(&self) -> Value {
        self.runtime_when(|r| holds(r, "Ready"))
    }

    /// Waits until the CocoonRuntime is as wished.
    ///
    /// # Panics
    /// Where it is not in time.
    pub fn runtime_when(&self, wished: impl FnMut(&Value) -> bool) -> Value {
        self.cluster
            .wait_for(&["cocoonruntimes"], "cocoon", LONG, wished)
            .unwrap_or_else(|e| self.give_up(&e))
    }

    /// Waits until the node's resource is as wished.
    ///
    /// # Panics
    /// Where it is not in time.
    pub fn node_when(&self, wished: impl FnMut(&Value) -> bool) -> Value {
        self.cluster.wait_for(&["cocoonnodes"], "node", LONG, wished).unwrap_or_else(|e| self.give_up(&e))
    }

    /// Waits until a condition has a reason; gives its message.
    ///
    /// # Panics
    /// Where it has not in time.
    pub fn reason(&self, kind: &str, name: &str, of: &str, reason: &str) -> String {
        let found = self.cluster.wait_for(&[kind], name, LONG, |o| condition(o, of, "reason") == reason);
        condition(&found.unwrap_or_else(|e| self.give_up(&e)), of, "message").to_owned()
    }

    /// Says all that is known, and panics.
    ///
    /// # Panics
    /// Always.
    pub fn give_up(&self, error: &anyhow::Error) -> ! {
        let look = |args: &[&str]| self.cluster.kubectl(args).unwrap_or_else(|e| e.to_string());
        let logs =
            ["logs", "-n", "cocoon-system", "-l", "app.kubernetes.io/name=cocoon", "--tail=60", "--prefix"];
        panic!(
            "{error}\n{}\n{}\n{}\n{}",
            look(&["get", "cocoonruntimes,cocoonnodes,daemonsets,pods", "-A", "-o", "wide"]),
            look(&["get", "cocoonruntimes,cocoonnodes", "-o", "yaml"]),
            look(&logs),
            look(&["describe", "pods", "-A"]),
        );
    }

    /// Deletes the CocoonRuntime and waits until it is gone.
    ///
    /// # Panics
    /// Where it does not go.
    pub fn remove_runtime(&self) {
        self.cluster
            .kubectl(&["delete", "cocoonruntimes", "--all", "--timeout=240s"])
            .unwrap_or_else(|e| self.give_up(&e));
    }

    /// Takes the operator out of the cluster.
    ///
    /// # Panics
    /// Where it does not go.
    pub fn remove_operator(&self) {
        self.cocoon(&["operator", "uninstall", "--image", &self.image]);
        self.cluster.kubectl(&["wait", "--for=delete", "namespace/cocoon-system", "--timeout=120s"]).unwrap();
    }
}
