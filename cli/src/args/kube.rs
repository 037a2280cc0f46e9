//! Commands on a cluster: `cocoon apply`, `cocoon plan explain`, `cocoon status`, `cocoon verify`, `cocoon logs`, `cocoon exec`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Common, DeliveryArgs, Demands, PlatformArg};

/// Which manifests.
#[derive(Clone, Debug, Default, Args)]
#[group(id = "manifests", required = true, multiple = true)]
pub struct ManifestArgs {
    /// A manifest, YAML or JSON: a file, a folder of them, or - for standard input.
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|-")]
    pub files: Vec<PathBuf>,
    /// A folder with a kustomization, which kubectl builds.
    #[arg(short = 'k', long, value_name = "DIR")]
    pub kustomize: Option<PathBuf>,
}

/// Which cluster.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArgs {
    /// The file that says where the cluster is; default: KUBECONFIG, ~/.kube/config, the pod that this runs in.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context in that file.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace of objects that name none.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// How manifests become plans.
#[derive(Debug, Args)]
pub struct CompileArgs {
    #[command(flatten)]
    pub manifests: ManifestArgs,
    /// A setting for manifests that do not have it: cocoon.dev/NAME as an annotation, e.g. secrets=pinned.
    #[arg(long = "with", value_name = "NAME=VALUE")]
    pub with: Vec<String>,
    /// A secret for every workload of the manifests: a file /run/secrets/NAME.
    #[arg(long = "secret", value_name = "NAME=@FILE|NAME=VALUE")]
    pub secrets: Vec<String>,
    /// Let the workloads fetch this secret of Trustee (repository/type/tag), beside their own.
    #[arg(long = "allow-resource", value_name = "PATH")]
    pub allow: Vec<String>,
    /// Every image must carry a signature by this public key (PEM file).
    #[arg(long, value_name = "KEY")]
    pub require_signature: Option<PathBuf>,
    #[command(flatten)]
    pub delivery: DeliveryArgs,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// What is written to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ManifestFormat {
    /// YAML, a document for each object.
    Yaml,
    /// JSON, one List.
    Json,
}

/// `cocoon apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    pub compile: CompileArgs,
    /// Register nothing and apply nothing; say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Show how the cluster's objects would change, and change nothing. Exit status 1 if they would.
    #[arg(long, conflicts_with_all = ["dry_run", "output"])]
    pub diff: bool,
    /// Write the manifests, as they go to the cluster, to standard output.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<ManifestFormat>,
    /// The runtime class of pods that name none of Cocoon's or CoCo's; if given, of all. Default: cocoon.
    #[arg(long, value_name = "NAME")]
    pub runtime_class: Option<String>,
    /// Where guests reach Trustee, if not at --trustee's URL: a name in the cluster, for example.
    #[arg(long, value_name = "URL")]
    pub guest_trustee: Option<String>,
    /// Also tell Trustee that this machine's guest image is a good one, on this platform.
    #[arg(long, value_enum)]
    pub platform: Option<PlatformArg>,
    #[command(flatten)]
    pub demands: Demands,
    /// Take over fields that somebody else manages.
    #[arg(long)]
    pub force_conflicts: bool,
    /// Do not wait until pods are ready.
    #[arg(long)]
    pub no_wait: bool,
    /// For how long pods may take to become ready (90s, 15m).
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration)]
    pub timeout: Duration,
    #[command(flatten)]
    pub common: Common,
}

/// `cocoon plan explain`.
#[derive(Debug, Args)]
pub struct PlanExplainArgs {
    #[command(flatten)]
    pub compile: CompileArgs,
    /// Do not ask registries: images count as if they had no command, variables and user of their own.
    #[arg(long)]
    pub offline: bool,
    /// JSON for programs.
    #[arg(long)]
    pub json: bool,
}

/// `cocoon status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Of all namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    #[command(flatten)]
    pub common: Common,
}

/// `cocoon verify`.
#[derive(Debug, Args)]
pub struct PodVerifyArgs {
    /// What is to be verified: deploy/NAME, sts/NAME, ds/NAME, job/NAME, …, or a pod's NAME. Without any, all confidential
    /// pods of the namespace.
    #[arg(value_name = "KIND/NAME")]
    pub targets: Vec<String>,
    /// All confidential pods of all namespaces.
    #[arg(short = 'A', long, conflicts_with_all = ["targets", "namespace"])]
    pub all_namespaces: bool,
    /// The name under which their plan is registered, if it is not that of the Deployment, Job, … and its namespace
    /// (web.shop).
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<String>,
    /// The digest of the plan that the pods must have (hex, as `cocoon apply --json` says it); may be given again. No other
    /// registered plan is good enough then.
    #[arg(long, value_name = "DIGEST")]
    pub plan: Vec<String>,
    /// The same as a file with initdata (TOML), or with the annotation that `cocoon plan` prints.
    #[arg(long, value_name = "FILE")]
    pub initdata: Vec<PathBuf>,
    /// Reference values (JSON: values by name, or what `cocoon reference list` prints) in place of Trustee's. With --plan or
    /// --initdata no Trustee is asked at all.
    #[arg(long, value_name = "FILE")]
    pub reference_values: Option<PathBuf>,
    /// The least appraisal, for plans that are given; registered ones say it themselves.
    #[arg(long, value_enum, default_value_t)]
    pub min_status: super::StatusArg,
    /// A simulated TEE of this machine's is good enough. For tests only: it proves nothing.
    #[arg(long)]
    pub accept_simulated: bool,
    /// Another maker of simulated TEEs: root and intermediate (PEM file).
    #[arg(long, value_name = "FILE", requires = "accept_simulated")]
    pub simulated_root: Vec<PathBuf>,
    /// For how long a pod may take to answer (90s, 15m).
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = parse_duration)]
    pub timeout: Duration,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    #[command(flatten)]
    pub common: Common,
}

/// `cocoon logs` and `cocoon exec`.
#[derive(Debug, Args)]
pub struct KubectlArgs {
    /// As for kubectl: [flags] POD|KIND/NAME [flags] [-- COMMAND…].
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "ARGUMENTS")]
    pub args: Vec<OsString>,
}

/// `cocoon krew`.
#[derive(Debug, Args)]
pub struct KrewArgs {
    /// The release: v1.2.3. Default: this program's.
    #[arg(long, value_name = "VERSION")]
    pub release: Option<String>,
    /// The project's page.
    #[arg(long, value_name = "URL")]
    pub homepage: String,
    /// A release's archive (tar.gz with cocoon and LICENSE) and its SHA-256: amd64=https://…/FILE#SHA256. Once for each
    /// architecture.
    #[arg(long = "archive", value_name = "ARCH=URL#SHA256", required = true)]
    pub archives: Vec<String>,
}

/// `90s`, `15m` or `2h`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, factor) = match text.char_indices().last() {
        Some((at, 's')) => (text.get(..at), 1),
        Some((at, 'm')) => (text.get(..at), 60),
        Some((at, 'h')) => (text.get(..at), 3600),
        _ => (Some(text), 1),
    };
    let seconds = number.and_then(|n| n.parse::<u32>().ok()).and_then(|n| n.checked_mul(factor));
    match seconds {
        Some(seconds @ 1..=604_800) => Ok(Duration::from_secs(seconds.into())),
        _ => Err("must be a time such as 90s, 15m or 2h".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(parse_duration("7"), Ok(Duration::from_secs(7)));
        for bad in ["", "s", "0s", "-1m", "1d", "99999999h", "1.5h", "ü"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
