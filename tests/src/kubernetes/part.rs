//! A program of the cluster, kept running.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::containerd::{Node, Process};
use crate::wait_until;

/// How long an end may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What a node's service manager does: starts the program, notes its id in `$PIDS`, starts it again when it ends, unless the file
/// `$STOP` is there. The pause keeps one that cannot start from taking a whole CPU.
const KEEPER: &str = r#"
while [ ! -e "$STOP" ]; do
    "$@" & echo $! >"$PIDS.new"; mv "$PIDS.new" "$PIDS"; wait $!
    rm -f "$PIDS"
    [ -e "$STOP" ] || sleep 0.3
done
"#;

/// A program that runs in a node and is started again whenever it ends.
pub struct Part {
    name: &'static str,
    keeper: Option<Child>,
    folder: PathBuf,
    command: Vec<String>,
    path: std::ffi::OsString,
}

impl Part {
    /// Starts one. `folder` is in the node's own; `path` is its `PATH`.
    ///
    /// # Errors
    /// Where it cannot be started at all.
    pub fn start(
        node: &Node,
        name: &'static str,
        command: Vec<String>,
        path: &std::ffi::OsStr,
    ) -> Result<Self> {
        let folder = node.folder().join("parts");
        fs::create_dir_all(&folder)?;
        let mut part = Part { name, keeper: None, folder, command, path: path.to_owned() };
        part.start_again(node)?;
        Ok(part)
    }

    /// Starts it after [`Part::stop`].
    ///
    /// # Errors
    /// As [`Part::start`].
    pub fn start_again(&mut self, node: &Node) -> Result<()> {
        let _ = fs::remove_file(self.file("stop"));
        let log = File::options().create(true).append(true).open(self.file("log"))?;
        let keeper = node
            .command("sh")
            .args(["-c", KEEPER, self.name])
            .args(&self.command)
            .env("PATH", &self.path)
            .env("HOME", &self.folder)
            .env("STOP", self.file("stop"))
            .env("PIDS", self.file("pid"))
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        self.keeper = Some(keeper);
        Ok(())
    }

    /// Its process as the test sees it; none in the moment between an end and a new start.
    pub fn process(&self, node: &Node) -> Option<Process> {
        let keeper = self.keeper.as_ref()?.id();
        let all = node.processes();
        let shell = all.iter().find(|p| p.parent == keeper)?.pid;
        all.into_iter().find(|p| p.parent == shell && p.name != "sleep")
    }

    /// The file that holds its process id as the node's other processes see it, while it runs.
    pub fn pid_file(&self) -> PathBuf {
        self.file("pid")
    }

    /// Sends its process a signal; what ends by it is started again.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn signal(&self, node: &Node, signal: Signal) -> Result<()> {
        let mut found = None;
        wait_until(LIMIT, || {
            found = self.process(node);
            found.is_some()
        });
        found.with_context(|| format!("{} does not run: {}", self.name, self.last_words()))?.signal(signal);
        Ok(())
    }

    /// Ends it with a signal and waits until it is gone; it stays away until [`Part::start_again`].
    ///
    /// # Errors
    /// Where it does not end.
    pub fn stop(&mut self, node: &Node, signal: Signal) -> Result<()> {
        let Some(mut keeper) = self.keeper.take() else { return Ok(()) };
        fs::write(self.file("stop"), "")?;
        self.keeper = Some(keeper);
        if let Some(process) = self.process(node) {
            process.signal(signal);
        }
        keeper = self.keeper.take().context("no keeper")?;
        if wait_until(LIMIT, || !matches!(keeper.try_wait(), Ok(None))) {
            return Ok(());
        }
        self.keeper = Some(keeper);
        bail!("{} does not end: {}", self.name, self.last_words())
    }

    /// What it has said.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.file("log")).unwrap_or_default()).into_owned()
    }

    /// The last that it said.
    pub fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(25)..).unwrap_or_default();
        format!("{}'s last words:\n{}\n", self.name, last.join("\n"))
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn file(&self, kind: &str) -> PathBuf {
        Path::new(&self.folder).join(format!("{}.{kind}", self.name))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // The program itself ends with the node.
        if let Some(keeper) = &mut self.keeper {
            let _ = keeper.kill();
            let _ = keeper.wait();
        }
    }
}
