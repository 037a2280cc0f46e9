//! Claims of the reports, under the names and types that CoCo's policies read, and more.

use serde_json::{Map, Value, json};

use super::evidence::{Evidence, Report};

/// The claims: one object per report, under its number in the evidence as text. Upstream's names; `sig_usage` and `sig_algo`
/// are hex without leading zeros. [`super::verify`] adds `simulated` to every object.
pub(super) fn claims(evidence: &Evidence) -> Map<String, Value> {
    evidence.reports.iter().enumerate().map(|(i, report)| (i.to_string(), claim(report))).collect()
}

/// What the reports say; **nothing of it is verified**.
pub fn unverified(evidence: &Evidence) -> Value {
    Value::Object(claims(evidence))
}

fn claim(report: &Report) -> Value {
    json!({
        "body": {
            "version": report.version,
            "chip_id": hex::encode(report.chip_id),
            "user_data": hex::encode(report.user_data),
            "measure": hex::encode(report.measure),
            "reserved": hex::encode(report.reserved),
            "sig_usage": format!("{:x}", report.sig_usage),
            "sig_algo": format!("{:x}", report.sig_algo),
        },
        "report_data": hex::encode(report.user_data),
    })
}
