//! A machine within the machine: namespaces of its own for processes, mounts and network.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::{missing, wait_until};

/// The first process of the namespaces: makes the network, says so, and ends, and with it all other processes there, once
/// standard input closes, because the [`Node`] was dropped or because the test's process died in whatever way.
///
/// What programs keep in `/run` and `/var/lib` is not this machine's.
const INIT: &str = r#"
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/lib
mkdir -p /run/lock /run/netns /var/lib/cni
eval "$NETWORK"
eval "$MORE"
echo ready
cat >/dev/null
"#;

/// The network of a machine of its own.
const NETWORK: &str = r#"
ip link set lo up
ip link add cocoon0 type bridge
ip addr add 10.88.0.1/16 dev cocoon0
ip -6 addr add fd00:88::1/64 dev cocoon0 nodad
ip link set cocoon0 up
"#;

/// Programs without which there is no node.
const NEEDED: &[&str] = &["ip", "nsenter", "unshare", "setpriv"];

/// A machine within the machine. Its network is a bridge `cocoon0` with [`Node::ADDRESS`] and loopback; nothing leads
/// further. When it is dropped, all its processes are killed, and with them go its mounts and its network.
pub struct Node {
    keeper: Child,
    init: u32,
    folder: TempDir,
    // What is there before anything was started.
    mounts: Vec<String>,
    cgroups: PathBuf,
}

/// A process of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id, as the test sees it.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// The program's name, at most 15 characters.
    pub name: String,
    /// Its arguments, with spaces between them.
    pub arguments: String,
}

impl Process {
    /// Sends a signal; one that is gone is no error.
    pub fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Memory of its own and of files that it has in use, in KiB: `RssAnon` and `RssFile`.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn memory(&self) -> Result<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let value = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).context("no such value")?;
            Ok(line.trim_matches([':', '\t', ' ']).trim_end_matches(" kB").trim().parse()?)
        };
        Ok((value("RssAnon")?, value("RssFile")?))
    }
}

impl Node {
    /// The node's address on its bridge: what listens there is reached by its pods.
    pub const ADDRESS: &str = "10.88.0.1";

    /// Makes one; `None`, and the reason printed, where this machine lets nobody.
    ///
    /// # Errors
    /// Where it cannot be made although it should.
    pub fn start() -> Result<Option<Self>> {
        Self::start_with("")
    }

    /// [`Node::start`] with more for the shell of its first process to do, in `$FOLDER`, before the node is ready.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(more: &str) -> Result<Option<Self>> {
        if let Some(tool) = missing(NEEDED) {
            println!("skipped: {tool} is not installed");
            return Ok(None);
        }
        if !rustix::process::geteuid().is_root() {
            println!("skipped: containerd with pods needs root");
            return Ok(None);
        }
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount"]).env("NETWORK", NETWORK);
        Self::make(command, more).map(Some)
    }

    /// Another machine in this one's network, with this address beside [`Node::ADDRESS`] on the bridge.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn beside(&self, address: &str, more: &str) -> Result<Self> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.init)).args(["--", "unshare", "--mount"]);
        Self::make(command.env("NETWORK", format!("ip addr add {address}/16 dev cocoon0")), more)
    }

    fn make(mut command: impl std::borrow::BorrowMut<Command>, more: &str) -> Result<Self> {
        // Short: the path of a unix socket holds 107 bytes.
        let folder = tempfile::Builder::new().prefix("cn").tempdir()?;
        let mut keeper = command
            .borrow_mut()
            .args(["--pid", "--fork", "--kill-child=KILL", "--mount-proc"])
            .args(["--propagation", "private", "sh", "-c", INIT])
            .env("MORE", more)
            .env("FOLDER", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start unshare")?;
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().context("no standard output")?).read_line(&mut line)?;
        if line != "ready\n" {
            drop(keeper.stdin.take());
            let output = keeper.wait_with_output()?;
            bail!("the node's namespaces: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let children = all().into_iter().filter(|p| p.parent == keeper.id());
        let init = children.map(|p| p.pid).next().context("the node has no first process")?;
        let name = folder.path().file_name().context("no name")?.to_owned();
        let mut node =
            Node { keeper, init, folder, mounts: Vec::new(), cgroups: PathBuf::from("/").join(name) };
        node.mounts = node.all_mounts()?;
        Ok(node)
    }

    /// A folder of the node's own, in which programs have theirs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path of the node as one that leads there from outside, through the node's own mounts.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init))
    }

    /// The id of its first process: the one whose namespaces are the node's.
    pub fn init(&self) -> u32 {
        self.init
    }

    /// The cgroup below which pods of this node belong, as CRI's `cgroup_parent`.
    pub fn cgroup_parent(&self) -> String {
        self.cgroups.display().to_string()
    }

    /// A program in the node, not started. What is started is `nsenter`, whose child is the program.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "nsenter", "--net", "--mount", "--pid", "--target"])
            .arg(self.init.to_string())
            .arg("--")
            .arg(program)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TMPDIR", self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a program in the node to its end; gives its standard output.
    ///
    /// # Errors
    /// Where it cannot be started or does not succeed: with its standard error.
    pub fn run<A: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = A>) -> Result<String> {
        let output = self.command(program).args(args).output()?;
        if !output.status.success() {
            bail!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Moves the calling thread, and the threads and processes that it starts from now on, into the node's network.
    ///
    /// # Errors
    /// Where the node is gone.
    pub fn enter_network(&self) -> Result<()> {
        let namespace = fs::File::open(format!("/proc/{}/ns/net", self.init))?;
        Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    /// All its processes but the first ones.
    pub fn processes(&self) -> Vec<Process> {
        let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let here = namespace(self.init);
        let own = |p: &Process| p.pid == self.init || (p.parent == self.init && p.name == "cat");
        all().into_iter().filter(|p| here.is_some() && namespace(p.pid) == here && !own(p)).collect()
    }

    /// Processes below its own in namespaces of theirs: those of containers.
    pub fn contained(&self) -> Vec<Process> {
        let every = all();
        let mut inside = std::collections::BTreeSet::from([self.init]);
        inside.extend(self.processes().iter().map(|p| p.pid));
        let own = inside.clone();
        loop {
            let before = inside.len();
            inside.extend(
                every.iter().filter(|p| inside.contains(&p.parent)).map(|p| p.pid).collect::<Vec<_>>(),
            );
            if inside.len() == before {
                break;
            }
        }
        every.into_iter().filter(|p| inside.contains(&p.pid) && !own.contains(&p.pid)).collect()
    }

    /// Its processes whose program has this name.
    pub fn named(&self, name: &str) -> Vec<Process> {
        let shown: String = name.chars().take(15).collect();
        self.processes().into_iter().filter(|p| p.name == shown).collect()
    }

    /// The unix sockets in one of its folders, as paths that lead there from outside.
    pub fn sockets(&self, folder: &str) -> Vec<PathBuf> {
        use std::os::unix::fs::FileTypeExt;
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let sockets = entries.filter(|e| e.file_type().is_ok_and(|kind| kind.is_socket()));
        sockets.map(|e| e.path()).collect()
    }

    /// Says what pods left behind, if it is still there after `limit`: processes, mounts, network devices and namespaces,
    /// cgroups. Those named in `spared` are none of it.
    ///
    /// # Errors
    /// Where this cannot be found out.
    pub fn left(&self, spared: &[&str], limit: Duration) -> Result<Vec<String>> {
        let mut found = Vec::new();
        wait_until(limit, || {
            found = self.remains(spared).unwrap_or_else(|e| vec![e.to_string()]);
            found.is_empty()
        });
        Ok(found)
    }

    fn remains(&self, spared: &[&str]) -> Result<Vec<String>> {
        let processes = self.processes().into_iter().filter(|p| !spared.contains(&p.name.as_str()));
        let mut left: Vec<String> =
            processes.map(|p| format!("process {}: {}", p.pid, p.arguments)).collect();
        let mounts = self.all_mounts()?.into_iter().filter(|m| !self.mounts.contains(m));
        left.extend(mounts.map(|m| format!("mount {m}")));
        for line in self.run("ip", ["-o", "link"])?.lines() {
            if ![": lo:", ": cocoon0:"].iter().any(|known| line.contains(known)) {
                left.push(format!("network device {line}"));
            }
        }
        left.extend(self.run("ip", ["netns", "list"])?.lines().map(|l| format!("network namespace {l}")));
        left.extend(self.cgroups_below().into_iter().map(|c| format!("cgroup {}", c.display())));
        Ok(left)
    }

    fn all_mounts(&self) -> Result<Vec<String>> {
        let mounts = fs::read_to_string(format!("/proc/{}/mounts", self.init))?;
        Ok(mounts.lines().map(str::to_owned).collect())
    }

    /// The cgroups of pods and containers, not those of the node itself.
    fn cgroups_below(&self) -> Vec<PathBuf> {
        self.own_cgroups()
            .iter()
            .flat_map(|own| fs::read_dir(own).into_iter().flatten().flatten())
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect()
    }

    fn own_cgroups(&self) -> Vec<PathBuf> {
        let name = self.cgroups.strip_prefix("/").unwrap_or(&self.cgroups);
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let direct = std::iter::once(PathBuf::from("/sys/fs/cgroup"));
        direct.chain(hierarchies.map(|h| h.path())).map(|h| h.join(name)).filter(|p| p.is_dir()).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        for own in self.own_cgroups() {
            let _ = remove_cgroups(&own);
        }
    }
}

/// Removes a cgroup and all below it.
fn remove_cgroups(cgroup: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(cgroup)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_cgroups(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

/// The machine's processes; those that end meanwhile are passed over.
fn all() -> Vec<Process> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // pid (name) state parent …; the name may hold anything.
        let Some((head, rest)) = stat.rsplit_once(')') else { continue };
        let name = head.split_once('(').map(|(_, name)| name.to_owned()).unwrap_or_default();
        let mut fields = rest.split_whitespace();
        let state = fields.next().unwrap_or_default();
        let Some(parent) = fields.next().and_then(|p| p.parse().ok()) else { continue };
        // Who ended and waits to be asked how is no process any more.
        if state == "Z" || state == "X" {
            continue;
        }
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned();
        found.push(Process { pid, parent, name, arguments });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sees_what_is_in_it_and_leaves_nothing() {
        let Some(node) = Node::start().unwrap() else { return };
        assert_eq!(node.left(&[], Duration::ZERO).unwrap(), Vec::<String>::new());
        let mut sleeper = node.command("sleep").arg("600").spawn().unwrap();
        assert!(wait_until(Duration::from_secs(10), || !node.named("sleep").is_empty()));
        node.run("ip", ["netns", "add", "x"]).unwrap();
        node.run("ip", ["link", "add", "t0", "type", "veth", "peer", "name", "t1"]).unwrap();
        let left = node.left(&[], Duration::ZERO).unwrap().join("\n");
        for part in
            ["process", "sleep 600", "network namespace x", "network device", "t0", "mount", "/run/netns/x"]
        {
            assert!(left.contains(part), "{part} is not in\n{left}");
        }
        let sleep = node.named("sleep").remove(0);
        let folder = node.folder().to_owned();
        drop(node);
        sleeper.wait().unwrap();
        assert!(!Path::new(&format!("/proc/{}", sleep.pid)).exists() && !folder.exists());
    }
}
