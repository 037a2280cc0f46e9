//! The command line.

mod admin;
mod collateral;
mod common;
mod delivery;
mod evidence;
mod image;
mod kube;
mod layers;
mod node;
mod operator;
mod policy;
mod snapshotter;
mod trustee;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::kube::*;
pub use admin::*;
pub use collateral::*;
pub use delivery::*;
pub use evidence::*;
pub use image::*;
pub use layers::*;
pub use node::*;
pub use operator::*;
pub use policy::*;
pub use snapshotter::*;
pub use trustee::*;

/// Confidential containers: runs container images where their host can neither read nor change them.
#[derive(Debug, Parser)]
#[command(name = "cocoon", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a container image in an attested pod VM.
    Run(Box<RunArgs>),
    /// Plan what `run` would run, register it with the Trustee at a URL, and print initdata as a pod's annotation holds it
    /// (dev.cocoon.initdata). What concerns only the VM is left to the node.
    ///
    /// `cocoon plan explain -f FILE` says of Kubernetes manifests what the guest will enforce, field by field.
    Plan(Box<RunArgs>),
    /// Say of Kubernetes manifests what the guest will enforce, field by field: fixed, open or refused, and why.
    #[command(
        name = PLAN_EXPLAIN,
        hide = true,
        override_usage = "cocoon plan explain [OPTIONS] <--filename <FILE|DIR|->|--kustomize <DIR>>"
    )]
    PlanExplain(Box<PlanExplainArgs>),
    /// Run ordinary Kubernetes manifests as confidential pods: compile, register with Trustee, apply, wait, and say what was
    /// verified.
    Apply(Box<ApplyArgs>),
    /// Confidential pods of a cluster, and what Trustee knows of their plans.
    Status(Box<StatusArgs>),
    /// Have pods of a cluster prove what they are, over a fresh nonce each, and verify that on this machine: plan, guest
    /// image, platform.
    ///
    /// Exit status: 0 every pod that was asked for is proven, 1 one is not or there is none, 2 wrong command line, 125
    /// anything else (no cluster, no Trustee).
    Verify(Box<PodVerifyArgs>),
    /// The measured guest image.
    #[command(subcommand)]
    Guest(GuestCommand),
    /// Say what this machine has, what is missing and how to mend it; with --cluster, or as kubectl's plugin, what is wrong
    /// in a cluster. Changes nothing.
    ///
    /// Exit status: 0 nothing is broken (warnings may be there), 1 something is, 125 nothing says where the cluster is.
    Doctor(Box<DoctorArgs>),
    /// kubectl logs, after a look at what the pod's plan allows.
    #[command(disable_help_flag = true)]
    Logs(KubectlArgs),
    /// kubectl exec, after a look at what the pod's plan allows.
    #[command(disable_help_flag = true)]
    Exec(KubectlArgs),
    /// Shared secrets, and the rules that say who may have them.
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Registered workloads.
    #[command(subcommand)]
    Workload(WorkloadCommand),
    /// Attestation and resource policies (Rego).
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Reference values: what good guests and platforms measure to.
    #[command(subcommand)]
    Reference(ReferenceCommand),
    /// Show why Trustee decided as it did, or why a pod does not run.
    Explain(Box<ExplainArgs>),
    /// The audit log: read it, verify it, prove from it.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Tenants: owners who share one Trustee without sharing anything in it.
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Vendors' certificates, revocation lists and TCB data: prefetch, carry across an air gap, list.
    #[command(subcommand)]
    Collateral(CollateralCommand),
    /// Evidence of TEEs: verify it offline, or look at it.
    #[command(subcommand)]
    Evidence(EvidenceCommand),
    /// Encrypt, decrypt, inspect and sign images.
    #[command(subcommand)]
    Image(ImageCommand),
    /// The node's cache of layers that pods share.
    #[command(subcommand)]
    Layers(LayersCommand),
    /// A Kubernetes node: make its containerd know Cocoon's runtimes, or forget them; say what it can do.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Kubernetes: the operator that installs Cocoon on a cluster's nodes.
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// Run and operate Trustee as a server.
    #[command(subcommand)]
    Trustee(TrusteeCommand),
    /// Print every error code with its meaning and next step (Markdown).
    Errors,
    /// Print the manifest by which krew, kubectl's plugin manager, installs this program.
    Krew(KrewArgs),
    /// Print the script by which a shell completes this program's commands.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What `plan explain` is called inside: `plan` itself takes an image.
pub const PLAN_EXPLAIN: &str = "plan-explain";

/// `cocoon run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The image: [REGISTRY/]NAME[:TAG|@DIGEST].
    pub image: String,
    /// Command and arguments that replace the image's.
    #[arg(last = true)]
    pub command: Vec<String>,
    /// A secret for the workload: a file /run/secrets/NAME and http://127.0.0.1:8006/cdh/resource/default/secret/NAME.
    #[arg(long = "secret", value_name = "NAME=@FILE|NAME=VALUE")]
    pub secrets: Vec<String>,
    /// Let the workload fetch this secret of Trustee (repository/type/tag), beside its own.
    #[arg(long = "allow-resource", value_name = "PATH")]
    pub allow: Vec<String>,
    /// Set or replace an environment variable; NAME alone takes its value from this environment.
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Working directory in the container.
    #[arg(short, long)]
    pub workdir: Option<String>,
    /// User in the container: name, uid, name:group or uid:gid.
    #[arg(short, long)]
    pub user: Option<String>,
    /// Virtual CPUs.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub cpus: u32,
    /// Memory of the pod VM, e.g. 512M or 2G.
    #[arg(short, long, default_value = "1G", value_parser = parse_mib)]
    pub memory: u32,
    /// The image must carry a signature by this public key (PEM file).
    #[arg(long, value_name = "KEY")]
    pub require_signature: Option<PathBuf>,
    /// How the image reaches the guest, and which it may take.
    #[command(flatten)]
    pub delivery: DeliveryArgs,
    /// Trustee to use instead of the embedded one.
    #[arg(long, value_name = "URL")]
    pub trustee: Option<String>,
    /// File with the admin token of that Trustee.
    #[arg(long, value_name = "FILE", requires = "trustee")]
    pub trustee_token: Option<PathBuf>,
    /// Certificate of that Trustee, or of its CA (PEM file).
    #[arg(long, value_name = "FILE", requires = "trustee")]
    pub trustee_cert: Option<PathBuf>,
    /// The TEE.
    #[arg(long, value_enum, default_value_t = PlatformArg::Auto)]
    pub platform: PlatformArg,
    /// Hardware virtualization or emulation.
    #[arg(long, value_enum, default_value_t = AccelArg::Auto)]
    pub accel: AccelArg,
    /// Let the workload ask for attestation tokens and evidence (http://127.0.0.1:8006/aa/…). With them it can fetch
    /// whatever the guest itself may, image keys included.
    #[arg(long)]
    pub attestation_api: bool,
    /// Keep standard input open for the container.
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the container a terminal.
    #[arg(short, long)]
    pub tty: bool,
    /// Print the stage timeline at the end.
    #[arg(long)]
    pub timings: bool,
    /// Machine-readable progress, failures and timings (JSON lines on standard error).
    #[arg(long)]
    pub json: bool,
    /// No progress.
    #[arg(short, long)]
    pub quiet: bool,
    /// Write the guest's serial console to this file.
    #[arg(long, value_name = "FILE")]
    pub console: Option<PathBuf>,
    /// Make this host misbehave, to see it refused: changed-initrd, changed-plan, rebound-plan, replayed-evidence.
    #[arg(long, value_name = "KIND")]
    pub adversary: Option<cocoon_sandbox::Adversary>,
}

/// The TEE to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlatformArg {
    /// The best that this machine has.
    Auto,
    /// The simulated secure processor.
    Sim,
    /// AMD SEV-SNP.
    Snp,
    /// Intel TDX.
    Tdx,
    /// A software TPM of this machine's beside a measured boot; protects from nobody who controls this machine.
    Tpm,
}

/// How the VM is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccelArg {
    /// KVM where it truly works, else emulation.
    Auto,
    /// KVM.
    Kvm,
    /// Emulation.
    Tcg,
}

/// `cocoon guest`.
#[derive(Debug, Subcommand)]
pub enum GuestCommand {
    /// Build the measured guest and store its reference values.
    Build(GuestBuildArgs),
    /// Print the guest image's manifest and reference values.
    Show,
    /// Push a guest image to a registry, from where a cluster's nodes pull it; prints its reference with the digest.
    Push(GuestPushArgs),
    /// Sign an ID block, by which an SNP processor starts this guest image and no other; prints the lines for a class's
    /// configuration.
    IdBlock(IdBlockArgs),
}

/// `cocoon guest push`.
#[derive(Debug, Args)]
pub struct GuestPushArgs {
    /// Where to: REGISTRY/NAME[:TAG].
    pub reference: String,
    /// Folder of the image; default: the one in the data folder.
    #[arg(long, value_name = "DIR")]
    pub image: Option<PathBuf>,
    /// Sign it with this private key (`cocoon image keygen`), as cosign does; a sealed one with COSIGN_PASSWORD.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Speak to the registry without TLS.
    #[arg(long)]
    pub plain_http: bool,
    /// Machine-readable.
    #[arg(long)]
    pub json: bool,
}

/// `cocoon guest id-block`.
#[derive(Debug, Args)]
pub struct IdBlockArgs {
    /// Virtual CPUs of the pods: they are part of the launch measurement, so all pods of the class have as many.
    #[arg(long)]
    pub cpus: u32,
    /// The ID key (P-384, PKCS#8, PEM).
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// The author key that vouches for the ID key (P-384, PKCS#8, PEM).
    #[arg(long, value_name = "FILE")]
    pub author_key: Option<PathBuf>,
    /// The guest's security version.
    #[arg(long, default_value_t = 0)]
    pub svn: u32,
    /// OVMF built for SEV; default: the installed one.
    #[arg(long, value_name = "FILE")]
    pub firmware: Option<PathBuf>,
}

/// `cocoon guest build`.
#[derive(Debug, Args)]
pub struct GuestBuildArgs {
    /// Kernel package file to use instead of this release's cloud kernel.
    #[arg(long, value_name = "FILE")]
    pub kernel_deb: Option<PathBuf>,
    /// The cocoon-guest program; default: beside this program.
    #[arg(long, value_name = "FILE")]
    pub guest_binary: Option<PathBuf>,
    /// Where to put the image; default: the data folder.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Take the kernel from this suite of the package archive, such as bookworm-backports.
    #[arg(long)]
    pub suite: Option<String>,
    /// For developers: a guest that also runs without a plan, by the host's word alone. Its measurement is another one;
    /// no Trustee should know it that holds real secrets.
    #[arg(long)]
    pub developer: bool,
}

/// `cocoon doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Look at the cluster of the current kubeconfig instead. As kubectl's plugin this is what it does anyhow.
    #[arg(long = "cluster")]
    pub whole: bool,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    #[command(flatten)]
    pub common: Common,
}

/// Memory such as `512M`, `2G` or plain MiB, in MiB; at least 256.
fn parse_mib(text: &str) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('i')).unwrap_or(&lower);
    let (number, factor) = match lower.strip_suffix('g') {
        Some(number) => (number, 1024),
        None => (lower.strip_suffix('m').unwrap_or(lower), 1),
    };
    let mib = number.parse::<u32>().ok().and_then(|n| n.checked_mul(factor));
    match mib {
        Some(mib @ 256..=1_048_576) => Ok(mib),
        _ => Err("must be 256M to 1024G, such as 512M or 2G".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn memory_sizes() {
        assert_eq!(parse_mib("512M"), Ok(512));
        assert_eq!(parse_mib("2GiB"), Ok(2048));
        assert_eq!(parse_mib("700"), Ok(700));
        for bad in ["1M", "x", "99999G", "-1", ""] {
            assert!(parse_mib(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_image_is_planned_with_flags_before_and_after_it() {
        use clap::Parser as _;
        for line in
            [&["cocoon", "plan", "--secret", "a=b", "app:1"][..], &["cocoon", "plan", "app:1", "--quiet"]]
        {
            let Command::Plan(args) = Cli::try_parse_from(line).unwrap().command else {
                panic!("{line:?} is something else");
            };
            assert_eq!(args.image, "app:1");
        }
    }
}
