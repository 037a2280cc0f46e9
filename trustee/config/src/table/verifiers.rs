//! Whom verifiers trust and what they ask for, kind by kind.

use crate::key::Key;
use crate::kind::Kind;

const LEVEL: Kind = Kind::Int(0, 255);
const PATH: Kind = Kind::Path;
const TEXT: Kind = Kind::Text;
const YEAR: u64 = 366 * 86_400;
/// Intel's TCB statuses that may be accepted.
const STATUS: Kind = Kind::Choice(&[
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
]);

pub(super) const KEYS: &[Key] = &[
    Key::new(
        "attestation.fetch_collateral",
        Kind::Bool,
        "Fetch vendors' certificates, revocation lists and TCB data that evidence does not bring, and cache them. If \
         false, only what is in the cache or in `offline_collateral` is used.",
    )
    .default("true"),
    Key::new("attestation.collateral_ca", Kind::Path, "PEM file of the authority of a PCCS's TLS certificate.")
        .sample(r#""/etc/trustee/pccs-ca.pem""#),
    Key::new(
        "attestation.intel_tcb_update",
        Kind::Choice(&["standard", "early"]),
        "Which of Intel's TCB data: `early` asks for updates from the day they are published, `standard` leaves \
         platforms time.",
    )
    .default(r#""standard""#),
    Key::new("attestation.nvidia_rim_url", Kind::Url(&["https"]), "Another service of NVIDIA's reference manifests.")
        .sample(r#""https://rim.attestation.nvidia.com""#),
    Key::new(
        "attestation.snp.require_crl",
        Kind::Bool,
        "Refuse SNP evidence while AMD's list of revoked certificates is not at hand or over.",
    )
    .default("false"),
    Key::new("attestation.snp.max_vmpl", Kind::Int(0, 3), "Highest VMPL that may have asked for a report.")
        .default("0"),
    Key::new("attestation.snp.forbid_migration", Kind::Bool, "Refuse guests that may have a migration agent.")
        .default("false"),
    Key::new(
        "attestation.snp.allow_masked_chip_id",
        Kind::Bool,
        "Accept reports without chip id; the certificate must then come with the evidence.",
    )
    .default("false"),
    Key::new("attestation.snp.minimum_bootloader", LEVEL, "Least boot loader level of the reported TCB.")
        .sample("10"),
    Key::new("attestation.snp.minimum_tee", LEVEL, "Least TEE level.").sample("0"),
    Key::new("attestation.snp.minimum_snp", LEVEL, "Least SNP firmware level.").sample("23"),
    Key::new("attestation.snp.minimum_microcode", LEVEL, "Least microcode level.").sample("25"),
    Key::new(
        "attestation.snp.id_keys",
        Kind::List(&TEXT, 0),
        "SHA-384 of id keys in hex, one of which must have signed the guest's id block. Empty: any or none.",
    )
    .default("[]"),
    Key::new(
        "attestation.snp.author_keys",
        Kind::List(&TEXT, 0),
        "SHA-384 of author keys in hex, one of which must have signed the id key. Empty: any or none.",
    )
    .default("[]"),
    Key::new(
        "attestation.intel.accept_tcb",
        Kind::List(&STATUS, 1),
        "TCB statuses of SGX and TDX that verify at all; policies see the claim `tcb_status`. `Revoked` never does.",
    )
    .default(
        r#"["UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate", "OutOfDateConfigurationNeeded", "TDRelaunchAdvised", "TDRelaunchAdvisedConfigurationNeeded"]"#,
    ),
    Key::new(
        "attestation.intel.out_of_date_grace_seconds",
        Kind::Int(0, YEAR),
        "How long after a TCB level's date an `OutOfDate` status that is not accepted still is.",
    )
    .default("0")
    .unit("seconds"),
    Key::new(
        "attestation.intel.collateral_grace_seconds",
        Kind::Int(0, YEAR),
        "How long Intel's TCB data and lists are used after their next update, should there be an outage.",
    )
    .default("0")
    .unit("seconds"),
    Key::new(
        "attestation.intel.minimum_tcb_evaluation_data_number",
        Kind::Int(1, 1_000_000),
        "Least evaluation data number of TCB data.",
    )
    .sample("17"),
    Key::new(
        "attestation.intel.refused_advisories",
        Kind::List(&TEXT, 0),
        "Security advisories that must not apply to the platform.",
    )
    .default("[]"),
    Key::new("attestation.intel.require_event_log", Kind::Bool, "Refuse TDX evidence without an event log.")
        .default("false"),
    Key::new(
        "attestation.tpm.trusted_aks",
        Kind::List(&PATH, 0),
        "Files with public keys (PEM or DER) of TPMs' attestation keys that are enrolled. Reference values \
         `trusted_aks` name further ones.",
    )
    .default("[]"),
    Key::new(
        "attestation.tpm.roots",
        Kind::List(&PATH, 0),
        "Certificates (PEM) of makers of TPMs that are trusted: guests whose TPM's endorsement key they certify enrol their \
         attestation keys themselves, if `endorsement_keys`, the reference value `tpm_ek` or `any_of_roots` knows their TPM.",
    )
    .default("[]"),
    Key::new(
        "attestation.tpm.endorsement_keys",
        Kind::List(&TEXT, 0),
        "SHA-256 in hex of the endorsement keys (SubjectPublicKeyInfo) of your TPMs, or of those keys' certificates. Reference \
         values `tpm_ek` name further ones.",
    )
    .default("[]"),
    Key::new(
        "attestation.tpm.any_of_roots",
        Kind::Bool,
        "Take every TPM that `roots` certify. Only where they certify none but yours: whoever else has a TPM of that maker's, or a \
         VM of that cloud's, can make up evidence of any boot and gets the secrets.",
    )
    .default("false"),
    Key::new("attestation.cca.trust_anchors", Kind::Path, "Keys of Arm CCA platforms, JSON. Without them none verifies.")
        .sample(r#""/etc/trustee/cca/tastore.json""#),
    Key::new("attestation.cca.reference_values", Kind::Path, "Reference values of platforms and realms, JSON.")
        .sample(r#""/etc/trustee/cca/rvstore.json""#),
    Key::new(
        "attestation.cca.platform_references_optional",
        Kind::Bool,
        "Let platforms pass of whose implementation there is no reference value; policies must judge their claims.",
    )
    .default("false"),
    Key::new(
        "attestation.cca.realm_references_ignored",
        Kind::Bool,
        "Leave realms' measurements to the policies and Trustee's own reference values.",
    )
    .default("false"),
    Key::new(
        "attestation.se.host_keys",
        Kind::List(&PATH, 0),
        "Host key documents of the IBM Z machines that are trusted. Secure Execution is on if there are any.",
    )
    .default("[]"),
    Key::new(
        "attestation.se.certificates",
        Kind::List(&PATH, 0),
        "Certificates (PEM) between a host key document and its root: IBM's signing keys and intermediates.",
    )
    .default("[]"),
    Key::new("attestation.se.roots", Kind::List(&PATH, 0), "Roots (PEM) of those certificates.").default("[]"),
    Key::new("attestation.se.crls", Kind::List(&PATH, 0), "Revocation lists (PEM or DER) of their issuers.")
        .default("[]"),
    Key::new("attestation.se.image_header", Kind::Path, "Header of the Secure Execution image that is expected.")
        .sample(r#""/etc/trustee/se/hdr.bin""#),
    Key::new(
        "attestation.csv.allow_v1",
        Kind::Bool,
        "Accept version 1 of Hygon's reports, whose mask nobody signs.",
    )
    .default("true"),
    Key::new(
        "attestation.nvidia.require_rims",
        Kind::Bool,
        "Refuse GPUs whose measurements could not be compared with NVIDIA's reference manifests.",
    )
    .default("false"),
    Key::new(
        "attestation.nvidia.remote_url",
        Kind::Url(&["https"]),
        "NVIDIA's remote attestation service, without `/v4/attest`. With it every GPU and switch that was verified here \
         is judged there too, and its claims are those that the default policies read. NVIDIA licenses its use.",
    )
    .sample(r#""https://nras.attestation.nvidia.com""#),
    Key::new("attestation.nvidia_dpu.roots", Kind::List(&PATH, 0), "Roots (PEM) of NVIDIA's DPUs.").default("[]"),
    Key::new(
        "attestation.nvidia_dpu.max_certificate_age_seconds",
        Kind::Int(1, YEAR),
        "How old a DPU's alias certificate may be.",
    )
    .default("3600")
    .unit("seconds"),
];
