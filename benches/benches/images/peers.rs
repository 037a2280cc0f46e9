//! skopeo with umoci, and a containerd of our own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::content::Image;
use crate::watch::{self, Run};

/// Copies with skopeo, then unpacks with umoci.
pub fn skopeo(image: &Image, target: &Path) -> Result<Run> {
    let layout = format!("oci:{}:image", target.join("layout").display());
    let mut copy = Command::new("skopeo");
    copy.args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"])
        .arg(format!("docker://{}", image.reference))
        .arg(&layout);
    let copied = watch::run(&mut copy)?;
    let mut unpack = Command::new("umoci");
    unpack.args(["unpack", "--image"]).arg(format!("{}:image", target.join("layout").display()));
    unpack.arg(target.join("bundle"));
    Ok(copied.then(watch::run(&mut unpack)?))
}

/// A containerd with its own root, state and socket.
pub struct Containerd {
    child: Child,
    socket: PathBuf,
}

impl Containerd {
    /// Starts one whose content and snapshots lie in `target`.
    pub fn start(work: &Path, target: &Path) -> Result<Containerd> {
        let socket = work.join("containerd.sock");
        let config = format!(
            "version = 2\nroot = \"{0}/containerd\"\nstate = \"{1}/containerd-state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.snapshotter.v1.zfs\", \
             \"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.devmapper\", \
             \"io.containerd.internal.v1.opt\"]\n[grpc]\naddress = \"{2}\"\n",
            target.display(),
            work.display(),
            socket.display(),
        );
        let path = work.join("containerd.toml");
        std::fs::write(&path, config)?;
        let log = std::fs::File::create(work.join("containerd.log"))?;
        let child = Command::new("containerd")
            .arg("--config")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("containerd")?;
        let mut started = Containerd { child, socket };
        let began = Instant::now();
        while watch::run(started.ctr().arg("version")).is_err() {
            if started.child.try_wait()?.is_some() || began.elapsed() > Duration::from_secs(20) {
                bail!("it does not start: {}", std::fs::read_to_string(work.join("containerd.log"))?);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(started)
    }

    fn ctr(&self) -> Command {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(&self.socket).args(["--namespace", "bench"]);
        ctr
    }

    /// Pulls and unpacks; then everything is removed again.
    pub fn pull(&self, image: &Image, snapshotter: &str) -> Result<Run> {
        let mut pull = self.ctr();
        pull.args(["images", "pull", "--plain-http", "--snapshotter", snapshotter]).arg(&image.reference);
        let result = watch::run(&mut pull);
        let daemon = watch::peak_kib(self.child.id());
        let _ = watch::run(self.ctr().args(["images", "rm", "--sync"]).arg(&image.reference));
        let run = result?;
        Ok(Run { peak_kib: run.peak_kib.max(daemon), ..run })
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
