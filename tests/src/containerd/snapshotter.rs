//! Cocoon's snapshotter beside containerd, as a node runs it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::{Machine, Node};
use crate::{cocoon_program, wait_until};

/// A snapshotter that serves; it ends with the node at the latest.
pub struct Snapshotter {
    child: Child,
}

impl Snapshotter {
    /// Starts one and has containerd put the images of the runtime `lean` there, which is as `cocoon`.
    ///
    /// # Errors
    /// Where it does not start, or containerd does not come back with it.
    pub fn start(machine: &mut Machine) -> Result<Self> {
        let folder = machine.node.folder().to_owned();
        let socket = folder.join("snapshotter.sock");
        let program = cocoon_program().context("COCOON_BIN names no program")?;
        let mut command = machine.node.command(std::fs::canonicalize(program)?);
        command.args(["node", "snapshotter", "--socket"]).arg(&socket);
        command.arg("--root").arg(folder.join("snapshotter"));
        command.arg("--containerd").arg(machine.containerd.file("c.sock"));
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start nsenter")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no standard output")?).read_line(&mut line)?;
        if !line.starts_with("ready") {
            bail!("the snapshotter says {line:?}");
        }
        machine.containerd.extend_with_snapshotter(&machine.node, &socket)?;
        Ok(Snapshotter { child })
    }

    /// Asks it to end and waits for that.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn stop(mut self, node: &Node) -> Result<()> {
        let own = |p: &super::Process| p.parent == self.child.id();
        node.processes().iter().filter(|p| own(p)).for_each(|p| p.signal(Signal::TERM));
        if !wait_until(Duration::from_secs(20), || !matches!(self.child.try_wait(), Ok(None))) {
            bail!("the snapshotter does not end");
        }
        Ok(())
    }
}
