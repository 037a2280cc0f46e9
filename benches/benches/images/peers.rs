//! skopeo with umoci, and a containerd of our own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cocoon_benches::push::Image;
use cocoon_image::encryption::RecipientKey;

use crate::watch::{self, Run};

/// A key pair that other programs decrypt images with.
pub struct Opener {
    /// Its public part.
    pub recipient: RecipientKey,
    /// The file of its private part, PEM.
    private: PathBuf,
}

impl Opener {
    /// A new one, made by `openssl`, its files in `work`.
    ///
    /// # Errors
    /// Where `openssl` is not installed or fails.
    pub fn new(work: &Path) -> Result<Self> {
        let (private, public) = (work.join("key.pem"), work.join("key.pub"));
        watch::run(Command::new("openssl").args(["genrsa", "-out"]).arg(&private).arg("2048"))?;
        watch::run(
            Command::new("openssl").args(["rsa", "-in"]).arg(&private).args(["-pubout", "-out"]).arg(&public),
        )?;
        Ok(Opener { recipient: RecipientKey::parse(&std::fs::read(public)?)?, private })
    }
}

/// Copies with skopeo, decrypting what is encrypted, then unpacks with umoci.
pub fn skopeo(image: &Image, target: &Path, opener: Option<&Opener>) -> Result<Run> {
    let layout = format!("oci:{}:image", target.join("layout").display());
    let mut copy = Command::new("skopeo");
    copy.args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"]);
    if image.encrypted {
        copy.arg("--decryption-key").arg(&opener.context("no JWE key")?.private);
    }
    copy.arg(format!("docker://{}", image.reference)).arg(&layout);
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
    /// Where its layers are unpacked: overlayfs where that pulls the image, else native.
    pub snapshotter: &'static str,
}

impl Containerd {
    /// Starts one whose content and snapshots lie in `target`, and tries it with an image.
    ///
    /// # Errors
    /// Where it is not installed, does not start, or pulls with neither snapshotter.
    pub fn start(work: &Path, target: &Path, image: Option<&Image>) -> Result<Containerd> {
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
        let mut started = Containerd { child, socket, snapshotter: "overlayfs" };
        let began = Instant::now();
        while watch::run(started.ctr().arg("version")).is_err() {
            if started.child.try_wait()?.is_some() || began.elapsed() > Duration::from_secs(20) {
                bail!("it does not start: {}", std::fs::read_to_string(work.join("containerd.log"))?);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        if let Some(image) = image
            && let Err(e) = started.pull(image)
        {
            println!("containerd's overlayfs snapshotter does not work here: {e:#}");
            started.snapshotter = "native";
            started.pull(image)?;
        }
        Ok(started)
    }

    fn ctr(&self) -> Command {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(&self.socket).args(["--namespace", "bench"]);
        ctr
    }

    /// Pulls and unpacks; then everything is removed again.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn pull(&self, image: &Image) -> Result<Run> {
        let mut pull = self.ctr();
        pull.args(["images", "pull", "--plain-http", "--snapshotter", self.snapshotter])
            .arg(&image.reference);
        let before = watch::processor(self.child.id());
        let result = watch::run(&mut pull);
        let used = watch::processor(self.child.id()) - before;
        let (peak, anonymous) = watch::memory_kib(self.child.id());
        let _ = watch::run(self.ctr().args(["images", "rm", "--sync"]).arg(&image.reference));
        let run = result?;
        // The daemon does the work, its client fetches nothing.
        Ok(run.then(Run { processor: used, peak_kib: peak, anonymous_kib: anonymous, ..Run::default() }))
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
