//! Cocoon's snapshotter, where a node has one beside containerd.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::{Machine, Node, Process};
use crate::{cocoon_program, wait_until};

/// `cocoon node snapshotter` in a node. It ends with the node at the latest.
pub struct Snapshotter {
    child: Child,
    program: PathBuf,
}

impl Snapshotter {
    /// Starts one before containerd and waits until it listens; `None`, and the reason printed, where the program to test is
    /// not named.
    ///
    /// # Errors
    /// Where it does not come to listen.
    pub fn start(node: &Node) -> Result<Option<Self>> {
        let Some(program) = cocoon_program() else {
            println!("skipped: COCOON_BIN does not name what to test (make test does)");
            return Ok(None);
        };
        let program = std::fs::canonicalize(program)?;
        let child = serve(node, &program, Path::new("none"))?;
        Ok(Some(Snapshotter { child, program }))
    }

    /// Starts one beside a containerd that runs, and has it put the images of the runtime `lean` there, which is as `cocoon`.
    ///
    /// # Errors
    /// Where it does not start, or containerd does not come back with it.
    pub fn join(machine: &mut Machine) -> Result<Self> {
        let program = std::fs::canonicalize(cocoon_program().context("COCOON_BIN names no program")?)?;
        let child = serve(&machine.node, &program, &machine.containerd.file("c.sock"))?;
        let socket = Self::socket(&machine.node);
        machine.containerd.extend_with_snapshotter(&machine.node, &socket)?;
        Ok(Snapshotter { child, program })
    }

    /// Starts it after its end, over what it kept.
    ///
    /// # Errors
    /// As [`Snapshotter::start`].
    pub fn start_again(&mut self, node: &Node) -> Result<()> {
        let _ = self.child.wait();
        self.child = serve(node, &self.program, Path::new("none"))?;
        Ok(())
    }

    /// Its process.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn process(&self, node: &Node) -> Result<Process> {
        let of_it = |p: &Process| p.parent == self.child.id();
        node.processes().into_iter().find(of_it).context("the snapshotter does not run")
    }

    /// Asks it to end and waits for that.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn stop(mut self, node: &Node) -> Result<()> {
        self.process(node)?.signal(Signal::TERM);
        if !wait_until(Duration::from_secs(20), || !matches!(self.child.try_wait(), Ok(None))) {
            bail!("the snapshotter does not end");
        }
        Ok(())
    }

    /// Where one in this node listens.
    pub fn socket(node: &Node) -> PathBuf {
        node.folder().join("snap/snap.sock")
    }
}

impl Drop for Snapshotter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(node: &Node, program: &Path, containerd: &Path) -> Result<Child> {
    let folder = node.folder().join("snap");
    std::fs::create_dir_all(&folder)?;
    let mut child = node
        .command(program)
        .args(["node", "snapshotter", "--socket"])
        .arg(Snapshotter::socket(node))
        .arg("--root")
        .arg(folder.join("root"))
        .arg("--containerd")
        .arg(containerd)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start nsenter")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no standard output")?).read_line(&mut line)?;
    if !line.starts_with("ready") {
        let _ = child.kill();
        let _ = child.wait();
        bail!("the snapshotter does not listen: {line:?}");
    }
    Ok(child)
}
