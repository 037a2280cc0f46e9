//! What an installer needs of a cluster: the image of all roles in the registry, and a service manager for containerd.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Cluster;
use crate::containerd::Node;
use crate::{cocoon_program, run};

/// Makes the image of all roles and pushes it as `cocoon:TAG`; gives its name.
///
/// # Errors
/// Where it cannot be made or pushed.
pub fn push(cluster: &Cluster, program: &Path, shim: &Path, guest: &Path, tag: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let small = |from: &Path, name: &str| -> PathBuf {
        // Symbols of a debug build are most of it.
        let to = folder.path().join(name);
        let stripped = Command::new("strip").arg("-o").arg(&to).arg(from).stderr(Stdio::null()).status();
        if stripped.is_ok_and(|s| s.success()) { to } else { from.to_owned() }
    };
    let (program, shim) = (small(program, "cocoon"), small(shim, "shim"));
    let layout = folder.path().join("layout");
    let text = |path: &Path| path.display().to_string();
    let own = cocoon_program().context("COCOON_BIN does not name a program")?;
    let (program, shim, guest, out) = (text(&program), text(&shim), text(guest), text(&layout));
    let args = ["operator", "image", "--program", &program, "--shim", &shim];
    run(&text(&own), args.into_iter().chain(["--guest-image", &guest, "--out", &out, "--tag", tag]))?;
    let name = format!("{}/cocoon:{tag}", cluster.registry().address());
    let (from, to) = (format!("oci:{out}:{tag}"), format!("docker://{name}"));
    run("skopeo", ["copy", "--dest-tls-verify=false", &from, &to])?;
    Ok(name)
}

/// What systemd is elsewhere: a process of a node that is asked through a pipe to restart containerd, and says when the old one is
/// gone. It ends with the node. `pid` is the file of containerd's process id.
///
/// # Errors
/// Where it cannot be started.
pub fn service_manager(node: &Node, pid: &Path) -> Result<()> {
    const SCRIPT: &str = r#"
mkdir /run/manager; mkfifo /run/manager/ask /run/manager/done
echo ready
while read -r _ </run/manager/ask; do
    pid=$(cat "$0"); kill "$pid"
    while [ -e "/proc/$pid" ]; do sleep 0.05; done
    echo done >/run/manager/done
done
"#;
    let mut manager = node.command("sh");
    manager.args(["-c", SCRIPT]).arg(pid).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut manager = manager.spawn()?;
    let mut line = String::new();
    BufReader::new(manager.stdout.take().context("no standard output")?).read_line(&mut line)?;
    ensure!(line == "ready\n", "the service manager does not start");
    Ok(())
}

/// The command that asks it, on every node.
pub const RESTART: &str = "echo restart >/run/manager/ask && read -r _ </run/manager/done";
