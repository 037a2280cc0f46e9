//! Settings of the verifiers of each kind of evidence.

use std::path::PathBuf;
use std::time::Duration;

/// `[attestation]` and its sections, as far as verification goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Verifiers {
    /// Where vendors' documents come from.
    pub collateral: CollateralSettings,
    /// AMD SEV-SNP.
    pub snp: SnpSettings,
    /// Intel TDX and SGX.
    pub intel: IntelSettings,
    /// Files of enrolled attestation keys of TPMs.
    pub tpm_trusted_aks: Vec<PathBuf>,
    /// Files of certificates of TPMs' makers.
    pub tpm_roots: Vec<PathBuf>,
    /// SHA-256 of TPMs' endorsement keys or of their certificates, hex.
    pub tpm_endorsement_keys: Vec<String>,
    /// Take every TPM of the roots.
    pub tpm_any_of_roots: bool,
    /// Arm CCA.
    pub cca: CcaSettings,
    /// IBM Secure Execution.
    pub se: SeSettings,
    /// Accept version 1 of Hygon CSV's reports.
    pub csv_allow_v1: bool,
    /// Refuse GPUs whose measurements were not compared.
    pub nvidia_require_rims: bool,
    /// NVIDIA's remote attestation service, https; asked too if given.
    pub nvidia_remote_url: Option<String>,
    /// Files of roots of NVIDIA's DPUs.
    pub dpu_roots: Vec<PathBuf>,
    /// How old a DPU's alias certificate may be.
    pub dpu_max_certificate_age: Duration,
}

/// Where vendors' documents come from.
#[derive(Clone, Debug, PartialEq)]
pub struct CollateralSettings {
    /// Fetch what is not at hand.
    pub fetch: bool,
    /// Folder of vendors' documents; nothing is fetched then.
    pub offline: Option<PathBuf>,
    /// AMD key distribution service, https.
    pub amd_url: Option<String>,
    /// Intel PCS or PCCS, https.
    pub intel_url: Option<String>,
    /// NVIDIA's manifests, https.
    pub nvidia_url: Option<String>,
    /// PEM file of the authority of a PCCS's TLS certificate.
    pub ca: Option<PathBuf>,
    /// Ask Intel for `early` updates.
    pub early: bool,
}

/// `[attestation.snp]`.
#[derive(Clone, Debug, PartialEq)]
pub struct SnpSettings {
    /// Refuse without a current list of revoked certificates.
    pub require_crl: bool,
    /// Highest VMPL.
    pub max_vmpl: u32,
    /// Refuse guests that may have a migration agent.
    pub forbid_migration: bool,
    /// Accept reports without chip id.
    pub allow_masked_chip_id: bool,
    /// Least levels: boot loader, TEE, SNP, microcode.
    pub minimum: [Option<u8>; 4],
    /// SHA-384 of id keys, hex.
    pub id_keys: Vec<String>,
    /// SHA-384 of author keys, hex.
    pub author_keys: Vec<String>,
}

/// `[attestation.intel]`.
#[derive(Clone, Debug, PartialEq)]
pub struct IntelSettings {
    /// TCB statuses that verify, by Intel's names.
    pub accept_tcb: Vec<String>,
    /// For how long a status that is out of date still does.
    pub out_of_date_grace: Duration,
    /// For how long TCB data is used after its next update.
    pub collateral_grace: Duration,
    /// Least evaluation data number.
    pub minimum_evaluation_number: Option<u32>,
    /// Advisories that must not apply.
    pub refused_advisories: Vec<String>,
    /// Refuse TDX evidence without an event log.
    pub require_event_log: bool,
}

/// `[attestation.cca]`.
#[derive(Clone, Debug, PartialEq)]
pub struct CcaSettings {
    /// File of platforms' keys.
    pub trust_anchors: Option<PathBuf>,
    /// File of reference values.
    pub reference_values: Option<PathBuf>,
    /// Platforms without reference values may pass.
    pub platform_references_optional: bool,
    /// Realms are left to policies.
    pub realm_references_ignored: bool,
}

/// `[attestation.se]`. On if there are host keys.
#[derive(Clone, Debug, PartialEq)]
pub struct SeSettings {
    /// Host key documents.
    pub host_keys: Vec<PathBuf>,
    /// Certificates between them and their roots.
    pub certificates: Vec<PathBuf>,
    /// Roots.
    pub roots: Vec<PathBuf>,
    /// Revocation lists.
    pub crls: Vec<PathBuf>,
    /// Header of the image.
    pub image_header: Option<PathBuf>,
}
