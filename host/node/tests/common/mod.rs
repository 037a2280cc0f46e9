//! Nodes of tests: real containerds, and every place that an installation touches below a temporary folder.
#![allow(dead_code, reason = "each test uses some of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use cocoon_node::containerd::{Containerd, Dialect};
use cocoon_node::install::{Choice, Done, Install, Places, Uninstall, install, uninstall};
use cocoon_stage::Failure;

/// The containerds that are there.
pub fn peers() -> Vec<Containerd> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cache =
        std::env::var_os("COCOON_PEERS").map_or_else(|| home.join(".cache/cocoon/peers"), PathBuf::from);
    let mut programs = vec![PathBuf::from("/usr/bin/containerd")];
    programs.extend(["containerd-1.7", "containerd-2"].map(|v| cache.join(v).join("usr/bin/containerd")));
    let found: Vec<Containerd> =
        programs.iter().filter(|p| p.is_file()).filter_map(|p| Containerd::find(Some(p)).ok()).collect();
    if found.is_empty() {
        println!("skipped: no containerd here");
    }
    found
}

/// A node of its own: every place below a temporary folder.
pub struct Node {
    pub base: PathBuf,
    pub _dir: Option<tempfile::TempDir>,
    pub containerd: Containerd,
}

impl Node {
    pub fn new(containerd: &Containerd, main: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let node = Node { base: dir.path().join("node"), _dir: Some(dir), containerd: containerd.clone() };
        fs::create_dir_all(node.path("etc/containerd")).unwrap();
        if let Some(text) = main {
            fs::write(node.config(), text).unwrap();
        }
        fs::create_dir_all(node.path("image")).unwrap();
        for file in ["vmlinuz", "initrd.img", "firmware.bin", "manifest.json"] {
            fs::write(node.path("image").join(file), file).unwrap();
        }
        fs::write(node.path("shim"), "#!/bin/sh\n").unwrap();
        node
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    pub fn config(&self) -> PathBuf {
        self.path("etc/containerd/config.toml")
    }

    pub fn places(&self) -> Places {
        Places {
            root: "/".into(),
            config: self.config(),
            prefix: self.path("opt/cocoon"),
            classes: self.path("etc/cocoon"),
            state: self.path("var/lib/cocoon/node"),
            features: self.path("etc/features.d"),
            pods: self.path("run/cocoon"),
        }
    }

    pub fn wish(&self) -> Install {
        Install {
            places: self.places(),
            containerd: Some(self.containerd.program().into()),
            shim: self.path("shim"),
            guest_image: Some(self.path("image")),
            classes: Choice { simulated: true, named: vec!["cocoon".into(), "cocoon-sim".into()] },
            ..Install::default()
        }
    }

    pub fn install(&self) -> Result<Done, Failure> {
        install(&self.wish(), &|| false)
    }

    pub fn uninstall(&self) -> Result<Done, Failure> {
        let wish = Uninstall {
            places: self.places(),
            containerd: Some(self.containerd.program().into()),
            ..Uninstall::default()
        };
        uninstall(&wish, &|| false)
    }

    pub fn runtimes(&self) -> Vec<String> {
        self.containerd.effective(&self.config()).unwrap().runtimes().keys().cloned().collect()
    }

    /// Every file and folder: mode, owner, content, where a link leads.
    pub fn picture(&self) -> Picture {
        let mut all = BTreeMap::new();
        let mut todo = vec![self.path("")];
        while let Some(folder) = todo.pop() {
            for entry in fs::read_dir(&folder).unwrap().flatten() {
                let path = entry.path();
                let meta = fs::symlink_metadata(&path).unwrap();
                let content = if meta.is_symlink() {
                    fs::read_link(&path).unwrap().to_string_lossy().into_owned().into_bytes()
                } else if meta.is_dir() {
                    todo.push(path.clone());
                    Vec::new()
                } else {
                    fs::read(&path).unwrap()
                };
                all.insert(path, (meta.mode(), meta.uid(), content));
            }
        }
        all
    }
}

pub type Picture = BTreeMap<PathBuf, (u32, u32, Vec<u8>)>;

pub fn assert_same(now: &Picture, before: &Picture, case: &str) {
    let paths: std::collections::BTreeSet<_> = now.keys().chain(before.keys()).collect();
    let differ: Vec<_> = paths.into_iter().filter(|p| now.get(*p) != before.get(*p)).collect();
    assert!(differ.is_empty(), "{case}: {differ:?}");
}

pub fn is(containerd: &Containerd, dialect: Dialect) -> bool {
    containerd.dialect().unwrap() == dialect
}

pub const DEBIAN: &str = "version = 2\n\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    sandbox_image = \"example.org/pause:1\" # ours\n    [plugins.\"io.containerd.grpc.v1.cri\".cni]\n      bin_dir = \"/usr/lib/cni\"\n  [plugins.\"io.containerd.internal.v1.opt\"]\n    path = \"/var/lib/containerd/opt\"";
pub const WITH_RUNC: &str = "# a node\nversion = 2\noom_score = -5\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n  default_runtime_name = \"runc\"\n  disable_snapshot_annotations = true # why not\n  [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n    runtime_type = \"io.containerd.runc.v2\"\n    [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n      SystemdCgroup = true\n";
/// With a list of the transfer service of its own.
pub const NATIVE: &str = "version = 2\n[[plugins.\"io.containerd.transfer.v1.local\".unpack_config]]\nplatform = \"linux/amd64\"\nsnapshotter = \"native\"\n";
pub const TERSE: &str = "version = 2\n";
