//! `cocoon node snapshotter`.

use std::path::PathBuf;

use clap::Args;

/// `cocoon node snapshotter`.
#[derive(Clone, Debug, Args)]
pub struct SnapshotterArgs {
    /// Socket to listen on, as containerd's `proxy_plugins` names it.
    #[arg(long, value_name = "PATH", default_value = "/run/cocoon/snapshotter.sock")]
    pub socket: PathBuf,
    /// Folder of the snapshots: names, and directories that are all but empty.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/cocoon/snapshotter")]
    pub root: PathBuf,
    /// containerd's own socket, which is asked for the users that images name; `none` for nobody.
    #[arg(long, value_name = "PATH|none", default_value = "/run/containerd/containerd.sock")]
    pub containerd: PathBuf,
}
