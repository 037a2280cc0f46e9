//! The owner's commands: secrets, workloads, verdicts, the audit log, tenants.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Which Trustee a command speaks to, and how it answers.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Trustee")]
pub struct Common {
    /// Trustee's URL; without it, the embedded Trustee in this user's data folder.
    #[arg(long, value_name = "URL")]
    pub trustee: Option<String>,
    /// File with the admin token of that Trustee; default: the environment's COCOON_TRUSTEE_TOKEN.
    #[arg(long, value_name = "FILE", requires = "trustee")]
    pub trustee_token: Option<PathBuf>,
    /// Certificate of that Trustee, or of its CA (PEM file); nothing else is trusted then.
    #[arg(long, value_name = "FILE", requires = "trustee")]
    pub trustee_cert: Option<PathBuf>,
    /// Act on this tenant.
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Answers and failures as JSON for programs.
    #[arg(long)]
    pub json: bool,
}

/// The least appraisal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StatusArg {
    /// Everything is a reference value.
    #[default]
    Affirming,
    /// Small deviations are tolerated.
    Warning,
}

impl StatusArg {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            StatusArg::Affirming => "affirming",
            StatusArg::Warning => "warning",
        }
    }
}

/// What a guest's evidence must be good for.
#[derive(Clone, Debug, Args)]
pub struct Demands {
    /// The least appraisal of the guest's evidence.
    #[arg(long, value_enum, default_value_t)]
    pub min_status: StatusArg,
    /// A simulated TEE is good enough. For tests only: it proves nothing.
    #[arg(long)]
    pub accept_simulated: bool,
    /// When it ends: in a while (90s, 15m, 12h, 30d, 8w) or at a time (2027-01-31, 2027-01-31T12:00:00Z).
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<String>,
}

/// `cocoon secret`.
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Set a shared secret. Workloads get it if their registration, a rule or the resource policy allows its path.
    Set {
        /// repository/type/tag.
        path: String,
        /// @FILE, or the value itself; - reads standard input.
        value: String,
        /// Also let this workload have it: deploy/NAME (with its namespace), or the name by which it is registered
        /// (web.shop). Makes a rule.
        #[arg(long = "for", value_name = "KIND/NAME|NAME")]
        workload: Option<String>,
        /// That workload's namespace.
        #[arg(short, long, value_name = "NAME", default_value = "default", requires = "workload")]
        namespace: String,
        /// That workload may have it from a simulated TEE too. For tests only: it proves nothing.
        #[arg(long, requires = "workload")]
        accept_simulated: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Write a secret's value to standard output. Embedded Trustee only: no Trustee gives values out over HTTP.
    Get {
        /// repository/type/tag.
        path: String,
        #[command(flatten)]
        common: Common,
    },
    /// Print the text by which a Kubernetes Secret names a secret of Trustee's: the cluster sees a name, the guest the value.
    Seal(SealArgs),
    /// List the paths of shared secrets, one a line.
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Remove a shared secret.
    #[command(visible_alias = "delete")]
    Rm {
        /// repository/type/tag.
        path: String,
        #[command(flatten)]
        common: Common,
    },
    /// Rules that give shared secrets to workloads.
    #[command(subcommand)]
    Rules(RulesCommand),
}

/// `cocoon secret seal`.
#[derive(Debug, Args)]
pub struct SealArgs {
    /// The secret that is meant: repository/type/tag.
    pub path: String,
    /// Sign it with this key (P-256, PKCS#8, PEM).
    #[arg(long, value_name = "FILE", requires = "kid")]
    pub key: Option<PathBuf>,
    /// Where Trustee keeps the key's public half for guests: repository/type/tag.
    #[arg(long, value_name = "PATH", requires = "key")]
    pub kid: Option<String>,
    /// Print that public half (JWK) instead, for `cocoon secret set KID -`.
    #[arg(long, requires = "key")]
    pub public: bool,
    #[command(flatten)]
    pub common: Common,
}

/// `cocoon secret rules`.
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// List all rules (JSON).
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Set a rule, replacing the one of the same id.
    Set {
        /// 1–64 characters of a-z, 0-9, -.
        id: String,
        /// Whom it allows: any, name:NAME of a registered workload, or digest:HEX of initdata.
        #[arg(long, value_name = "WHO")]
        workload: String,
        /// Which secrets: repository/type/tag, where each part may end in *.
        #[arg(long, value_name = "PATTERN")]
        path: String,
        #[command(flatten)]
        demands: Demands,
        /// A note for people.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Show one rule (JSON).
    Show {
        /// Its id.
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Remove a rule.
    Rm {
        /// Its id.
        id: String,
        #[command(flatten)]
        common: Common,
    },
}

/// Which initdata is meant.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// Initdata digest, hex.
    pub digest: Option<String>,
    /// File with the initdata itself (TOML); its digest is computed.
    #[arg(long, value_name = "FILE")]
    pub initdata: Option<PathBuf>,
}

/// `cocoon workload`.
#[derive(Debug, Subcommand)]
pub enum WorkloadCommand {
    /// Register a workload by its initdata, replacing an earlier registration. `cocoon run` does this by itself.
    Add {
        #[command(flatten)]
        which: Which,
        /// A name for people and for rules.
        #[arg(long)]
        name: String,
        /// A secret of its own.
        #[arg(long = "secret", value_name = "PATH=@FILE|PATH=VALUE")]
        secrets: Vec<String>,
        /// A shared secret that it may have.
        #[arg(long, value_name = "PATH")]
        allow: Vec<String>,
        #[command(flatten)]
        demands: Demands,
        #[command(flatten)]
        common: Common,
    },
    /// List registered workloads (JSON).
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show one workload (JSON).
    Show {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        common: Common,
    },
    /// Remove a workload and its own secrets.
    Rm {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        common: Common,
    },
}

/// `cocoon explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The request id that a refusal named (24 hexadecimal digits), or a pod of the cluster: pod/NAME, and as kubectl's plugin
    /// NAME alone. Without it, the latest verdicts are listed.
    #[arg(value_name = "REQUEST|pod/NAME")]
    pub request: Option<String>,
    /// List at most so many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000), conflicts_with = "request")]
    pub limit: u32,
    #[command(flatten)]
    pub cluster: super::ClusterArgs,
    #[command(flatten)]
    pub common: Common,
}

/// `cocoon audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Print the log's signed head (JSON). Keep it elsewhere: it proves later what the log was.
    Head {
        #[command(flatten)]
        common: Common,
    },
    /// Read every entry, recompute the Merkle tree and compare it with the signed head. Exit status 1 if it differs.
    Verify {
        /// A head remembered from before (a file that --save wrote): the log must have grown from it.
        #[arg(long, value_name = "FILE")]
        head: Option<PathBuf>,
        /// Remember the verified head in this file, for the next --head.
        #[arg(long, value_name = "FILE")]
        save: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Print an entry with the proof that it is in the log, and the signed head (JSON).
    Prove {
        /// The entry's index, from 0.
        index: u64,
        /// Prove it for a tree of so many entries; default: the head's.
        #[arg(long)]
        size: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// Print entries as they are written, until Ctrl-C.
    Follow {
        /// Begin with this entry; default: the next one.
        #[arg(long, value_name = "INDEX")]
        from: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
}

/// How much a tenant may keep; what is not given has its default.
#[derive(Clone, Debug, Args)]
pub struct QuotaArgs {
    /// Most shared secrets (1000).
    #[arg(long, value_name = "N")]
    pub secrets: Option<u64>,
    /// Most registered workloads (1000).
    #[arg(long, value_name = "N")]
    pub workloads: Option<u64>,
    /// Most release rules (200).
    #[arg(long, value_name = "N")]
    pub rules: Option<u64>,
    /// Most names with reference values (1000).
    #[arg(long, value_name = "N")]
    pub reference_values: Option<u64>,
    /// Most policies (20).
    #[arg(long, value_name = "N")]
    pub policies: Option<u64>,
}

/// `cocoon tenant`.
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// List tenants (JSON).
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Make a tenant and print its administrator's token, once; or change the quota of one that is there.
    Add {
        /// 1–40 characters of a-z, 0-9, -.
        name: String,
        #[command(flatten)]
        quota: QuotaArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Print a new administrator's token; the old one ends.
    Token {
        /// The tenant.
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Remove a tenant with everything that it keeps.
    Rm {
        /// The tenant.
        name: String,
        #[command(flatten)]
        common: Common,
    },
}
