//! Restarting containerd, and seeing that it is back.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::containerd::Containerd;

/// Between two questions. containerd tells nobody but its service manager that it is ready, so others must ask.
const PAUSE: Duration = Duration::from_millis(100);

/// How containerd is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// A shell command; else as a unit of systemd.
    pub command: Option<String>,
    /// How long the restart itself may take, and then the first answer.
    pub limit: Duration,
}

impl Restart {
    /// Restarts containerd and waits until the one at `address` answers.
    ///
    /// # Errors
    /// A sentence: the command failed, or nobody answered in time.
    pub fn run_and_wait(&self, containerd: &Containerd, address: &str) -> Result<(), String> {
        self.run()?;
        let until = Instant::now() + self.limit;
        loop {
            match containerd.answers(address) {
                Ok(()) => return Ok(()),
                Err(e) if Instant::now() > until => {
                    return Err(format!("containerd does not answer at {address} after its restart: {e}"));
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    fn run(&self) -> Result<(), String> {
        let mut command = match &self.command {
            None => {
                let mut command = Command::new("systemctl");
                command.args(["restart", "containerd"]);
                command
            }
            Some(text) => {
                let mut command = Command::new("sh");
                command.args(["-c", text]);
                command
            }
        };
        // No pipes: the command may leave containerd itself behind, which would keep them open.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let status = crate::program::run_detached(&mut command, self.limit)
            .map_err(|e| format!("restart of containerd: {e}"))?;
        if status { Ok(()) } else { Err(format!("the command that restarts containerd failed: {command:?}")) }
    }
}
