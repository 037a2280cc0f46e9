//! Every rule that SGX evidence must meet.

use cocoon_stage::Code;
use serde_json::Value;

use super::claims::{attribute, claims};
use super::evidence::Evidence;
use crate::collateral::Collateral;
use crate::dcap::{self, EnclaveReport, Rules, Trust};
use crate::expectation::padded;
use crate::tdx::report_data;
use crate::{Check, Expectation, Verdict};

const SGX: &str = "Intel SDM volume 3D, ATTRIBUTES";
const INITDATA: &str = "the presented initdata";

/// Verifies evidence: the quote, all collateral, and what the enclave is.
pub fn verify(
    evidence: &Evidence,
    trust: &Trust,
    collateral: &Collateral,
    expectation: &Expectation<'_>,
) -> Verdict {
    let outcome = dcap::verify(evidence.quote(), trust, collateral, expectation.now_unix);
    let mut checks = outcome.checks;
    checks.extend(contents(evidence.report(), &trust.rules, expectation));
    let mut verdict = Verdict { checks, claims: Value::Null, simulated: outcome.simulated };
    if verdict.ok() {
        let mut all = claims(evidence);
        all.extend(outcome.claims);
        verdict.claims = Value::Object(all);
    }
    verdict
}

/// Makes every check that needs no collateral. They say nothing of revocation and of the TCB, so there are no claims.
pub fn verify_offline(evidence: &Evidence, trust: &Trust, expectation: &Expectation<'_>) -> Vec<Check> {
    let mut checks = dcap::verify_offline(evidence.quote(), trust, expectation.now_unix);
    checks.extend(contents(evidence.report(), &trust.rules, expectation));
    checks
}

/// Rules on the enclave's own fields.
fn contents(report: &EnclaveReport, rules: &Rules, expectation: &Expectation<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    let flags = u64::from_le_bytes(report.flags);
    if let Some(expected) = expectation.report_data {
        checks.push(report_data(expected, &report.report_data));
    }
    if let Some(digest) = expectation.init_data_digest {
        let expected = padded::<64>(digest);
        let kss = flags & attribute::KSS != 0;
        let got = hex::encode(report.config_id);
        checks.push(Check::new(
            "quote.config-id",
            kss && expected == Some(report.config_id),
            Code::AttestInitdataMismatch,
            expected.map_or("a digest".to_owned(), hex::encode),
            if kss { got } else { "an enclave without KSS, to which nothing is bound".to_owned() },
            INITDATA,
        ));
    }
    let debug = flags & attribute::DEBUG != 0;
    checks.push(Check::new(
        "enclave.debug",
        !debug || rules.allow_debug,
        Code::AttestDebugEnabled,
        if rules.allow_debug { "any" } else { "not a debug enclave" },
        if debug { "debug" } else { "no debug" },
        SGX,
    ));
    checks.push(Check::new(
        "enclave.attributes",
        flags & attribute::INIT != 0 && flags & !attribute::KNOWN == 0,
        Code::AttestTeeUnsupported,
        "an initialised enclave without reserved attributes",
        hex::encode(report.flags),
        SGX,
    ));
    checks
}
