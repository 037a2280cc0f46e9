//! Appraisals of simulated and of real evidence.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use cocoon_evidence::snp::{CertEntry, Report, SimulatedRoot};
use cocoon_protocol::HashAlgorithm;
use cocoon_protocol::initdata::host_data;
use cocoon_protocol::token::Status;
use cocoon_sim::{GuestContext, SecureProcessor};
use cocoon_store::MemoryStore;

use super::*;
use crate::{ReferenceValue, token_claims};

static PROCESSOR: LazyLock<SecureProcessor> = LazyLock::new(|| {
    // It keeps nothing in the folder once it is open.
    let folder = tempfile::tempdir().unwrap();
    SecureProcessor::open_or_create(folder.path()).unwrap()
});

const REPORT_DATA: [u8; 48] = [7; 48];
const POLICY: u64 = 0x30000;

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn simulated_roots() -> Roots {
    let (ark_der, ask_der) = PROCESSOR.root();
    Roots { vendor: true, simulated: vec![SimulatedRoot { ark_der, ask_der }] }
}

fn appraiser(roots: Roots, issue_contraindicated: bool) -> Appraiser {
    let references = ReferenceValues::new(Arc::new(MemoryStore::new()));
    Appraiser::new(Config { roots, issue_contraindicated }, references)
}

fn plan() -> InitData {
    let data = BTreeMap::from([
        ("aa.toml".to_owned(), "a = 1\n".to_owned()),
        ("cdh.toml".to_owned(), "[broken".to_owned()),
        ("plan.json".to_owned(), format!("{{\"long\":\"{}\"}}", "x".repeat(5000))),
    ]);
    InitData::new(HashAlgorithm::Sha256, data)
}

fn evidence(policy: u64, init_data: &InitData) -> Value {
    let guest = GuestContext { measurement: [0xab; 48], host_data: host_data(&init_data.digest()), policy };
    let mut field = [0; 64];
    field[..48].copy_from_slice(&REPORT_DATA);
    let report = Report::parse(&PROCESSOR.report(&guest, &field).unwrap()).unwrap();
    let vcek = CertEntry { cert_type: "VCEK".into(), data: PROCESSOR.vcek_der().to_vec() };
    Evidence { report, cert_chain: vec![vcek] }.to_json()
}

fn register(appraiser: &Appraiser, prefix: &str, evidence: &Value, expires_unix: Option<u64>) {
    let claims = snp::claims(&Evidence::from_json(evidence).unwrap().report);
    let records: Vec<ReferenceValue> = [
        ("launch_measurement", "measurement"),
        ("bootloader", "reported_tcb_bootloader"),
        ("microcode", "reported_tcb_microcode"),
        ("snp_svn", "reported_tcb_snp"),
        ("tee_svn", "reported_tcb_tee"),
        ("smt_enabled", "platform_smt_enabled"),
        ("tsme_enabled", "platform_tsme_enabled"),
        ("guest_abi_major", "policy_abi_major"),
        ("guest_abi_minor", "policy_abi_minor"),
        ("single_socket", "policy_single_socket"),
        ("smt_allowed", "policy_smt_allowed"),
    ]
    .into_iter()
    .map(|(name, claim)| ReferenceValue {
        name: format!("{prefix}_{name}"),
        values: vec![claims[claim].clone()],
        source: "test".into(),
        registered_unix: 0,
        expires_unix,
    })
    .collect();
    appraiser.references().put(&records).unwrap();
}

fn appraise(appraiser: &Appraiser, evidence: &Value, init_data: Option<&InitData>) -> Appraisal {
    let runtime_data = json!({"nonce": "n"});
    let request = AppraisalRequest {
        tee: Tee::Snp,
        evidence,
        report_data: &REPORT_DATA,
        init_data,
        runtime_data: &runtime_data,
        now_unix: now(),
    };
    appraiser.appraise(&request).unwrap()
}

fn code(appraisal: &Appraisal) -> Option<Code> {
    appraisal.outcome.as_ref().err().map(|f| f.code)
}

#[test]
fn a_known_simulated_guest_is_affirmed_and_marked() {
    let appraiser = appraiser(simulated_roots(), false);
    let (plan, evidence) = (plan(), evidence(POLICY, &plan()));
    register(&appraiser, "sim", &evidence, None);
    let appraisal = appraise(&appraiser, &evidence, Some(&plan));
    let submods = appraisal.outcome.unwrap();
    let vector = submods["cpu0"].vector;
    assert_eq!((vector.executables, vector.hardware, vector.configuration), (3, 2, 2));
    assert_eq!(submods["cpu0"].status, Status::Affirming);
    assert!(appraisal.simulated && appraisal.checks.iter().all(|c| c.code.is_none()));
    assert_eq!(appraisal.init_data.unwrap(), hex::encode(plan.digest()));

    let claims = token_claims(submods, "issuer", 100, 300);
    assert_eq!(
        (&claims["iat"], &claims["exp"], &claims["iss"]),
        (&json!(100), &json!(400), &json!("issuer"))
    );
    assert!(claims["ear.verifier-id"]["build"].is_string());
    let cpu = &claims["submods"]["cpu0"];
    assert_eq!(cpu["ear.cocoon.simulated"], true);
    assert_eq!(cpu["ear.appraisal-policy-id"], "default");
    let said = &cpu["ear.veraison.annotated-evidence"];
    assert_eq!(said["init_data"], hex::encode(plan.digest()));
    assert_eq!(said["snp"]["init_data"], said["init_data"]);
    assert_eq!(said["report_data"], format!("{}{}", "07".repeat(48), "00".repeat(16)));
    assert_eq!(said["runtime_data_claims"]["nonce"], "n");
    let files = &said["init_data_claims"];
    assert_eq!(files["aa.toml"], json!({"a": 1}));
    assert_eq!(files["cdh.toml"], "[broken");
    assert_eq!(files["plan.json"], json!({"omitted_bytes": 5011}));
}

#[test]
fn what_is_no_reference_value_gets_no_token() {
    let strict = appraiser(simulated_roots(), false);
    let evidence = evidence(POLICY, &plan());
    assert_eq!(code(&appraise(&strict, &evidence, None)), Some(Code::AttestMeasurementUnknown));
    register(&strict, "snp", &evidence, None);
    assert_eq!(code(&appraise(&strict, &evidence, None)), Some(Code::AttestMeasurementUnknown));
    register(&strict, "sim", &evidence, Some(now()));
    assert_eq!(code(&appraise(&strict, &evidence, None)), Some(Code::AttestMeasurementUnknown), "expired");
    register(&strict, "sim", &evidence, Some(now() + 1000));
    assert_eq!(code(&appraise(&strict, &evidence, None)), None);
    strict.references().delete("sim_tee_svn", None).unwrap();
    assert_eq!(code(&appraise(&strict, &evidence, None)), Some(Code::AttestTcbOutdated));

    let lenient = appraiser(simulated_roots(), true);
    let appraisal = appraise(&lenient, &evidence, None);
    let submods = appraisal.outcome.unwrap();
    assert_eq!(submods["cpu0"].status, Status::Contraindicated);
    assert_eq!((submods["cpu0"].vector.executables, submods["cpu0"].vector.hardware), (33, 97));
}

#[test]
fn settings_lower_the_status_but_debugging_is_refused() {
    let appraiser = appraiser(simulated_roots(), true);
    let open = evidence(POLICY | 1 << 18, &plan());
    register(&appraiser, "sim", &open, None);
    let appraisal = appraise(&appraiser, &open, None);
    assert_eq!(appraisal.outcome.unwrap()["cpu0"].status, Status::Warning);
    appraiser.references().delete("sim_smt_enabled", None).unwrap();
    let closed = appraise(&appraiser, &evidence(POLICY, &plan()), None);
    assert_eq!(closed.outcome.unwrap()["cpu0"].vector.configuration, 3);
    let debug = appraise(&appraiser, &evidence(POLICY | 1 << 19, &plan()), None);
    assert_eq!(code(&debug), Some(Code::AttestDebugEnabled), "never a token, whatever is configured");
}

#[test]
fn evidence_that_does_not_verify_is_refused_whatever_is_configured() {
    let appraiser = appraiser(simulated_roots(), true);
    let (plan, evidence) = (plan(), evidence(POLICY, &plan()));
    register(&appraiser, "sim", &evidence, None);
    let other = InitData::new(HashAlgorithm::Sha256, BTreeMap::new());
    assert_eq!(code(&appraise(&appraiser, &evidence, Some(&other))), Some(Code::AttestInitdataMismatch));
    let mut altered = evidence.clone();
    altered["attestation_report"]["guest_svn"] = json!(99);
    let refused = appraise(&appraiser, &altered, Some(&plan));
    assert_eq!(code(&refused), Some(Code::AttestSignatureInvalid));
    assert_eq!(refused.init_data, None);
    for bad in [json!(null), json!([]), json!({}), json!({"attestation_report": {}}), json!("x")] {
        assert_eq!(code(&appraise(&appraiser, &bad, None)), Some(Code::AttestEvidenceMalformed), "{bad}");
    }
    let vendor_only = self::appraiser(Roots::default(), true);
    assert_eq!(code(&appraise(&vendor_only, &evidence, None)), Some(Code::AttestSimulatedRefused));
}

#[test]
fn other_tees_are_unsupported() {
    let appraiser = appraiser(simulated_roots(), true);
    let nothing = Value::Null;
    for tee in Tee::ALL.iter().copied().filter(|t| *t != Tee::Snp) {
        let request = AppraisalRequest {
            tee,
            evidence: &nothing,
            report_data: &REPORT_DATA,
            init_data: None,
            runtime_data: &nothing,
            now_unix: now(),
        };
        assert_eq!(code(&appraiser.appraise(&request).unwrap()), Some(Code::AttestTeeUnsupported));
    }
}

#[test]
fn real_evidence_passes_by_real_reference_values_only() {
    let default = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors"));
    let folder = std::env::var_os("COCOON_VECTORS").map_or(default, PathBuf::from);
    let Ok(text) = std::fs::read(folder.join("snp/genoa-v3-evidence.json")) else {
        println!("skipped: no vector snp/genoa-v3-evidence.json");
        return;
    };
    let evidence: Value = serde_json::from_slice(&text).unwrap();
    let report = Evidence::from_json(&evidence).unwrap().report;
    let report_data = report.report_data;
    let appraiser = appraiser(simulated_roots(), false);
    let request = AppraisalRequest {
        tee: Tee::Snp,
        evidence: &evidence,
        report_data: &report_data,
        init_data: None,
        runtime_data: &Value::Null,
        // Within the validity of its VCEK (2025-05-27 to 2032-05-27).
        now_unix: 1_780_000_000,
    };
    register(&appraiser, "sim", &evidence, None);
    let refused = appraiser.appraise(&request).unwrap();
    assert_eq!(code(&refused), Some(Code::AttestMeasurementUnknown));
    register(&appraiser, "snp", &evidence, None);
    let appraisal = appraiser.appraise(&request).unwrap();
    assert!(!appraisal.simulated);
    let submods = appraisal.outcome.unwrap();
    assert_eq!(submods["cpu0"].status, Status::Affirming);
    assert!(submods["cpu0"].extensions.is_empty());
}
