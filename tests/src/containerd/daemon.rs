//! One containerd that runs.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cocoon_runtime::RuntimeConfig;
use rustix::process::Signal;

use super::config::{self, Config};
use super::{Cri, Node, Process, Version};
use crate::{cocoon_program, wait_until};

/// How long a start or an end may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What a containerd is started with.
pub struct Setup<'a> {
    /// Which one.
    pub version: Version,
    /// The registry behind all image names, `host:port`.
    pub registry: &'a str,
    /// The image of runc's pod sandboxes.
    pub pause: &'a str,
    /// The runtime class of `cocoon` pods.
    pub class: &'a RuntimeConfig,
    /// The socket of Cocoon's snapshotter, where all images are to go there.
    pub snapshotter: Option<&'a Path>,
}

/// A containerd with root, state and socket of its own, in a node. Dropping it kills it; its pods end with the node.
pub struct Containerd {
    child: Option<Child>,
    programs: PathBuf,
    folder: PathBuf,
    path: std::ffi::OsString,
    version: Version,
}

impl Containerd {
    /// Starts one and waits until it answers; `None`, and the reason printed, where this version is absent.
    ///
    /// The shim is the program that `COCOON_SHIM_BIN` names, where it does.
    ///
    /// # Errors
    /// Where it ends or does not answer: with its log.
    pub fn start(node: &Node, setup: &Setup) -> Result<Option<Self>> {
        let Some(programs) = setup.version.find() else { return Ok(None) };
        let folder = node.folder().join(format!("c{}", setup.version.name()));
        for name in ["bin", "cni", "hosts/_default", "log"] {
            fs::create_dir_all(folder.join(name))?;
        }
        if let Some(shim) = shim_program() {
            symlink(fs::canonicalize(shim)?, folder.join("bin/containerd-shim-cocoon-v2"))?;
        }
        // The shim has it make layers.
        if let Some(program) = cocoon_program() {
            symlink(fs::canonicalize(program)?, folder.join("bin/cocoon"))?;
        }
        let class = folder.join("class.toml");
        fs::write(&class, setup.class.to_toml())?;
        let config = Config {
            version: setup.version,
            folder: &folder,
            pause: setup.pause,
            class: &class,
            snapshotter: setup.snapshotter,
        };
        fs::write(folder.join("config.toml"), config.text())?;
        fs::write(folder.join("cni/10-cocoon.conflist"), config::network(&folder))?;
        fs::write(
            folder.join("hosts/_default/hosts.toml"),
            format!("[host.'http://{}']\ncapabilities = ['pull', 'resolve']\n", setup.registry),
        )?;
        let others = std::env::var_os("PATH").unwrap_or_default();
        let own = [programs.clone(), folder.join("bin")];
        let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&others)))?;
        let mut containerd = Containerd { child: None, programs, folder, path, version: setup.version };
        containerd.start_again(node)?;
        Ok(Some(containerd))
    }

    /// Starts it after its end, over what it kept.
    ///
    /// # Errors
    /// As [`Containerd::start`].
    pub fn start_again(&mut self, node: &Node) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let child = node
            .command(self.programs.join("containerd"))
            .arg("--config")
            .arg(self.folder.join("config.toml"))
            .args(["--log-level", "debug"])
            .env("PATH", &self.path)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start nsenter")?;
        let child = self.child.insert(child);
        let mut ended = false;
        let socket = self.folder.join("c.sock");
        let ready = wait_until(LIMIT, || {
            ended = !matches!(child.try_wait(), Ok(None));
            ended || answers(&socket)
        });
        if ended || !ready {
            bail!("containerd {} does not answer; its log:\n{}", self.version.name(), self.log());
        }
        Ok(())
    }

    /// Starts it anew with this text at the end of its configuration; pods stay.
    ///
    /// # Errors
    /// Where it does not end or does not come back.
    pub fn extend(&mut self, node: &Node, more: &str) -> Result<()> {
        self.end(node, Signal::TERM)?;
        let file = self.folder.join("config.toml");
        let text = fs::read_to_string(&file)?;
        fs::write(&file, format!("{text}{more}"))?;
        self.start_again(node)
    }

    /// Starts it anew with the runtime `lean`, whose images are the proxy snapshotter's on this socket.
    ///
    /// # Errors
    /// As [`Containerd::extend`].
    pub fn extend_with_snapshotter(&mut self, node: &Node, socket: &Path) -> Result<()> {
        let more = config::lean(self.version, &self.folder.join("class.toml"), socket);
        self.extend(node, &more)
    }

    /// kubelet's side of it.
    pub fn cri(&self) -> Cri {
        Cri::on(self.folder.join("c.sock"))
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// A path below its own folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder of its pods' logs.
    pub fn logs(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// What it has logged, its shims' words among it.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// `ctr` of the same version with these arguments, not started.
    pub fn ctr(&self, node: &Node, args: &[&str]) -> Command {
        let mut command = node.command(self.programs.join("ctr"));
        command.arg("--address").arg(self.folder.join("c.sock")).args(args).env("PATH", &self.path);
        command
    }

    /// Its process.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn process(&self, node: &Node) -> Result<Process> {
        let parent = self.child.as_ref().context("it was ended")?.id();
        node.processes().into_iter().find(|p| p.parent == parent).context("containerd does not run")
    }

    /// Ends it with a signal and waits for that; its pods stay.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn end(&mut self, node: &Node, signal: Signal) -> Result<()> {
        self.process(node)?.signal(signal);
        let mut child = self.child.take().context("it was ended")?;
        if wait_until(LIMIT, || !matches!(child.try_wait(), Ok(None))) {
            return Ok(());
        }
        self.child = Some(child);
        bail!("containerd does not end; its log:\n{}", self.log())
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("containerd.log")
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        // The node's end kills the program itself, which is nsenter's child.
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.get(lines.len().saturating_sub(60)..).unwrap_or_default();
            eprintln!("containerd's last words:\n{}", last.join("\n"));
        }
    }
}

/// The shim to test (`COCOON_SHIM_BIN`; `make test` sets it).
pub fn shim_program() -> Option<PathBuf> {
    std::env::var_os("COCOON_SHIM_BIN").map(PathBuf::from).filter(|p| p.is_file())
}

/// Whether CRI is served on a socket: not merely the socket, which is there before.
fn answers(socket: &Path) -> bool {
    if !socket.exists() {
        return false;
    }
    // On a thread of its own: who waits may be within a runtime.
    let cri = Cri::on(socket.to_owned());
    let ask = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.is_ok_and(|runtime| runtime.block_on(cri.version()).is_ok())
    };
    std::thread::spawn(ask).join().unwrap_or(false)
}
