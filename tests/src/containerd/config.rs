//! containerd's configuration, in each version's format.

use std::path::Path;

use super::Version;

/// Annotations of pods and containers reach runtimes only where they are listed.
const PASSED: &str = "['dev.cocoon.*', 'io.katacontainers.*']";

/// What a configuration says.
pub(super) struct Config<'a> {
    /// The version that reads it.
    pub version: Version,
    /// The folder for all that containerd keeps.
    pub folder: &'a Path,
    /// The image of runc's pod sandboxes.
    pub pause: &'a str,
    /// The runtime class's file of `cocoon` pods.
    pub class: &'a Path,
    /// The socket of Cocoon's snapshotter, where all images are to go there.
    pub snapshotter: Option<&'a Path>,
}

impl Config<'_> {
    /// The text of `config.toml`.
    pub(super) fn text(&self) -> String {
        let folder = self.folder.display();
        let head = format!(
            "root = '{folder}/root'\n\
             state = '{folder}/state'\n\
             [grpc]\naddress = '{folder}/c.sock'\n\
             [plugins.'io.containerd.internal.v1.opt']\npath = '{folder}/opt'\n"
        );
        let sections = if self.version == Version::V2 { self.of_version_3() } else { self.of_version_2() };
        let version = if self.version == Version::V2 { 3 } else { 2 };
        format!("version = {version}\n{}\n{head}{sections}{}", Self::DISABLED, self.proxy())
    }

    fn proxy(&self) -> String {
        let Some(socket) = self.snapshotter else { return String::new() };
        let mut text =
            format!("[proxy_plugins.cocoon]\ntype = 'snapshot'\naddress = '{}'\n", socket.display());
        if self.version == Version::V2 {
            text.push_str(
                "[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]\n\
                 platform = 'linux/amd64'\nsnapshotter = 'cocoon'\n",
            );
        }
        text
    }

    /// Who keeps images.
    fn keeper(&self) -> &'static str {
        if self.snapshotter.is_some() { "cocoon" } else { "overlayfs" }
    }

    /// What tests do not need, and what would look for devices and daemons of the machine.
    const DISABLED: &'static str = "disabled_plugins = ['io.containerd.snapshotter.v1.aufs', 'io.containerd.snapshotter.v1.btrfs', \
                            'io.containerd.snapshotter.v1.zfs', 'io.containerd.snapshotter.v1.devmapper', \
                            'io.containerd.snapshotter.v1.blockfile', 'io.containerd.nri.v1.nri', \
                            'io.containerd.tracing.processor.v1.otlp', 'io.containerd.internal.v1.tracing']";

    fn of_version_2(&self) -> String {
        let cri = "plugins.'io.containerd.grpc.v1.cri'";
        let folder = self.folder.display();
        format!(
            "[{cri}]\n\
             sandbox_image = '{}'\n\
             restrict_oom_score_adj = true\n\
             stream_server_address = '127.0.0.1'\n\
             stream_server_port = '0'\n\
             [{cri}.cni]\nbin_dir = '/usr/lib/cni'\nconf_dir = '{folder}/cni'\nmax_conf_num = 0\n\
             [{cri}.registry]\nconfig_path = '{folder}/hosts'\n\
             [{cri}.containerd]\ndefault_runtime_name = 'runc'\nsnapshotter = '{}'\n{}",
            self.pause,
            self.keeper(),
            self.runtimes(&format!("{cri}.containerd.runtimes"))
        )
    }

    fn of_version_3(&self) -> String {
        let runtime = "plugins.'io.containerd.cri.v1.runtime'";
        let images = "plugins.'io.containerd.cri.v1.images'";
        let folder = self.folder.display();
        format!(
            "[{runtime}]\nrestrict_oom_score_adj = true\n\
             [{runtime}.cni]\nbin_dir = '/usr/lib/cni'\nconf_dir = '{folder}/cni'\nmax_conf_num = 0\n\
             [{images}]\nsnapshotter = '{}'\ndisable_snapshot_annotations = false\n\
             [{images}.pinned_images]\nsandbox = '{}'\n\
             [{images}.registry]\nconfig_path = '{folder}/hosts'\n\
             [plugins.'io.containerd.grpc.v1.cri']\n\
             stream_server_address = '127.0.0.1'\nstream_server_port = '0'\n\
             [{runtime}.containerd]\ndefault_runtime_name = 'runc'\n{}",
            self.keeper(),
            self.pause,
            self.runtimes(&format!("{runtime}.containerd.runtimes"))
        )
    }

    fn runtimes(&self, at: &str) -> String {
        format!(
            "[{at}.runc]\nruntime_type = 'io.containerd.runc.v2'\n\
             [{at}.cocoon]\nruntime_type = 'io.containerd.cocoon.v2'\n\
             pod_annotations = {PASSED}\ncontainer_annotations = {PASSED}\n\
             [{at}.cocoon.options]\nConfigPath = '{}'\n",
            self.class.display()
        )
    }
}

/// What to add for a runtime `lean`: as `cocoon`, with images in the proxy snapshotter on this socket.
pub(super) fn lean(version: Version, class: &Path, socket: &Path) -> String {
    let cri =
        if version == Version::V2 { "io.containerd.cri.v1.runtime" } else { "io.containerd.grpc.v1.cri" };
    let at = format!("plugins.'{cri}'.containerd.runtimes.lean");
    let images = "plugins.'io.containerd.cri.v1.images'";
    let unpacks = "plugins.'io.containerd.transfer.v1.local'.unpack_config";
    // containerd 2 prepares images apart from runtimes, and unpacks into what it is told.
    let of_images = format!(
        "[{images}.runtime_platforms.lean]\nplatform = 'linux/amd64'\nsnapshotter = 'cocoon'\n\
         [[{unpacks}]]\nplatform = 'linux/amd64'\nsnapshotter = 'overlayfs'\n\
         [[{unpacks}]]\nplatform = 'linux/amd64'\nsnapshotter = 'cocoon'\n"
    );
    format!(
        "[proxy_plugins.cocoon]\ntype = 'snapshot'\naddress = '{}'\n{}\
         [{at}]\nruntime_type = 'io.containerd.cocoon.v2'\nsnapshotter = 'cocoon'\n\
         pod_annotations = {PASSED}\ncontainer_annotations = {PASSED}\n\
         [{at}.options]\nConfigPath = '{}'\n",
        socket.display(),
        if version == Version::V2 { of_images.as_str() } else { "" },
        class.display()
    )
}

/// The CNI network of pods: addresses of both families on the node's bridge.
pub(crate) fn network(folder: &Path) -> String {
    network_from(folder, "10.88.0.2", "fd00:88::2")
}

/// The same, with addresses from these on: of one of several nodes on the bridge.
pub(crate) fn network_from(folder: &Path, first: &str, first_v6: &str) -> String {
    format!(
        r#"{{"cniVersion": "1.0.0", "name": "cocoon", "plugins": [{{
            "type": "bridge", "bridge": "cocoon0", "isGateway": true, "hairpinMode": true,
            "ipam": {{"type": "host-local", "dataDir": "{}/addresses",
                "ranges": [[{{"subnet": "10.88.0.0/16", "rangeStart": "{first}"}}],
                    [{{"subnet": "fd00:88::/64", "rangeStart": "{first_v6}"}}]],
                "routes": [{{"dst": "0.0.0.0/0"}}, {{"dst": "::/0"}}]}}
        }}]}}"#,
        folder.display()
    )
}
