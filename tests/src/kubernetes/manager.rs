//! What systemd is elsewhere: a process of the node that restarts containerd when asked.

use std::process::Stdio;

use anyhow::{Context, Result};

use super::Cluster;

/// Waits for a line in a pipe, ends containerd, and says when the old one is gone.
const SCRIPT: &str = r#"
mkfifo "$0/ask" "$0/done"
while read -r _ <"$0/ask"; do
    pid=$(cat "$1"); kill "$pid"
    while [ -e "/proc/$pid" ]; do sleep 0.05; done
    echo done >"$0/done"
done
"#;

impl Cluster {
    /// Starts a service manager for containerd, which ends with the node. Gives the shell command that asks it for a restart.
    ///
    /// # Errors
    /// Where it cannot be started, also a second time.
    pub fn service_manager(&mut self) -> Result<String> {
        let folder = self.node().folder().join("manager");
        std::fs::create_dir(&folder)?;
        let pid = self.containerd().pid_file();
        let mut command = self.node().command("sh");
        command.args(["-c", SCRIPT]).arg(&folder).arg(pid).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn()?;
        let folder = folder.display();
        Ok(format!("echo restart >{folder}/ask && read -r _ <{folder}/done"))
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
