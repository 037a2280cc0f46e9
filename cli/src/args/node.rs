//! `cocoon node`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{NodeServeArgs, SnapshotterArgs};

/// `cocoon node`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Make this node's containerd know Cocoon's runtimes. Changes nothing where everything is as it should be.
    Install(Box<NodeInstallArgs>),
    /// Take everything away again that `install` put there; every file gets back the bytes that it had.
    Uninstall(NodeUninstallArgs),
    /// Say whether pods of Cocoon can run on this node, what is missing and how to mend it. Changes nothing.
    Check(NodeCheckArgs),
    /// Serve containerd as the snapshotter of images whose layers only guests need.
    Snapshotter(SnapshotterArgs),
    /// In a cluster: make this node what its CocoonNode asks for (what the operator's DaemonSet runs).
    Serve(NodeServeArgs),
    /// One step of `serve` in the node's file system.
    #[command(hide = true)]
    Step,
}

/// Where things are on the node.
#[derive(Clone, Debug, Args)]
pub struct NodePlaces {
    /// containerd's main configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/containerd/config.toml")]
    pub config: PathBuf,
    /// containerd's program; default: the one on the PATH.
    #[arg(long, value_name = "FILE")]
    pub containerd: Option<PathBuf>,
    /// Folder for the shim and the guest image.
    #[arg(long, value_name = "DIR", default_value = "/opt/cocoon")]
    pub prefix: PathBuf,
    /// The node is not this machine but a system's image in this folder.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Machine-readable.
    #[arg(long)]
    pub json: bool,
}

/// How containerd is restarted.
#[derive(Clone, Debug, Args)]
pub struct NodeRestart {
    /// Restart containerd (systemctl restart containerd) and wait until it answers; else everything is put back.
    #[arg(long)]
    pub restart: bool,
    /// Restart it by this shell command instead.
    #[arg(long, value_name = "COMMAND", conflicts_with = "restart")]
    pub restart_command: Option<String>,
    /// Seconds that the restart may take, and then containerd's first answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub restart_timeout: u32,
}

/// `cocoon node install`.
#[derive(Clone, Debug, Args)]
pub struct NodeInstallArgs {
    #[command(flatten)]
    pub places: NodePlaces,
    #[command(flatten)]
    pub restart: NodeRestart,
    /// The shim's program; default: containerd-shim-cocoon-v2 beside this program.
    #[arg(long, value_name = "FILE")]
    pub shim: Option<PathBuf>,
    /// Folder of a guest image to copy to the node; without it one that is there stays.
    #[arg(long, value_name = "DIR")]
    pub guest_image: Option<PathBuf>,
    /// Install this class (cocoon, cocoon-snp, cocoon-tdx, cocoon-tpm, cocoon-sim) and no others; may be given several
    /// times. Default: those that this machine's TEEs can run.
    #[arg(long = "class", value_name = "NAME")]
    pub classes: Vec<String>,
    /// Also install classes that protect from nobody on this node: the simulated TEE, a TPM that the node plays.
    #[arg(long)]
    pub simulated: bool,
    /// Have images of Cocoon's pods prepared by `cocoon node snapshotter`, so that layers are fetched by guests alone
    /// (containerd 1.7 and newer).
    #[arg(long)]
    pub snapshotter: bool,
    /// Write a file of labels for node-feature-discovery; without it only where its folder is.
    #[arg(long)]
    pub nfd: bool,
    /// Write class files anew that someone changed.
    #[arg(long)]
    pub reset_classes: bool,
}

/// `cocoon node uninstall`.
#[derive(Clone, Debug, Args)]
pub struct NodeUninstallArgs {
    #[command(flatten)]
    pub places: NodePlaces,
    #[command(flatten)]
    pub restart: NodeRestart,
    /// Although pods of Cocoon run. containerd cannot reach them after its restart.
    #[arg(long)]
    pub force: bool,
}

/// `cocoon node check`.
#[derive(Clone, Debug, Args)]
pub struct NodeCheckArgs {
    #[command(flatten)]
    pub places: NodePlaces,
    /// Print only the node's labels, NAME=VALUE a line.
    #[arg(long)]
    pub labels: bool,
}

impl NodeCommand {
    /// Whether answers are for programs.
    pub fn json(&self) -> bool {
        match self {
            NodeCommand::Install(args) => args.places.json,
            NodeCommand::Uninstall(args) => args.places.json,
            NodeCommand::Check(args) => args.places.json,
            NodeCommand::Snapshotter(_) | NodeCommand::Serve(_) | NodeCommand::Step => false,
        }
    }
}
