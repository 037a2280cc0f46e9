//! What an installer needs of a cluster: the image of all roles in the registry, and a service manager for containerd.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::Cluster;
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

/// What systemd is elsewhere: a process of the node that is asked through a pipe to restart containerd, and says when the old one
/// is gone. Gives the command that asks it. It ends with the node.
///
/// # Errors
/// Where it cannot be started.
pub fn service_manager(cluster: &mut Cluster) -> Result<String> {
    const SCRIPT: &str = r#"
mkfifo "$0/ask" "$0/done"
while read -r _ <"$0/ask"; do
    pid=$(cat "$1"); kill "$pid"
    while [ -e "/proc/$pid" ]; do sleep 0.05; done
    echo done >"$0/done"
done
"#;
    let folder = cluster.node().folder().join("manager");
    std::fs::create_dir(&folder)?;
    let pid = cluster.containerd().pid_file();
    let mut manager = cluster.node().command("sh");
    manager.args(["-c", SCRIPT]).arg(&folder).arg(pid);
    manager.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let folder = folder.display();
    Ok(format!("echo restart >{folder}/ask && read -r _ <{folder}/done"))
}
