//! `cocoon node`.

use clap::Subcommand;

use super::SnapshotterArgs;

/// `cocoon node`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Serve containerd as the snapshotter of images whose layers only guests need.
    Snapshotter(SnapshotterArgs),
}
