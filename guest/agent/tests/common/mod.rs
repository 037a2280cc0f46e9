//! Real containers on this machine, without a VM. Needs root and busybox; says "skipped" otherwise.

#![allow(dead_code, reason = "each test uses some of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod volumes;

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cocoon_guest::container::{
    Container, Exit, HostPart, Mounts, Parts, SecretFile, Settings, Shared, SharedSettings, Streams,
};
use cocoon_guest::reaper::Reaper;
use cocoon_plan::ContainerPlan;
use cocoon_plan::compile::DEFAULT_CAPABILITIES;
use cocoon_stage::Failure;
use tokio::io::AsyncReadExt;

const BUSYBOX: &str = "/bin/busybox";
const APPLETS: &[&str] = &[
    "sh", "cat", "chmod", "chroot", "dd", "dmesg", "grep", "id", "ln", "ls", "mkdir", "mknod", "mount",
    "readlink", "rm", "stat", "stty", "touch", "unshare",
];

pub struct Machine {
    pub settings: Settings,
    pub shared: Shared,
    pub oom: Arc<Mutex<Vec<String>>>,
    /// Last, so that nothing is mounted below it any more when it goes.
    pub dir: tempfile::TempDir,
}

/// What a container did.
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    pub exit: Exit,
}

impl Machine {
    pub fn new() -> Option<Self> {
        Machine::of(false)
    }

    /// One whose containers share their process ids, or not.
    pub fn of(pids: bool) -> Option<Self> {
        Machine::with(pids, &[])
    }

    /// One with these kernel settings of the pod's.
    pub fn with(pids: bool, sysctls: &[(&str, &str)]) -> Option<Self> {
        let able = rustix::process::geteuid().is_root() && Path::new(BUSYBOX).exists();
        let namespaces = std::process::Command::new("unshare").args(["-m", "-p", "-f", "true"]).status();
        if !able || !namespaces.is_ok_and(|s| s.success()) {
            println!("skipped: needs root, namespaces and {BUSYBOX}");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        fs::create_dir(&etc).unwrap();
        fs::write(etc.join("resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
        fs::write(etc.join("hosts"), "127.0.0.1 localhost\n").unwrap();
        let settings = Settings {
            exe: OwnedFd::from(File::open(env!("CARGO_BIN_EXE_cocoon-guest")).unwrap()),
            work: dir.path().join("work"),
            etc,
            cgroups: None,
            reaper: Arc::new(Reaper::default()),
        };
        let oom = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&oom);
        let tell = Arc::new(move |id: &str| told.lock().unwrap().push(id.to_owned()));
        let shared = Shared::new(SharedSettings {
            hostname: "pod".into(),
            pids,
            sysctls: sysctls.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            oom: tell,
        });
        Some(Machine { settings, shared, oom, dir })
    }

    /// An image with busybox, users, and a few traps.
    pub fn image(&self, name: &str) -> PathBuf {
        let root = self.dir.path().join("images").join(name);
        for folder in ["bin", "etc", "tmp", "home/alice"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            let _ = symlink("busybox", root.join("bin").join(applet));
        }
        fs::write(root.join("etc/app.conf"), "of the image\n").unwrap();
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:\nalice:x:1000:1000::/home/alice:\n").unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\nalice:x:1000:\nstaff:x:50:alice\n").unwrap();
        let _ = symlink("../run/nowhere/resolv.conf", root.join("etc/resolv.conf"));
        root
    }

    pub async fn create(
        &self,
        plan: &ContainerPlan,
        secrets: &[SecretFile],
        streams: Streams,
    ) -> Result<Container, Failure> {
        let host = HostPart { id: plan.name.clone(), ..HostPart::default() };
        self.create_as(plan, &host, secrets, streams).await
    }

    pub async fn create_as(
        &self,
        plan: &ContainerPlan,
        host: &HostPart,
        secrets: &[SecretFile],
        streams: Streams,
    ) -> Result<Container, Failure> {
        let image = self.image(&host.id);
        let parts = Parts { plan, rootfs: &image, host, secrets, mounts: &Mounts::default() };
        Ok(Container::create(&self.settings, &self.shared, parts, streams).await?)
    }

    pub async fn run(&self, plan: &ContainerPlan, secrets: &[SecretFile]) -> Outcome {
        let (mut out, near_out) = tokio::io::duplex(4096);
        let (mut err, near_err) = tokio::io::duplex(4096);
        let streams =
            Streams { stdin: None, stdout: Some(Box::new(near_out)), stderr: Some(Box::new(near_err)) };
        let container = self.create(plan, secrets, streams).await.unwrap();
        container.start().await.unwrap();
        let (mut stdout, mut stderr) = (String::new(), String::new());
        tokio::try_join!(out.read_to_string(&mut stdout), err.read_to_string(&mut stderr)).unwrap();
        let exit = container.wait().await;
        container.destroy().await;
        Outcome { stdout, stderr, exit }
    }
}

pub fn plan(name: &str, script: &str) -> ContainerPlan {
    let mut plan: ContainerPlan = serde_json::from_value(serde_json::json!({
        "name": name, "image": {"reference": "x", "digest": "sha256:0"}, "args": ["sh", "-c", script], "cwd": "/",
        "env": ["PATH=/bin"], "no_new_privileges": false, "seccomp": "runtime-default", "logs": true,
        "restart": "never", "stop_signal": 15
    }))
    .unwrap();
    plan.capabilities = DEFAULT_CAPABILITIES.iter().map(|c| (*c).to_owned()).collect();
    plan
}
