//! Every rule that TDX evidence must meet.

use cocoon_stage::Code;
use serde_json::Value;

use super::claims::{attribute, claims};
use super::evidence::Evidence;
use crate::collateral::Collateral;
use crate::dcap::{self, Body, Quote, Rules, TdReport, Trust};
use crate::eventlog::{Algorithm, EventLog};
use crate::expectation::padded;
use crate::{Check, Expectation, Verdict};

const TDX: &str = "Intel TDX module base specification, ATTRIBUTES";
const CALLER: &str = "the challenge";
const INITDATA: &str = "the presented initdata";

/// Verifies evidence: the quote, all collateral, what the TD is, and that the event log leads to its registers.
///
/// An event log that is present must lead to all four registers. Without one there are no claims `uefi_event_logs`, and
/// the evidence is refused where [`Rules::require_event_log`] asks for it.
pub fn verify(
    evidence: &Evidence,
    trust: &Trust,
    collateral: &Collateral,
    expectation: &Expectation<'_>,
) -> Verdict {
    let mut verdict = verify_quote(&evidence.quote, trust, collateral, expectation);
    verdict.checks.extend(event_log(evidence, &trust.rules));
    if !verdict.ok() {
        verdict.claims = Value::Null;
    }
    if let (Value::Object(claims), Some(log)) = (&mut verdict.claims, &evidence.event_log) {
        claims.insert("uefi_event_logs".to_owned(), log.claims(Algorithm::Sha384));
    }
    verdict
}

/// Verifies a TD's quote alone, for evidence whose events are measured elsewhere (Azure's vTPM).
///
/// All checks of [`verify`] but those of the event log; the claims are the same without `uefi_event_logs`. Zeros behind
/// the quote are allowed. A quote of an SGX enclave fails.
pub fn verify_quote(
    quote: &Quote,
    trust: &Trust,
    collateral: &Collateral,
    expectation: &Expectation<'_>,
) -> Verdict {
    let Body::Td(td) = &quote.body else {
        return Verdict { checks: vec![not_a_td()], claims: Value::Null, simulated: false };
    };
    let outcome = dcap::verify(quote, trust, collateral, expectation.now_unix);
    let mut checks = outcome.checks;
    checks.extend(contents(td, &trust.rules, expectation));
    let mut verdict = Verdict { checks, claims: Value::Null, simulated: outcome.simulated };
    if verdict.ok() {
        let mut all = claims(quote, td);
        all.extend(outcome.claims);
        verdict.claims = Value::Object(all);
    }
    verdict
}

/// Makes every check that needs no collateral. They say nothing of revocation and of the TCB, so there are no claims.
pub fn verify_offline(evidence: &Evidence, trust: &Trust, expectation: &Expectation<'_>) -> Vec<Check> {
    let mut checks = dcap::verify_offline(&evidence.quote, trust, expectation.now_unix);
    match &evidence.quote.body {
        Body::Td(td) => checks.extend(contents(td, &trust.rules, expectation)),
        Body::Enclave(_) => checks.push(not_a_td()),
    }
    checks.extend(event_log(evidence, &trust.rules));
    checks
}

fn not_a_td() -> Check {
    Check::new("quote.tee", false, Code::AttestTeeUnsupported, "a quote of a TD", "of an SGX enclave", TDX)
}

/// Rules on the TD's own fields.
fn contents(td: &TdReport, rules: &Rules, expectation: &Expectation<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(expected) = expectation.report_data {
        checks.push(report_data(expected, &td.report_data));
    }
    if let Some(digest) = expectation.init_data_digest {
        let expected = padded::<48>(digest);
        checks.push(Check::new(
            "quote.mr-config-id",
            expected == Some(td.mr_config_id),
            Code::AttestInitdataMismatch,
            expected.map_or("a digest".to_owned(), hex::encode),
            hex::encode(td.mr_config_id),
            INITDATA,
        ));
    }
    let attributes = u64::from_le_bytes(td.td_attributes);
    let untrusted = attributes & attribute::UNTRUSTED;
    let allowed = if rules.allow_debug { attribute::DEBUG } else { 0 };
    checks.push(Check::new(
        "td.debug",
        untrusted & !allowed == 0,
        Code::AttestDebugEnabled,
        if rules.allow_debug { "DEBUG at most" } else { "no attribute that opens the TD" },
        format!("TUD {untrusted:#04x}"),
        TDX,
    ));
    let reserved = attributes & !(attribute::KNOWN | attribute::UNTRUSTED);
    checks.push(Check::new(
        "td.attributes",
        reserved == 0,
        Code::AttestTeeUnsupported,
        "no reserved attribute",
        hex::encode(td.td_attributes),
        TDX,
    ));
    checks.push(migration(td, rules));
    checks.push(Check::new(
        "td.seam-attributes",
        td.seam_attributes == [0; 8],
        Code::AttestTeeUnsupported,
        hex::encode([0; 8]),
        hex::encode(td.seam_attributes),
        TDX,
    ));
    checks
}

/// Whoever binds a migration TD of his own can move the TD away and read it, and nothing that is measured tells.
/// Reports of TDX 1.0 do not even name the service TD, so that there the attribute alone decides.
fn migration(td: &TdReport, rules: &Rules) -> Check {
    let migratable = u64::from_le_bytes(td.td_attributes) & attribute::MIGRATABLE != 0;
    let service = td.tdx15.as_ref().map(|tdx15| tdx15.mr_servicetd);
    let ok = match service {
        Some(service) if service != [0; 48] => rules.service_tds.contains(&service),
        _ => !migratable,
    };
    let expected = match rules.service_tds.len() {
        0 => "neither migratable nor with a service TD".to_owned(),
        count => format!("not migratable, or with one of {count} service TDs"),
    };
    let named = service.map_or("not named by this report".to_owned(), hex::encode);
    let got = format!("{}, service TD {named}", if migratable { "migratable" } else { "not migratable" });
    Check::new("td.migration", ok, Code::AttestDebugEnabled, expected, got, TDX)
}

/// The report data of a quote, zero-padded; longer than the field is no report data that could be met.
pub(crate) fn report_data(expected: &[u8], got: &[u8; 64]) -> Check {
    let padded = padded::<64>(expected).filter(|_| expected.len() <= 64);
    Check::new(
        "quote.report-data",
        padded.as_ref() == Some(got),
        Code::AttestReportDataMismatch,
        padded.map_or("1 to 64 bytes".to_owned(), hex::encode),
        hex::encode(got),
        CALLER,
    )
}

fn event_log(evidence: &Evidence, rules: &Rules) -> Vec<Check> {
    let registers = match &evidence.quote.body {
        Body::Td(td) => &td.rtmr,
        Body::Enclave(_) => return Vec::new(),
    };
    match &evidence.event_log {
        Some(log) => replay(log, registers),
        None if rules.require_event_log => {
            let code = Code::AttestEventLogMismatch;
            vec![Check::new("eventlog.present", false, code, "an event log", "none", "the operator's rules")]
        }
        None => Vec::new(),
    }
}

/// Registers 1 to 4 of the log are RTMR0 to RTMR3 (UEFI specification, confidential computing: TDX).
fn replay(log: &EventLog, registers: &[[u8; 48]; 4]) -> Vec<Check> {
    let names = ["rtmr_0", "rtmr_1", "rtmr_2", "rtmr_3"];
    let expected = (1..).zip(names).zip(registers).map(|((n, name), rtmr)| (n, name, &rtmr[..]));
    log.check_registers(Algorithm::Sha384, "TDX quote", expected)
}
