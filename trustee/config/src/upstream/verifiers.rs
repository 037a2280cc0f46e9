//! `[attestation_service.verifier_config]`.

use crate::node::{Node, Value};

use super::source::{Source, Target};

/// AMD's own service, which needs no setting.
const AMD_KDS: &str = "https://kdsintf.amd.com";
/// NVIDIA's own service, and the path that upstream's setting ends in.
const NRAS: &str = "https://nras.attestation.nvidia.com";
const NRAS_PATH: &str = "/v4/attest";

pub(super) fn translate(mut config: Source<'_>, out: &mut Target) {
    if let Some(nvidia) = config.table("nvidia_verifier", out) {
        nvidia_devices(nvidia, out);
    }
    // Has no keys any more; obsolete ones are told by `finish`.
    if let Some(tpm) = config.table("tpm_verifier", out) {
        tpm.finish(out);
    }
    if let Some(mut snp) = config.table("snp_verifier", out) {
        let place = snp.place("vcek_sources");
        let mut kinds = Vec::new();
        for mut source in snp.tables("vcek_sources", out) {
            kinds.extend(source.text("type", out).map(str::to_owned));
            vcek_source(source, out);
        }
        if ["KDS", "OfflineStore"].iter().all(|kind| kinds.iter().any(|k| k == kind)) {
            out.note(&place, "with an offline store nothing is fetched, also not from KDS");
        }
        snp.finish(out);
    }
    let place = config.place("dcap_verifier");
    match config.table("dcap_verifier", out) {
        Some(dcap) => collateral(dcap, out),
        // Upstream's default, and the stricter of the two.
        None => out.put_text("attestation.intel_tcb_update", "early", &place),
    }
    if let Some(dpu) = config.table("nvidia_dpu_verifier", out) {
        nvidia_dpu(dpu, out);
    }
    config.finish(out);
}

fn vcek_source(mut source: Source<'_>, out: &mut Target) {
    let place = source.place("type");
    match source.text("type", out) {
        Some("KDS") => {
            let url = source.place("base_url");
            match source.text("base_url", out) {
                Some(text) if text.trim_end_matches('/') != AMD_KDS => {
                    out.put_text("attestation.amd_kds_url", text, &url);
                }
                _ => {}
            }
        }
        Some("OfflineStore") => {
            if !source.has("path") {
                out.wrong(&source.place("path"), "missing", "name the folder");
            }
            source.pass("path", "attestation.offline_collateral", out);
        }
        _ => out.wrong(&place, "unknown type", "write \"KDS\" or \"OfflineStore\""),
    }
    source.finish(out);
}

fn collateral(mut dcap: Source<'_>, out: &mut Target) {
    let place = dcap.place("collateral_service");
    match dcap.text("collateral_service", out) {
        Some(text) if text.starts_with("file://") => {
            out.unsupported(
                &place,
                "one file of collateral",
                "put it into the folder `attestation.offline_collateral`",
            );
        }
        Some(text) => out.put_text("attestation.intel_collateral_url", text, &place),
        None => {}
    }
    let place = dcap.place("use_secure_cert");
    if let Some(Node { value, .. }) = dcap.node("use_secure_cert")
        && !matches!(value, Value::Bool(true))
    {
        out.wrong(&place, "it switches the check of the collateral server's certificate off", "remove it");
    }
    let place = dcap.place("tcb_update_type");
    match dcap.text("tcb_update_type", out) {
        // Nothing said: the stricter of the two.
        None | Some("early") => out.put_text("attestation.intel_tcb_update", "early", &place),
        Some("standard") => out.put_text("attestation.intel_tcb_update", "standard", &place),
        Some(_) => out.wrong(&place, "unknown value", "write \"early\" or \"standard\""),
    }
    dcap.finish(out);
}

fn nvidia_devices(mut nvidia: Source<'_>, out: &mut Target) {
    let place = nvidia.place("type");
    match nvidia.text("type", out) {
        Some("Remote") => {
            let url = nvidia.place("verifier_url");
            match nvidia.text("verifier_url", out) {
                None => out.put_text("attestation.nvidia.remote_url", NRAS, &place),
                // Upstream's holds the interface's path too, ours only what is before it.
                Some(text) => match text.trim_end_matches('/').strip_suffix(NRAS_PATH) {
                    Some(base) => out.put_text("attestation.nvidia.remote_url", base, &url),
                    None => out.wrong(
                        &url,
                        format!("it does not end in {NRAS_PATH}"),
                        "name the fourth version of NVIDIA's interface",
                    ),
                },
            }
        }
        Some("Local") | None => {
            nvidia.refuse("verifier_url", "a service for a local verifier", "write type = \"Remote\"", out);
        }
        Some(_) => {
            nvidia.skip("verifier_url", "not looked at", out);
            out.wrong(&place, "unknown type", "write \"Local\" or \"Remote\"");
        }
    }
    nvidia.finish(out);
}

fn nvidia_dpu(mut dpu: Source<'_>, out: &mut Target) {
    let place = dpu.place("root_ca_cert_path");
    match dpu.node("root_ca_cert_path") {
        Some(node) => {
            let list = Node { line: node.line, value: Value::List(vec![node.clone()]) };
            out.put("attestation.nvidia_dpu.roots", list, &place);
        }
        None => out.wrong(&place, "missing", "name the file"),
    }
    dpu.pass("max_cert_age_secs", "attestation.nvidia_dpu.max_certificate_age_seconds", out);
    dpu.finish(out);
}
