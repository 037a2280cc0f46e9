//! Cocoon's snapshotter, where a node has one beside containerd.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};

use super::{Node, Process};
use crate::cocoon_program;

/// `cocoon node snapshotter` in a node. It ends with the node.
pub struct Snapshotter {
    child: Child,
    program: PathBuf,
    folder: PathBuf,
}

impl Snapshotter {
    /// Starts one and waits until it listens; `None`, and the reason printed, where the program to test is not named.
    ///
    /// # Errors
    /// Where it does not come to listen.
    pub fn start(node: &Node) -> Result<Option<Self>> {
        let Some(program) = cocoon_program() else {
            println!("skipped: COCOON_BIN does not name what to test (make test does)");
            return Ok(None);
        };
        let (program, folder) = (std::fs::canonicalize(program)?, node.folder().join("snap"));
        std::fs::create_dir_all(&folder)?;
        let child = serve(node, &program, &folder)?;
        Ok(Some(Snapshotter { child, program, folder }))
    }

    /// Starts it after its end, over what it kept.
    ///
    /// # Errors
    /// As [`Snapshotter::start`].
    pub fn start_again(&mut self, node: &Node) -> Result<()> {
        let _ = self.child.wait();
        self.child = serve(node, &self.program, &self.folder)?;
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

fn serve(node: &Node, program: &Path, folder: &Path) -> Result<Child> {
    let mut child = node
        .command(program)
        .args(["node", "snapshotter", "--containerd", "none", "--socket"])
        .arg(Snapshotter::socket(node))
        .arg("--root")
        .arg(folder.join("root"))
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start nsenter")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no standard output")?).read_line(&mut line)?;
    if line != "ready\n" {
        let _ = child.kill();
        let _ = child.wait();
        bail!("the snapshotter does not listen: {line:?}");
    }
    Ok(child)
}
