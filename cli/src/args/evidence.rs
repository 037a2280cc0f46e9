//! Arguments of `cocoon evidence`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `cocoon evidence`.
#[derive(Debug, Subcommand)]
pub enum EvidenceCommand {
    /// Verify evidence, offline: every check, and the reason where one fails.
    ///
    /// Exit status: 0 genuine, 1 not genuine or not proven to be, 2 wrong command line, 125 anything else.
    Verify(Box<VerifyArgs>),
    /// Print evidence, a quote, a report, certificates, a revocation list or an event log. Verifies nothing.
    Show(ShowArgs),
}

/// `cocoon evidence verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// JSON as an attester sends it, or a bare SNP report, TDX or SGX quote, CCA token or NVIDIA report (binary, hex or
    /// base64); - reads standard input.
    pub file: PathBuf,
    /// The kind of evidence, where its form does not tell: snp, tdx, sgx, az-snp-vtpm, az-tdx-vtpm, tpm, cca, csv, …
    #[arg(long, value_name = "TEE")]
    pub tee: Option<cocoon_protocol::Tee>,
    /// What the evidence must be bound to: nonce or digest. Without it the binding is not checked.
    #[arg(long, value_name = "HEX", value_parser = hex_bytes)]
    pub report_data: Option<Hex>,
    /// Initdata document (TOML) whose digest the TEE must bind.
    #[arg(long, value_name = "FILE", conflicts_with = "init_data_digest")]
    pub init_data: Option<PathBuf>,
    /// The digest itself.
    #[arg(long, value_name = "HEX", value_parser = hex_bytes)]
    pub init_data_digest: Option<Hex>,
    /// Judge as of this instant: 2026-11-27T10:00:00Z or Unix seconds. Default: now.
    #[arg(long, value_name = "TIME", value_parser = crate::moments::instant)]
    pub at: Option<u64>,
    /// Vendors' documents: a bundle, a folder of them, or one quote's collateral as JSON. Default: what Trustee has cached.
    #[arg(long, value_name = "PATH")]
    pub collateral: Vec<PathBuf>,
    /// The chip's certificate (VCEK or VLEK) for an SNP report, in place of those sent along; the device's chain (PEM) for
    /// a bare NVIDIA report.
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// The event log for a TDX quote: it must lead to the quote's registers.
    #[arg(long, value_name = "FILE")]
    pub event_log: Option<PathBuf>,
    /// Public key (PEM or DER) of a TPM's attestation key that is trusted.
    #[arg(long, value_name = "FILE")]
    pub trusted_ak: Vec<PathBuf>,
    /// Arm CCA: the platforms' keys (JSON).
    #[arg(long, value_name = "FILE", requires = "cca_references")]
    pub cca_trust_anchors: Option<PathBuf>,
    /// Arm CCA: the platforms' and realms' reference values (JSON).
    #[arg(long, value_name = "FILE", requires = "cca_trust_anchors")]
    pub cca_references: Option<PathBuf>,
    /// Refuse SNP evidence where AMD's revocation list is not at hand.
    #[arg(long)]
    pub require_crl: bool,
    /// Refuse NVIDIA devices whose reference manifests are not at hand.
    #[arg(long)]
    pub require_rims: bool,
    /// Root (PEM) that vouches for an NVIDIA DPU.
    #[arg(long, value_name = "FILE")]
    pub dpu_root: Vec<PathBuf>,
    /// Accept version 2 of SNP reports, which do not name their processor.
    #[arg(long)]
    pub allow_v2: bool,
    /// Highest VMPL that may have asked for an SNP report.
    #[arg(long, value_name = "LEVEL", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=3))]
    pub max_vmpl: u32,
    /// Accept TEEs that may be debugged, that is read.
    #[arg(long)]
    pub allow_debug: bool,
    /// Accept sample evidence, which proves nothing.
    #[arg(long)]
    pub accept_sample: bool,
    /// Machine-readable.
    #[arg(long)]
    pub json: bool,
}

/// `cocoon evidence show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Evidence of any kind and form; certificates or a revocation list (PEM or DER); an event log; a TPM quote, HCL or TD
    /// report; a vendor's document or bundle. - reads standard input.
    pub file: PathBuf,
    /// The kind of evidence, where its form does not tell.
    #[arg(long, value_name = "TEE")]
    pub tee: Option<cocoon_protocol::Tee>,
    /// Machine-readable.
    #[arg(long)]
    pub json: bool,
}

/// Bytes given in hex.
#[derive(Clone, Debug)]
pub struct Hex(pub Vec<u8>);

fn hex_bytes(text: &str) -> Result<Hex, String> {
    match hex::decode(text) {
        Ok(bytes) if !bytes.is_empty() => Ok(Hex(bytes)),
        Ok(_) => Err("empty; leave the flag out to check nothing".into()),
        Err(e) => Err(e.to_string()),
    }
}
