//! Every rule that the reports of devices must meet, each a node of the verdict.

use std::collections::BTreeSet;

use cocoon_stage::Code;
use serde_json::{Value, json};

use super::claims::claims;
use super::evidence::{Evidence, Report};
use crate::collateral::{Collateral, Need};
use crate::csv::{Endorsed, Roots, endorse, issuers, need};
use crate::expectation::padded;
use crate::{Check, Expectation, Verdict};

const REPORT: &str = "Hygon DCU, attestation report";
const CHALLENGE: &str = "the challenge";

/// What verification needs: HSK and CEK of every chip, once.
pub fn needs(evidence: &Evidence) -> Vec<Need> {
    let chips: BTreeSet<_> = evidence.reports.iter().map(|report| &report.chip).collect();
    chips.into_iter().map(need).collect()
}

/// Verifies every report: the chain from a trusted root to the chip's CEK, its signature, and that it belongs to the
/// challenge. One report that fails fails all.
///
/// The verdict lists every check, those of one report after those of another, each naming its chip; claims are given only
/// when all passed.
pub fn verify(
    evidence: &Evidence,
    roots: &Roots,
    collateral: &Collateral,
    expectation: &Expectation<'_>,
) -> Verdict {
    let mut checks = vec![distinct(evidence)];
    let mut simulated = false;
    for report in &evidence.reports {
        let endorsed = endorse(issuers(collateral, &report.chip), roots);
        simulated |= endorsed.simulated;
        checks.extend(of_report(report, endorsed, expectation));
    }
    if expectation.init_data_digest.is_some() {
        let code = Code::AttestInitdataMismatch;
        let got = "not bound by this TEE";
        checks.push(Check::new("report.init-data", false, code, "initdata bound by the TEE", got, REPORT));
    }
    let mut verdict = Verdict { checks, claims: Value::Null, simulated };
    if verdict.ok() {
        let mut map = claims(evidence);
        map.values_mut().filter_map(Value::as_object_mut).for_each(|claim| {
            claim.insert("simulated".to_owned(), json!(simulated));
        });
        verdict.claims = Value::Object(map);
    }
    verdict
}

/// A device that reports twice would count as two.
fn distinct(evidence: &Evidence) -> Check {
    let chips: BTreeSet<_> = evidence.reports.iter().map(|report| report.chip_id).collect();
    let (reports, chips) = (evidence.reports.len(), chips.len());
    Check::new(
        "reports.distinct",
        reports == chips && reports > 0,
        Code::AttestEvidenceMalformed,
        "one report of each chip",
        format!("{reports} reports of {chips} chips"),
        REPORT,
    )
}

fn of_report(report: &Report, endorsed: Endorsed, expectation: &Expectation<'_>) -> Vec<Check> {
    let chip = report.chip.as_str();
    let Endorsed { checks, cek, missing, .. } = endorsed;
    let mut checks: Vec<Check> = checks
        .into_iter()
        .map(|check| Check { got: format!("chip {chip}: {}", check.got), ..check })
        .collect();
    let expected = "SM2 with SM3 by the CEK";
    checks.push(match (cek, missing) {
        (Some(cek), _) => {
            let valid = cek.signer().signed(report.signed_bytes(), report.signature);
            let got = format!("chip {chip}: {}", if valid { "valid" } else { "invalid" });
            Check::new("report.signature", valid, Code::AttestSignatureInvalid, expected, got, REPORT)
        }
        (None, missing) => {
            let (code, why) = missing.unwrap_or((Code::AttestCollateralMissing, String::new()));
            Check::new("report.signature", false, code, expected, format!("chip {chip}: {why}"), REPORT)
        }
    });
    if let Some(expected) = expectation.report_data {
        checks.push(Check::new(
            "report.report-data",
            expected.len() <= 64 && padded(expected) == Some(report.user_data),
            Code::AttestReportDataMismatch,
            hex::encode(expected.get(..64).unwrap_or(expected)),
            format!("chip {chip}: {}", hex::encode(report.user_data)),
            CHALLENGE,
        ));
    }
    checks
}
