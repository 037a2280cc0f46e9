//! The cluster's containerd, at the places of a usual installation.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};

use super::Part;
use crate::containerd::{Cri, Node, network_from};
use crate::wait_until;

/// How long a start may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Where kubelet finds it, in the node.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";
/// The main file, in the node.
const MAIN: &str = "/etc/containerd/config.toml";
/// Where its drop-ins are, in the node.
const DROP_INS: &str = "/etc/containerd/conf.d";

/// What its files say.
pub(super) struct Config<'a> {
    /// The node's folder.
    pub folder: &'a Path,
    /// The registry behind all image names, `host:port`.
    pub registry: &'a str,
    /// The image of runc's pod sandboxes.
    pub pause: &'a str,
    /// The class file of the runtime `cocoon`, where containerd is to know it.
    pub class: Option<&'a Path>,
    /// The first addresses of its pods, of both families.
    pub pods: (&'a str, &'a str),
}

/// Writes the files of a containerd 2.
pub(super) fn write(node: &Node, config: &Config) -> Result<()> {
    let folder = config.folder.join("containerd");
    fs::create_dir_all(folder.join("cni"))?;
    fs::create_dir_all(folder.join("hosts/_default"))?;
    fs::write(folder.join("cni/10-pods.conflist"), network_from(&folder, config.pods.0, config.pods.1))?;
    fs::write(
        folder.join("hosts/_default/hosts.toml"),
        format!("[host.'http://{}']\ncapabilities = ['pull', 'resolve']\n", config.registry),
    )?;
    fs::create_dir_all(drop_ins(node))?;
    fs::write(node.path(MAIN), text(config, &folder))?;
    if let Some(class) = config.class {
        let runtime = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.cocoon";
        let passed = "['dev.cocoon.*', 'io.katacontainers.*']";
        let dropped = format!(
            "version = 3\n[{runtime}]\nruntime_type = 'io.containerd.cocoon.v2'\n\
             pod_annotations = {passed}\ncontainer_annotations = {passed}\n\
             [{runtime}.options]\nConfigPath = '{}'\n",
            class.display()
        );
        fs::write(drop_ins(node).join("cocoon.toml"), dropped)?;
    }
    Ok(())
}

fn text(config: &Config, folder: &Path) -> String {
    let (folder, pause) = (folder.display(), config.pause);
    // What looks for devices and daemons of the machine is left out.
    format!(
        "version = 3\n\
         imports = ['{DROP_INS}/*.toml']\n\
         disabled_plugins = ['io.containerd.snapshotter.v1.btrfs', 'io.containerd.snapshotter.v1.zfs', \
         'io.containerd.snapshotter.v1.devmapper', 'io.containerd.snapshotter.v1.blockfile', 'io.containerd.nri.v1.nri', \
         'io.containerd.tracing.processor.v1.otlp', 'io.containerd.internal.v1.tracing']\n\
         [plugins.'io.containerd.cri.v1.runtime']\n\
         # Nobody here may lower the score: that takes CAP_SYS_RESOURCE.\n\
         restrict_oom_score_adj = true\n\
         [plugins.'io.containerd.cri.v1.runtime'.cni]\n\
         bin_dir = '/usr/lib/cni'\n\
         conf_dir = '{folder}/cni'\n\
         [plugins.'io.containerd.cri.v1.runtime'.containerd]\n\
         default_runtime_name = 'runc'\n\
         [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n\
         runtime_type = 'io.containerd.runc.v2'\n\
         [plugins.'io.containerd.cri.v1.images']\n\
         snapshotter = 'overlayfs'\n\
         [plugins.'io.containerd.cri.v1.images'.pinned_images]\n\
         sandbox = '{pause}'\n\
         [plugins.'io.containerd.cri.v1.images'.registry]\n\
         config_path = '{folder}/hosts'\n\
         [plugins.'io.containerd.grpc.v1.cri']\n\
         stream_server_address = '127.0.0.1'\n\
         stream_server_port = '0'\n"
    )
}

/// Where drop-ins are, as a path from outside.
pub(super) fn drop_ins(node: &Node) -> PathBuf {
    node.path(DROP_INS)
}

/// Its command line.
pub(super) fn command(programs: &Path) -> Vec<String> {
    let program = programs.join("containerd").display().to_string();
    vec![program, "--config".into(), MAIN.into(), "--log-level".into(), "info".into()]
}

/// Waits until it answers kubelet's questions.
pub(super) fn wait_for(node: &Node, part: &Part) -> Result<()> {
    let socket = node.path(SOCKET);
    let ready = wait_until(LIMIT, || {
        if !socket.exists() {
            return false;
        }
        let cri = Cri::on(socket.clone());
        let ask = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.is_ok_and(|runtime| runtime.block_on(cri.version()).is_ok())
        };
        // On a thread of its own: who waits may be within a runtime.
        std::thread::spawn(ask).join().unwrap_or(false)
    });
    if !ready {
        bail!("containerd does not answer: {}", part.last_words());
    }
    Ok(())
}
