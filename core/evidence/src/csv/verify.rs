//! Every rule that a CSV report must meet, each a node of the verdict.

use cocoon_stage::Code;
use serde_json::{Value, json};

use super::certificate::{SM2_SIGNATURE, usage};
use super::chain::{Roots, endorse, signed_by};
use super::claims::claims;
use super::collateral::issuers;
use super::evidence::Evidence;
use super::report::{Extended, Report, Version};
use crate::collateral::Collateral;
use crate::eventlog::{Algorithm, EventLog};
use crate::expectation::padded;
use crate::{Check, Expectation, Verdict};

const REPORT: &str = "Hygon CSV, attestation report";
const CHAIN: &str = "Hygon CSV, certificate chain";
const CHALLENGE: &str = "the challenge";

/// What a relying party tolerates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Accept guests that their host may debug, that is read. Off in production.
    pub allow_debug: bool,
    /// Accept version 1 reports, whose mask nobody signs (see the [module](super)): with these a policy must compare the
    /// whole measurement. Firmware before build 2337 makes no others.
    pub allow_v1: bool,
}

impl Default for Rules {
    /// No debugging; reports of version 1 as well.
    fn default() -> Self {
        Rules { allow_debug: false, allow_v1: true }
    }
}

/// Verifies evidence: the chain to a trusted root, the report's signature, and that both belong to the challenge. HSK and CEK
/// are the evidence's, or else the collateral's; either way they are worth only what the root says.
///
/// The verdict lists every check; claims are given only when all passed.
pub fn verify(
    evidence: &Evidence,
    roots: &Roots,
    rules: &Rules,
    collateral: &Collateral,
    expectation: &Expectation<'_>,
) -> Verdict {
    let report = &evidence.report;
    let found = match &evidence.hsk_cek {
        Some(both) => Ok(both.clone()),
        None => issuers(collateral, &evidence.chip_id),
    };
    let endorsed = endorse(found, roots);
    let mut checks = endorsed.checks.to_vec();
    checks.push(match (&endorsed.cek, &endorsed.missing) {
        (Some(cek), _) => {
            signed_by("pek.chain", &evidence.pek, "PEK", usage::PEK, cek.signer(), ("CEK", usage::CEK))
        }
        (None, missing) => {
            let (code, why) = missing.clone().unwrap_or((Code::AttestCollateralMissing, String::new()));
            Check::new("pek.chain", false, code, "PEK signed by the CEK", why, CHAIN)
        }
    });
    checks.push(signature(evidence));
    checks.extend(contents(evidence, rules, expectation));
    let mut log = None;
    match &report.version {
        Version::V1 { .. } => checks.extend(masked(report, rules)),
        Version::V2(extended) => {
            checks.extend(registers(report, extended, evidence.event_log.is_some()));
            if let Some(bytes) = &evidence.event_log {
                let (more, claimed) = replayed(extended, bytes);
                checks.extend(more);
                log = claimed;
            }
        }
    }
    let mut verdict = Verdict { checks, claims: Value::Null, simulated: endorsed.simulated };
    if let (true, Some(cek)) = (verdict.ok(), &endorsed.cek) {
        let mut map = claims(report, &evidence.chip_id);
        map.insert("cek_key_digest".to_owned(), json!(hex::encode(cek.signer().key.digest())));
        map.insert("simulated".to_owned(), json!(endorsed.simulated));
        if let Some(log) = log {
            map.insert("uefi_event_logs".to_owned(), log);
        }
        verdict.claims = Value::Object(map);
    }
    verdict
}

fn signature(evidence: &Evidence) -> Check {
    let report = &evidence.report;
    let valid = evidence.pek.signer().signed(report.signed_bytes(), report.signature);
    let got = if valid { "valid" } else { "invalid" };
    let code = Code::AttestSignatureInvalid;
    Check::new("report.signature", valid, code, "SM2 with SM3 by the PEK", got, REPORT)
}

/// Rules on the report's own fields that both versions share.
fn contents(evidence: &Evidence, rules: &Rules, expectation: &Expectation<'_>) -> Vec<Check> {
    let report = &evidence.report;
    let mut checks = vec![
        Check::new(
            "report.signing-key",
            (report.sig_usage, report.sig_algo) == (usage::PEK, SM2_SIGNATURE),
            Code::AttestSignatureInvalid,
            "usage 0x1002 (PEK), algorithm 4 (SM2 with SM3)",
            format!("usage {:#x}, algorithm {:#x}", report.sig_usage, report.sig_algo),
            REPORT,
        ),
        // The report carries PEK and serial number as well. None of the copies is signed with it; evidence that
        // contradicts itself is refused all the same.
        same("report.pek", report.pek == evidence.pek.to_bytes(), "the evidence's PEK"),
        same(
            "report.serial-number",
            report.serial_number == evidence.chip_id.to_field(),
            "the evidence's serial number",
        ),
    ];
    if let Some(expected) = expectation.report_data {
        checks.push(Check::new(
            "report.report-data",
            expected.len() <= 64 && padded(expected) == Some(report.report_data),
            Code::AttestReportDataMismatch,
            hex::encode(expected.get(..64).unwrap_or(expected)),
            hex::encode(report.report_data),
            CHALLENGE,
        ));
    }
    if expectation.init_data_digest.is_some() {
        let code = Code::AttestInitdataMismatch;
        let got = "not bound by this TEE";
        checks.push(Check::new("report.init-data", false, code, "initdata bound by the TEE", got, REPORT));
    }
    let forbidden = report.forbids_debugging();
    checks.push(Check::new(
        "report.debug",
        forbidden || rules.allow_debug,
        Code::AttestDebugEnabled,
        if rules.allow_debug { "forbidden or allowed" } else { "forbidden" },
        if forbidden { "forbidden" } else { "allowed" },
        REPORT,
    ));
    checks
}

fn same(name: &'static str, ok: bool, expected: &str) -> Check {
    let got = if ok { "the same" } else { "another" };
    Check::new(name, ok, Code::AttestEvidenceMalformed, expected, got, REPORT)
}

/// Version 1 as such, and its mask. A digest is never one word over and over but where there is no session, and then it is
/// zero: this finds a changed mask at least there.
fn masked(report: &Report, rules: &Rules) -> [Check; 2] {
    let digest = &report.user_pubkey_digest;
    let repeats = digest.iter().zip(digest.iter().skip(4)).all(|(a, b)| a == b);
    let zero = digest.iter().all(|b| *b == 0);
    [
        Check::new(
            "report.version",
            rules.allow_v1,
            Code::AttestTeeUnsupported,
            if rules.allow_v1 { "1 or 2" } else { "2" },
            "1",
            "the verifier's rules",
        ),
        Check::new(
            "report.mask",
            zero || !repeats,
            Code::AttestEvidenceMalformed,
            "a digest of the owner's key, or none",
            hex::encode(digest),
            REPORT,
        ),
    ]
}

/// Registers of version 1; or none, where the guest never started them, and then nothing can have been logged to them.
fn registers(report: &Report, extended: &Extended, logged: bool) -> [Check; 2] {
    let [rtmr0, others @ ..] = &extended.rtmr;
    let unused = extended.rtmr_version == 0 && !logged && others.as_flattened().iter().all(|b| *b == 0);
    [
        Check::new(
            "report.rtmr-version",
            extended.rtmr_version == 1 || unused,
            Code::AttestTeeUnsupported,
            "1, or 0 with neither registers nor an event log",
            extended.rtmr_version.to_string(),
            REPORT,
        ),
        Check::new(
            "report.rtmr0",
            rtmr0 == &report.measure || (unused && rtmr0.iter().all(|b| *b == 0)),
            Code::AttestEvidenceMalformed,
            hex::encode(report.measure),
            hex::encode(rtmr0),
            "Hygon CSV, RTMR 0 is the launch measurement",
        ),
    ]
}

/// Replays the event log into registers 1 to 4; its register numbers are those of the report.
fn replayed(extended: &Extended, bytes: &[u8]) -> (Vec<Check>, Option<Value>) {
    const SOURCE: &str = "CSV report";
    let [_, rtmr1, rtmr2, rtmr3, rtmr4] = &extended.rtmr;
    match EventLog::parse(bytes) {
        Ok(log) => {
            let registers = [
                (1, "rtmr1", rtmr1.as_slice()),
                (2, "rtmr2", rtmr2.as_slice()),
                (3, "rtmr3", rtmr3.as_slice()),
                (4, "rtmr4", rtmr4.as_slice()),
            ];
            let checks = log.check_registers(Algorithm::Sm3, SOURCE, registers);
            (checks, Some(log.claims(Algorithm::Sm3)))
        }
        Err(error) => {
            let code = Code::AttestEvidenceMalformed;
            let check =
                Check::new("eventlog.format", false, code, "a CC event log", error.to_string(), SOURCE);
            (vec![check], None)
        }
    }
}
