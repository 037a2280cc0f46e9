//! skopeo with umoci, and a containerd of our own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::content::Image;
use crate::ours::PROVIDER;
use crate::watch::{self, Run};

/// ocicrypt's configuration that names this program as the key provider of encrypted images.
fn provider_config(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("ocicrypt.json");
    let program = std::env::current_exe()?;
    let text = serde_json::json!({"key-providers": {"attestation-agent": {
        "cmd": {"path": program, "args": [PROVIDER]}}}});
    std::fs::write(&path, text.to_string())?;
    Ok(path)
}

/// Copies with skopeo, then unpacks with umoci.
pub fn skopeo(image: &Image, target: &Path) -> Result<Run> {
    let keys = provider_config(target)?;
    let layout = format!("oci:{}:image", target.join("layout").display());
    let mut copy = Command::new("skopeo");
    copy.args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false"])
        .env("OCICRYPT_KEYPROVIDER_CONFIG", &keys)
        .arg(format!("docker://{}", image.reference))
        .arg(&layout);
    if image.reference.ends_with("-encrypted") {
        // Some key must be given for skopeo to decrypt at all; the one that fits comes from the provider.
        let unused = target.join("unused.pem");
        watch::run(Command::new("openssl").args(["genrsa", "-out"]).arg(&unused).arg("2048"))?;
        copy.arg("--decryption-key").arg(unused);
    }
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
        let keys = provider_config(work)?;
        // Without a folder of keys the decoder waits for keys from containerd's client; keys come from the provider.
        let unused = work.join("unused-keys");
        std::fs::create_dir(&unused)?;
        let processor = |name: &str, kind: &str| {
            format!(
                "[stream_processors.\"io.containerd.ocicrypt.decoder.v1.{name}\"]\n\
                 accepts = [\"application/vnd.oci.image.layer.v1.{kind}+encrypted\"]\n\
                 returns = \"application/vnd.oci.image.layer.v1.{kind}\"\npath = \"ctd-decoder\"\n\
                 args = [\"--decryption-keys-path\", \"{}\"]\n\
                 env = [\"OCICRYPT_KEYPROVIDER_CONFIG={}\"]\n",
                unused.display(),
                keys.display()
            )
        };
        let config = format!(
            "version = 2\nroot = \"{0}/containerd\"\nstate = \"{1}/containerd-state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.snapshotter.v1.zfs\", \
             \"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.devmapper\", \
             \"io.containerd.internal.v1.opt\"]\n[grpc]\naddress = \"{2}\"\n{3}{4}",
            target.display(),
            work.display(),
            socket.display(),
            processor("tar.gzip", "tar+gzip"),
            processor("tar.zstd", "tar+zstd"),
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
