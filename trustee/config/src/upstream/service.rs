//! `[attestation_service]` without its verifiers.

use super::source::{Source, Target};
use super::verifiers;

pub(super) fn translate(root: &mut Source<'_>, out: &mut Target) {
    let Some(mut service) = root.table("attestation_service", out) else {
        out.note(&root.place("attestation_service"), "not there; evidence is appraised here all the same");
        return;
    };
    let place = service.place("type");
    match service.text("type", out) {
        Some("coco_as_builtin") => {}
        Some(other @ ("coco_as_grpc" | "intel_ta")) => {
            let what = format!("attestation_service.type = \"{other}\"");
            out.unsupported(&place, &what, "write \"coco_as_builtin\": evidence is appraised here");
            // Its other keys are of no use.
            return;
        }
        Some(_) => out.wrong(&place, "unknown type", "write \"coco_as_builtin\""),
        None if service.has("type") => {}
        None => out.wrong(&place, "missing", "write \"coco_as_builtin\""),
    }
    service.pass_times("timeout", 60, "attestation.session_seconds", out);
    if let Some(broker) = service.table("attestation_token_broker", out) {
        token_broker(broker, out);
    }
    if let Some(rvps) = service.table("rvps_config", out) {
        reference_values(rvps, out);
    }
    if let Some(config) = service.table("verifier_config", out) {
        verifiers::translate(config, out);
    }
    service.skip("storage_type", "not used: all state is in one place", out);
    service.finish(out);
}

fn token_broker(mut broker: Source<'_>, out: &mut Target) {
    broker.pass_times("duration_min", 60, "tokens.lifetime_seconds", out);
    broker.pass("issuer_name", "tokens.issuer", out);
    broker.pass("verbose_token", "tokens.verbose", out);
    for name in ["developer_name", "build_name", "profile_name"] {
        broker.skip(name, "not used: tokens name Cocoon and its version", out);
    }
    if let Some(mut signer) = broker.table("signer", out) {
        signer.pass("key_path", "tokens.signing_key", out);
        signer.pass("cert_path", "tokens.certificate_chain", out);
        signer.refuse(
            "cert_url",
            "a certificate chain from an URL",
            "fetch it once and name it in `cert_path`",
            out,
        );
        if !signer.has("key_path") {
            out.wrong(&signer.place("key_path"), "missing", "name the PEM file of the EC P-256 key");
        }
        signer.finish(out);
    }
    broker.finish(out);
}

fn reference_values(mut rvps: Source<'_>, out: &mut Target) {
    let place = rvps.place("type");
    match rvps.text("type", out) {
        None | Some("BuiltIn") => {}
        Some("GrpcRemote") => {
            out.unsupported(
                &place,
                "reference values of another server",
                "write \"BuiltIn\" and register them here",
            );
            return;
        }
        Some(_) => out.wrong(&place, "unknown type", "write \"BuiltIn\""),
    }
    rvps.skip("extractors", "not used: all extractors are there", out);
    rvps.skip("storage_type", "not used: all state is in one place", out);
    rvps.finish(out);
}
