//! The owner's Trustee: whether it answers with the certificate that is pinned, knows good guests, and what its clock says.

use serde_json::Value;

use super::api::{clock, seconds};
use super::findings::Findings;
use crate::args::Common;
use crate::client::AdminClient;

pub async fn look(common: &Common, findings: &mut Findings) {
    if common.trustee.is_none() {
        findings.warn(
            "Trustee",
            "not asked",
            "name it with --trustee URL --trustee-token FILE --trustee-cert FILE",
        );
        return;
    }
    let client = match AdminClient::open(common) {
        Ok(client) => client,
        Err(failure) => {
            findings.fail("Trustee", &failure.reason, failure.next_step());
            return;
        }
    };
    let (status, date) = match client.dated("status", "status").await {
        Ok(answer) => answer,
        Err(failure) => {
            findings.fail("Trustee", &failure.reason, failure.next_step());
            return;
        }
    };
    let pinned = match common.trustee_cert {
        Some(_) => "with the certificate that was given",
        None => "with a certificate of a public authority",
    };
    let version = status.get("version").and_then(Value::as_str).unwrap_or_default();
    findings.ok("Trustee", format!("{} answers {pinned}; version {version}", client.place()));
    if let Some(theirs) = date.as_deref().and_then(seconds) {
        clock("clock of Trustee", theirs, findings);
    }
    let count = |of: &str| status.pointer(&format!("/counts/{of}")).and_then(Value::as_u64).unwrap_or(0);
    match count("reference_values") {
        0 => findings.fail(
            "reference values",
            "Trustee knows none, so it refuses every guest",
            "cocoon apply --platform …, or cocoon reference import",
        ),
        known => findings.ok(
            "reference values",
            format!("{known} names; {} workloads are registered", count("workloads")),
        ),
    }
    if status.pointer("/accepts/simulated_roots").and_then(Value::as_u64).unwrap_or(0) > 0 {
        findings.warn(
            "simulated TEEs",
            "Trustee accepts them where a registration does; they prove nothing",
            "set attestation.accept_simulated = false for anything but trials",
        );
    }
}
