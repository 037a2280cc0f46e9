//! `cocoon operator`, and `cocoon node serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `cocoon operator`.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Work as a cluster's operator (what its Deployment runs).
    Run(OperatorRunArgs),
    /// Put the operator into the cluster of the current kubeconfig, and a CocoonRuntime if platforms are given.
    Install(OperatorInstallArgs),
    /// Clean all nodes and take the operator out of the cluster. Waits while confidential pods run.
    Uninstall(OperatorUninstallArgs),
    /// Delete all CocoonRuntimes and wait until nodes are clean, while the operator still works (Helm does so before a release goes).
    Clean,
    /// Print what the operator needs in a cluster, or write it as a Helm chart.
    Manifests(OperatorManifestsArgs),
    /// Print the definitions of Cocoon's resources alone.
    Crds,
    /// Make the container image of all roles, as an OCI layout.
    Image(OperatorImageArgs),
}

/// What may differ from cluster to cluster.
#[derive(Clone, Debug, Args)]
pub struct OperatorShape {
    /// The operator's namespace.
    #[arg(long, value_name = "NAME", default_value = "cocoon-system")]
    pub namespace: String,
    /// The image of all roles.
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// When it is pulled: Always, IfNotPresent or Never.
    #[arg(long, value_name = "POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub pull_policy: String,
    /// A Secret with credentials for it; may be given several times.
    #[arg(long = "pull-secret", value_name = "NAME")]
    pub pull_secrets: Vec<String>,
    /// Operators; one works, the others wait for it to end.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub replicas: u32,
    /// A namespace that may have a Trustee; may be given several times. Default: the operator's own.
    #[arg(long = "trustee-namespace", value_name = "NAME")]
    pub trustees: Vec<String>,
    /// With an admission webhook that gives pods of labelled namespaces their runtime class, and warns.
    #[arg(long)]
    pub webhook: bool,
}

/// `cocoon operator run`.
#[derive(Debug, Args)]
pub struct OperatorRunArgs {
    /// The operator's namespace.
    #[arg(long, value_name = "NAME", env = "COCOON_NAMESPACE", default_value = "cocoon-system")]
    pub namespace: String,
    /// Its name among operators.
    #[arg(long, value_name = "NAME", env = "COCOON_POD", default_value = "cocoon-operator")]
    pub identity: String,
    /// The image of nodes' processes where a CocoonRuntime names none.
    #[arg(long, value_name = "IMAGE", env = "COCOON_IMAGE")]
    pub image: String,
    /// Where probes and metrics are.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:8081")]
    pub listen: SocketAddr,
    /// A namespace that may have a Trustee; may be given several times.
    #[arg(long = "trustee-namespace", value_name = "NAME")]
    pub trustees: Vec<String>,
    /// Serve the admission webhook.
    #[arg(long, env = "COCOON_WEBHOOK")]
    pub webhook: bool,
    /// Where the webhook is.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:9443")]
    pub webhook_listen: SocketAddr,
}

/// `cocoon operator install`.
#[derive(Debug, Args)]
pub struct OperatorInstallArgs {
    #[command(flatten)]
    pub shape: OperatorShape,
    /// Also make a CocoonRuntime `cocoon` with this platform: Auto, Snp, Tdx, Tpm or Sim; may be given several times.
    #[arg(long = "platform", value_name = "PLATFORM", value_parser = ["Auto", "Snp", "Tdx", "Tpm", "Sim"])]
    pub platforms: Vec<String>,
}

/// `cocoon operator uninstall`.
#[derive(Debug, Args)]
pub struct OperatorUninstallArgs {
    #[command(flatten)]
    pub shape: OperatorShape,
}

/// `cocoon operator manifests`.
#[derive(Debug, Args)]
pub struct OperatorManifestsArgs {
    #[command(flatten)]
    pub shape: OperatorShape,
    /// Write a Helm chart into this folder instead.
    #[arg(long, value_name = "DIR")]
    pub chart: Option<PathBuf>,
}

/// `cocoon operator image`.
#[derive(Debug, Args)]
pub struct OperatorImageArgs {
    /// Folder for the OCI layout; it must not exist.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The image's name in the layout.
    #[arg(long, value_name = "TAG", default_value = env!("CARGO_PKG_VERSION"))]
    pub tag: String,
    /// The cocoon program to put in; default: this one.
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// The shim's program; default: containerd-shim-cocoon-v2 beside it.
    #[arg(long, value_name = "FILE")]
    pub shim: Option<PathBuf>,
    /// Folder of the guest image to put in.
    #[arg(long, value_name = "DIR")]
    pub guest_image: PathBuf,
}

/// `cocoon node serve`.
#[derive(Clone, Debug, Args)]
pub struct NodeServeArgs {
    /// The node's name.
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub node: String,
    /// The revision that this process belongs to.
    #[arg(long, value_name = "NAME", env = "COCOON_REVISION")]
    pub revision: String,
    /// The node's file system.
    #[arg(long, value_name = "DIR", default_value = "/host")]
    pub root: PathBuf,
    /// Folder with bin/containerd-shim-cocoon-v2 and guest/.
    #[arg(long, value_name = "DIR", default_value = "/usr/share/cocoon")]
    pub payload: PathBuf,
}
