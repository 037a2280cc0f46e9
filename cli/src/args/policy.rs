//! `cocoon policy` and `cocoon reference`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Common;

/// `cocoon policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// List policies with their active version (JSON).
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Check and store a policy; it takes effect at once.
    Set {
        /// default_cpu, default_gpu, … for attestation; resource-policy for secrets.
        id: String,
        /// The Rego text; - reads standard input.
        file: PathBuf,
        /// A note for people.
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
        #[command(flatten)]
        common: Common,
    },
    /// Print a policy's text.
    Get {
        /// Its id.
        id: String,
        /// Not the active version but this one.
        #[arg(long, value_name = "N")]
        version: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// List the kept versions of a policy (JSON).
    History {
        /// Its id.
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Make another version the active one.
    Rollback {
        /// Its id.
        id: String,
        /// Which version.
        #[arg(long, value_name = "N")]
        version: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Remove a policy: without it the built-in rules apply (attestation) or nothing is allowed (resource-policy).
    Rm {
        /// Its id.
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Say what a policy would decide of evidence seen lately; nothing changes.
    DryRun {
        /// The id that it would have.
        id: String,
        /// The Rego text; - reads standard input.
        file: PathBuf,
        /// At most so many pieces of evidence.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
        limit: u32,
        #[command(flatten)]
        common: Common,
    },
    /// List the policies that come with Trustee, or print one.
    Defaults {
        /// Which one, such as default_cpu.
        name: Option<String>,
        #[command(flatten)]
        common: Common,
    },
}

/// A format of reference value documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// Told by the content.
    #[default]
    Auto,
    /// JSON object, name to value.
    Sample,
    /// TCG reference manifest as SWID tag (XML).
    Swid,
    /// Concise reference integrity manifest (CBOR).
    Corim,
    /// in-toto statement in a DSSE envelope.
    InToto,
    /// Cocoon's signed set, as `reference sign` writes it.
    Cocoon,
}

/// A document of reference values and how to take it.
#[derive(Clone, Debug, Args)]
pub struct DocumentArgs {
    /// The document.
    pub file: PathBuf,
    /// Its format.
    #[arg(long = "type", value_enum, default_value_t)]
    pub format: FormatArg,
    /// Name of the set; default: the one that the document names.
    #[arg(long)]
    pub set: Option<String>,
    /// Who made it; default: the one that the document names.
    #[arg(long)]
    pub source: Option<String>,
    /// When its values end: in a while (30d) or at a time (2027-01-31).
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<String>,
    /// Take it although nobody trusted signed it.
    #[arg(long)]
    pub unsigned: bool,
    /// Take an older version than the present one.
    #[arg(long)]
    pub allow_older: bool,
}

/// `cocoon reference`.
#[derive(Debug, Subcommand)]
pub enum ReferenceCommand {
    /// List reference values (JSON).
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Set the values accepted under a name, such as snp_bootloader. Numbers are taken as numbers unless they stand in
    /// double quotes.
    Set {
        /// The name.
        name: String,
        /// The values.
        #[arg(required = true)]
        values: Vec<String>,
        /// Who says so; other sources' values of this name stay.
        #[arg(long, default_value = "owner")]
        source: String,
        /// When they end: in a while (30d) or at a time (2027-01-31).
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Remove the values under a name.
    Rm {
        /// The name.
        name: String,
        /// Only this source's.
        #[arg(long)]
        source: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Import a document of reference values, all or nothing.
    Import {
        #[command(flatten)]
        document: DocumentArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Show what an import would change; nothing changes.
    Diff {
        #[command(flatten)]
        document: DocumentArgs,
        #[command(flatten)]
        common: Common,
    },
    /// List imported sets (JSON).
    Sets {
        #[command(flatten)]
        common: Common,
    },
    /// Show the values of a set (JSON).
    Show {
        /// Its name.
        set: String,
        #[command(flatten)]
        common: Common,
    },
    /// Remove a set with its values.
    RmSet {
        /// Its name.
        set: String,
        #[command(flatten)]
        common: Common,
    },
    /// Sign a JSON object of reference values (name to value or list) as a set; printed to standard output.
    Sign {
        /// The values.
        file: PathBuf,
        /// Private key, PEM (PKCS#8, P-256 or Ed25519); `cocoon image keygen` makes one.
        #[arg(long, value_name = "KEY")]
        key: PathBuf,
        /// Name of the set.
        #[arg(long)]
        set: String,
        /// Version of the set; importers refuse older ones.
        #[arg(long, value_name = "N")]
        version: u64,
        /// Who makes it.
        #[arg(long, default_value = "owner")]
        source: String,
        /// When its values end: in a while (30d) or at a time (2027-01-31).
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,
        /// The id under which readers trust the key; without it they try all their keys.
        #[arg(long, value_name = "ID", default_value = "")]
        key_id: String,
    },
    /// Who may sign documents of reference values.
    #[command(subcommand)]
    Trust(TrustCommand),
}

/// `cocoon reference trust`.
#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// List trusted keys and authorities (JSON).
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Trust a public key or an authority's certificate.
    Add {
        /// A name for it.
        id: String,
        /// PEM file.
        file: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Trust it no longer.
    Rm {
        /// Its name.
        id: String,
        #[command(flatten)]
        common: Common,
    },
}
