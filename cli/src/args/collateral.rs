//! `cocoon collateral`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `cocoon collateral`.
#[derive(Debug, Subcommand)]
pub enum CollateralCommand {
    /// List what is at hand: vendor, age, how long it holds.
    Status {
        #[command(flatten)]
        place: CollateralPlace,
    },
    /// Fetch documents from their vendors, for evidence or by name, e.g. on a machine with a network for one without.
    Fetch(Box<FetchArgs>),
    /// Write all documents to one file.
    Export {
        /// The bundle to write.
        file: PathBuf,
        #[command(flatten)]
        place: CollateralPlace,
    },
    /// Take over the documents of a bundle. None takes the place of a newer one.
    Import {
        /// The bundle; - reads standard input.
        file: PathBuf,
        /// It is the platform_collaterals.json that Intel's PcsClientTool writes.
        #[arg(long)]
        intel: bool,
        #[command(flatten)]
        place: CollateralPlace,
    },
}

/// Where documents are kept, and how the command answers.
#[derive(Clone, Debug, Args)]
pub struct CollateralPlace {
    /// The folder; default: collateral in the state folder of the embedded Trustee.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Answers and failures as JSON for programs.
    #[arg(long)]
    pub json: bool,
}

/// Intel's TEEs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TeeArg {
    /// SGX.
    Sgx,
    /// TDX.
    #[default]
    Tdx,
}

/// Intel's views of a TCB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum UpdateArg {
    /// What platforms must meet today.
    Standard,
    /// What they must meet soon; the stricter one.
    #[default]
    Early,
}

/// `cocoon collateral fetch`.
#[derive(Debug, Args)]
pub struct FetchArgs {
    /// Files with evidence (JSON): what its verification needs is fetched.
    pub evidence: Vec<PathBuf>,
    /// AMD: the revocation list of this product (Milan, Genoa, Turin); with --chip-id, the chip's certificate too.
    #[arg(long, value_name = "NAME")]
    pub amd_product: Option<String>,
    /// AMD: the chip's id, hex.
    #[arg(long, value_name = "HEX", requires_all = ["amd_product", "tcb"])]
    pub chip_id: Option<String>,
    /// AMD: its TCB, as BOOTLOADER.TEE.SNP.MICROCODE, on Turin FMC.BOOTLOADER.TEE.SNP.MICROCODE.
    #[arg(long, value_name = "LEVELS", requires = "chip_id")]
    pub tcb: Option<String>,
    /// Intel: everything for platforms of this family, six bytes of hex.
    #[arg(long, value_name = "HEX")]
    pub fmspc: Vec<String>,
    /// Intel: for which TEE.
    #[arg(long, value_enum, default_value_t)]
    pub tee: TeeArg,
    /// NVIDIA: a reference integrity manifest.
    #[arg(long, value_name = "ID")]
    pub rim: Vec<String>,
    /// Hygon: the certificates of the chip with this serial number.
    #[arg(long, value_name = "NUMBER")]
    pub hygon_chip: Vec<String>,
    /// Another AMD key distribution service.
    #[arg(long, value_name = "URL")]
    pub amd_url: Option<String>,
    /// Another Intel PCS, or a PCCS.
    #[arg(long, value_name = "URL")]
    pub intel_url: Option<String>,
    /// Certificate (PEM file) that this PCCS's TLS certificate is or comes from.
    #[arg(long, value_name = "FILE", requires = "intel_url")]
    pub intel_cert: Option<PathBuf>,
    /// Which view of a TCB Intel is asked for.
    #[arg(long, value_enum, default_value_t)]
    pub update: UpdateArg,
    /// Another NVIDIA RIM service.
    #[arg(long, value_name = "URL")]
    pub nvidia_url: Option<String>,
    /// Another Hygon certificate service.
    #[arg(long, value_name = "URL")]
    pub hygon_url: Option<String>,
    #[command(flatten)]
    pub place: CollateralPlace,
}

impl CollateralCommand {
    /// Whether answers are for programs.
    pub fn json(&self) -> bool {
        match self {
            CollateralCommand::Status { place }
            | CollateralCommand::Export { place, .. }
            | CollateralCommand::Import { place, .. } => place.json,
            CollateralCommand::Fetch(args) => args.place.json,
        }
    }
}
