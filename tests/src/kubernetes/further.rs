//! A second machine in the cluster: containerd and kubelet in namespaces of their own, in the first one's network.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use super::cluster::{PLACES, search_path};
use super::containerd::{self, Config};
use super::control_plane::Place;
use super::worker::{self, Own};
use super::{Cluster, Part, holds};
use crate::containerd::Node;

/// Its name in Kubernetes.
pub const SECOND: &str = "second";
/// Its address, far from those of pods.
const ADDRESS: &str = "10.88.255.1";
/// How long it may take to be ready.
const LIMIT: Duration = Duration::from_secs(120);

/// A machine beside the first. It ends with the cluster, or when it is taken away.
pub struct Further {
    containerd: Part,
    kubelet: Part,
    node: Node,
}

impl Further {
    /// The machine.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Its containerd's process id as its own processes see it, while it runs.
    pub fn containerd_pid_file(&self) -> PathBuf {
        self.containerd.pid_file()
    }

    /// Ends kubelet: Kubernetes hears nothing of the machine any more.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn fall_silent(&mut self) -> Result<()> {
        self.kubelet.stop(&self.node, Signal::KILL)
    }

    /// The last that its parts said.
    pub fn last_words(&self) -> String {
        [self.containerd.last_words(), self.kubelet.last_words()].concat()
    }
}

impl Cluster {
    /// A second machine joins; waits until Kubernetes calls it ready. Nobody has installed anything on it.
    ///
    /// # Errors
    /// Where it does not join.
    pub fn join(&mut self) -> Result<&mut Further> {
        let node = self.node().beside(ADDRESS, PLACES)?;
        let path = search_path(&node, self.programs(), &self.of_containerd, self.options())?;
        let config = Config {
            folder: node.folder(),
            registry: &self.registry().address(),
            pause: self.image(),
            class: None,
            pods: ("10.88.128.2", "fd00:88::8000"),
        };
        containerd::write(&node, &config)?;
        let containerd = Part::start(&node, "containerd", containerd::command(&self.of_containerd), &path)?;
        containerd::wait_for(&node, &containerd)?;
        let place = Place { node: &node, programs: self.programs(), authority: &self.authority, path: &path };
        let kubelet = worker::start_kubelet(&place, &Own { name: SECOND, address: ADDRESS, port: 10251 })?;
        self.more.push(Further { containerd, kubelet, node });
        self.wait_for(&["nodes"], SECOND, LIMIT, |node| holds(node, "Ready"))?;
        self.second()
    }

    /// The machine that has joined.
    ///
    /// # Errors
    /// Where none has.
    pub fn second(&mut self) -> Result<&mut Further> {
        anyhow::Context::context(self.more.last_mut(), "no second machine has joined")
    }

    /// The second machine is taken away, with all that runs on it.
    pub fn take_away(&mut self) {
        self.more.clear();
    }
}
