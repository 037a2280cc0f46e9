//! `cocoon trustee`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Common;

/// `cocoon trustee`.
#[derive(Debug, Subcommand)]
pub enum TrusteeCommand {
    /// Serve guests and administrators. SIGHUP, or a change of the settings file, reloads; SIGTERM ends.
    Serve(ServeArgs),
    /// Settings: check a file, show what is in force, print an example.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make a new token signing key; tokens signed before stay good until they expire.
    RotateKey {
        #[command(flatten)]
        common: Common,
    },
    /// Write all state to one file. Sealed values stay sealed: keep the sealing key too. With --trustee, of a Trustee that goes on
    /// serving.
    Backup {
        /// The file to write.
        #[arg(required_unless_present = "into", conflicts_with = "into")]
        file: Option<PathBuf>,
        /// Write a new file, named after the time, into this folder.
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
        /// Of the files in that folder keep so many, the newest.
        #[arg(long, value_name = "N", requires = "into", value_parser = clap::value_parser!(u32).range(1..))]
        keep: Option<u32>,
        /// Encrypt it with the key in this file (32 bytes); made where there is none.
        #[arg(long, value_name = "FILE", conflicts_with = "trustee")]
        key: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        common: Common,
    },
    /// Put a backup's content into the state, after the whole file was verified. Stop Trustee before.
    Restore {
        /// The backup.
        file: PathBuf,
        /// The key file with which it was encrypted.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Remove what is there. Without it a state that is not empty is refused.
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Take over secrets, policies and reference values from the storage folder of CoCo's Trustee.
    ImportUpstream {
        /// Its storage folder.
        dir: PathBuf,
        /// Which of its storage types it is.
        #[arg(long, value_enum, default_value_t)]
        kind: UpstreamKind,
        /// Only say what would be taken.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Print the key by which others check the audit log's heads.
    AuditKey {
        #[command(flatten)]
        common: Common,
    },
}

/// A storage type of CoCo's Trustee.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum UpstreamKind {
    /// A folder for each namespace, a file for each key.
    #[default]
    LocalFs,
    /// A JSON file for each namespace.
    LocalJson,
}

/// Where the state is.
#[derive(Clone, Debug, Default, Args)]
pub struct Place {
    /// Settings file that says where the state is; Cocoon's own or CoCo's kbs-config.
    #[arg(long, value_name = "FILE", alias = "config-file")]
    pub config: Option<PathBuf>,
    /// Folder for state; default: the data folder's `trustee`.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// `cocoon trustee config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a settings file, Cocoon's own or CoCo's kbs-config. Nothing is started.
    Check {
        /// The file; default: no file, so the defaults.
        file: Option<PathBuf>,
    },
    /// Show every setting in force and where it comes from; secrets are hidden.
    Show {
        /// The file; default: no file, so the defaults.
        file: Option<PathBuf>,
    },
    /// Print a documented settings file with all keys and their defaults.
    Example,
}

/// `cocoon trustee serve`. The flags replace what the file says.
#[derive(Clone, Debug, Default, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub place: Place,
    /// Address to listen on; may be given several times; default 127.0.0.1:8080.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<SocketAddr>,
    /// TLS certificate chain (PEM file); default: a self-signed one, kept in the state folder.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// TLS private key (PEM file).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Accept evidence of this machine's simulated secure processor. For tests only: it proves nothing.
    #[arg(long)]
    pub accept_simulated: bool,
    /// File that gets the admin token on first start.
    #[arg(long, value_name = "FILE")]
    pub admin_token: Option<PathBuf>,
    /// Any other setting, such as tokens.lifetime_seconds=600.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}
