//! The settings of the verifiers.

use std::path::PathBuf;

use crate::reader::Reader;
use crate::settings::{CcaSettings, CollateralSettings, IntelSettings, SeSettings, SnpSettings, Verifiers};

/// Makes them, given a reader of each section.
pub(super) fn verifiers<'a>(at: impl Fn(&str) -> Reader<'a>) -> Verifiers {
    let (nvidia, dpu) = (at("attestation.nvidia"), at("attestation.nvidia_dpu"));
    Verifiers {
        collateral: collateral(&at("attestation")),
        snp: snp(&at("attestation.snp")),
        intel: intel(&at("attestation.intel")),
        tpm_trusted_aks: paths(&at("attestation.tpm"), "trusted_aks"),
        tpm_roots: paths(&at("attestation.tpm"), "roots"),
        tpm_endorsement_keys: at("attestation.tpm").texts("endorsement_keys"),
        tpm_any_of_roots: at("attestation.tpm").flag("any_of_roots"),
        cca: cca(&at("attestation.cca")),
        se: se(&at("attestation.se")),
        csv_allow_v1: at("attestation.csv").flag("allow_v1"),
        nvidia_require_rims: nvidia.flag("require_rims"),
        nvidia_remote_url: nvidia.maybe_text("remote_url"),
        dpu_roots: paths(&dpu, "roots"),
        dpu_max_certificate_age: dpu.seconds("max_certificate_age_seconds"),
    }
}

fn paths(r: &Reader<'_>, name: &str) -> Vec<PathBuf> {
    r.texts(name).into_iter().map(Into::into).collect()
}

fn collateral(r: &Reader<'_>) -> CollateralSettings {
    CollateralSettings {
        fetch: r.flag("fetch_collateral"),
        offline: r.maybe_path("offline_collateral"),
        amd_url: r.maybe_text("amd_kds_url"),
        intel_url: r.maybe_text("intel_collateral_url"),
        nvidia_url: r.maybe_text("nvidia_rim_url"),
        ca: r.maybe_path("collateral_ca"),
        early: r.text("intel_tcb_update") == "early",
    }
}

fn snp(r: &Reader<'_>) -> SnpSettings {
    // The table bounds the levels; what does not fit is not lowered.
    let level = |name| r.maybe_int(name).map(|level| u8::try_from(level).unwrap_or(u8::MAX));
    SnpSettings {
        require_crl: r.flag("require_crl"),
        max_vmpl: u32::try_from(r.int("max_vmpl")).unwrap_or_default(),
        forbid_migration: r.flag("forbid_migration"),
        allow_masked_chip_id: r.flag("allow_masked_chip_id"),
        minimum: ["minimum_bootloader", "minimum_tee", "minimum_snp", "minimum_microcode"].map(level),
        id_keys: r.texts("id_keys"),
        author_keys: r.texts("author_keys"),
    }
}

fn intel(r: &Reader<'_>) -> IntelSettings {
    let number = r.maybe_int("minimum_tcb_evaluation_data_number");
    IntelSettings {
        accept_tcb: r.texts("accept_tcb"),
        out_of_date_grace: r.seconds("out_of_date_grace_seconds"),
        collateral_grace: r.seconds("collateral_grace_seconds"),
        minimum_evaluation_number: number.map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
        refused_advisories: r.texts("refused_advisories"),
        require_event_log: r.flag("require_event_log"),
    }
}

fn cca(r: &Reader<'_>) -> CcaSettings {
    CcaSettings {
        trust_anchors: r.maybe_path("trust_anchors"),
        reference_values: r.maybe_path("reference_values"),
        platform_references_optional: r.flag("platform_references_optional"),
        realm_references_ignored: r.flag("realm_references_ignored"),
    }
}

fn se(r: &Reader<'_>) -> SeSettings {
    SeSettings {
        host_keys: paths(r, "host_keys"),
        certificates: paths(r, "certificates"),
        roots: paths(r, "roots"),
        crls: paths(r, "crls"),
        image_header: r.maybe_path("image_header"),
    }
}
