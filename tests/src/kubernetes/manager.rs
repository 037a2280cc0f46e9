//! What systemd and a machine's power switch are elsewhere: parts restarted when asked, and a node that loses its power.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::{Cluster, installer};

/// What no power does to the node: VMs and shims are gone, and so is what lies in memory (`/run` and the folder of running pods).
const LOST: &str = r#"
pkill -KILL -f '[c]ontainerd-shim|[q]emu-system|[v]irtiofsd'
while pgrep -f '[c]ontainerd-shim|[q]emu-system' >/dev/null; do sleep 0.05; done
grep -oE ' (/run|/var/lib/kubelet)/[^ ]*' /proc/self/mounts | sort -ru | while read -r place; do umount -l "$place"; done
rm -rf /run/containerd /run/netns/* "$0"
"#;

impl Cluster {
    /// Kills the API server, which is started again.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn kill_api(&mut self) -> Result<()> {
        let (node, parts) = self.node_and_parts();
        let api = parts.iter_mut().find(|p| p.name() == "kube-apiserver").context("no API server")?;
        api.signal(node, Signal::KILL)
    }

    /// Takes the node's power away and gives it back: kubelet, containerd and all that they started end at once, what lay in
    /// memory is lost (`state` too, the folder of running pods), and kubelet and containerd start. Waits until containerd answers.
    ///
    /// # Errors
    /// Where something does not end or start.
    pub fn lose_power(&mut self, state: &Path) -> Result<()> {
        self.stop_worker()?;
        let lost = self.node().command("sh").args(["-c", LOST]).arg(state).output()?;
        ensure!(lost.status.success(), "{}", String::from_utf8_lossy(&lost.stderr));
        self.start_worker()
    }

    /// Starts a service manager for containerd, which ends with the node. Gives the shell command that asks it for a restart.
    ///
    /// # Errors
    /// Where it cannot be started, also a second time.
    pub fn service_manager(&mut self) -> Result<&'static str> {
        let pid = self.containerd().pid_file();
        installer::service_manager(self.node(), &pid)?;
        Ok(installer::RESTART)
    }

    /// containerd's program, as the service manager starts it.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn containerd_program(&self) -> Result<String> {
        let processes = self.node().processes();
        let process = processes.iter().find(|p| p.name == "containerd").context("containerd does not run")?;
        let program = std::fs::read_link(format!("/proc/{}/exe", process.pid))?;
        Ok(program.display().to_string())
    }
}
