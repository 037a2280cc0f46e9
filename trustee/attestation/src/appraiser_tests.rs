//! Appraisals of simulated and of real evidence.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use cocoon_evidence::snp::{self, CertEntry, Evidence, Report, Roots, SimulatedRoot};
use cocoon_protocol::initdata::{InitData, host_data};
use cocoon_protocol::token::Status;
use cocoon_protocol::{HashAlgorithm, Tee, b64};
use cocoon_reference::ReferenceValue;
use cocoon_sim::{GuestContext, SecureProcessor};
use cocoon_store::MemoryStore;
use serde_json::json;

use super::*;
use crate::{Binding, NoCollateral, token_claims};

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
    appraiser_of(Trust { snp: roots, ..Trust::default() }, issue_contraindicated)
}

fn appraiser_of(trust: Trust, issue_contraindicated: bool) -> Appraiser {
    let store = Arc::new(MemoryStore::new());
    let policies = Arc::new(Policies::new(store.clone()));
    Appraiser::new(
        Config { trust, collateral: Arc::new(NoCollateral), nvidia_remote: None, issue_contraindicated },
        ReferenceValues::new(store),
        policies,
    )
}

fn set_policy(appraiser: &Appraiser, id: &str, text: &str) {
    let text = format!("package policy\nimport rego.v1\n{text}");
    appraiser.policies.put(id, Kind::Attestation, &text, "test", "", 1).unwrap();
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
        expires_unix,
        ..ReferenceValue::default()
    })
    .collect();
    appraiser.references().put(&records).unwrap();
}

fn put(appraiser: &Appraiser, name: &str, value: Value) {
    let values = vec![value];
    let record =
        ReferenceValue { name: name.into(), values, source: "test".into(), ..ReferenceValue::default() };
    appraiser.references().put(&[record]).unwrap();
}

/// SNP evidence bound to [`REPORT_DATA`].
fn snp_item<'a>(evidence: &'a Value, init_data: Binding<'a>, runtime_data: &'a Value) -> Item<'a> {
    let report_data = Some(REPORT_DATA.as_slice());
    Item {
        tee: Tee::Snp,
        evidence,
        report_data,
        init_data,
        runtime_data: Some(runtime_data),
        activated: None,
    }
}

fn appraise_items(appraiser: &Appraiser, items: &[Item<'_>], policy_id: &str) -> Appraisal {
    appraiser.appraise(&AppraisalRequest { items: items.to_vec(), policy_id, now_unix: now() }).unwrap()
}

fn appraise(appraiser: &Appraiser, evidence: &Value, init_data: Option<&InitData>) -> Appraisal {
    let runtime_data = json!({"nonce": "n"});
    let binding = init_data.map_or(Binding::None, Binding::Document);
    appraise_items(appraiser, &[snp_item(evidence, binding, &runtime_data)], "default")
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
fn nothing_is_no_evidence_of_any_tee() {
    let appraiser = appraiser(simulated_roots(), true);
    for tee in Tee::ALL.iter().copied() {
        let expected = match tee {
            Tee::Sample | Tee::Sampledevice => Code::AttestSimulatedRefused,
            // SEV without SNP has no attestation at run time.
            Tee::Sev => Code::AttestTeeUnsupported,
            _ => Code::AttestEvidenceMalformed,
        };
        let item = Item { tee, ..snp_item(&Value::Null, Binding::None, &Value::Null) };
        assert_eq!(code(&appraise_items(&appraiser, &[item], "default")), Some(expected), "{tee}");
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
    let item = Item { report_data: Some(&report_data), ..snp_item(&evidence, Binding::None, &Value::Null) };
    // Within the validity of its VCEK (2025-05-27 to 2032-05-27).
    let request = AppraisalRequest { items: vec![item], policy_id: "default", now_unix: 1_780_000_000 };
    register(&appraiser, "sim", &evidence, None);
    let refused = appraiser.appraise(&request).unwrap();
    assert_eq!(code(&refused), Some(Code::AttestMeasurementUnknown));
    register(&appraiser, "snp", &evidence, None);
    let appraisal = appraiser.appraise(&request).unwrap();
    assert!(!appraisal.simulated);
    let submods = appraisal.outcome.unwrap();
    assert_eq!(submods["cpu0"].status, Status::Affirming);
    assert!(submods["cpu0"].extensions.is_empty());

    // Nor does a policy of the owner's get to see what was registered for simulated guests.
    appraiser.references().delete("snp_launch_measurement", None).unwrap();
    for asked in ["sim_launch_measurement", "snp_launch_measurement"] {
        set_policy(&appraiser, "default_cpu", &asking(asked));
        let refused = appraiser.appraise(&request).unwrap();
        assert_eq!(code(&refused), Some(Code::AttestMeasurementUnknown), "{asked}");
    }
    register(&appraiser, "snp", &evidence, None);
    let appraisal = appraiser.appraise(&request).unwrap();
    assert_eq!(appraisal.outcome.unwrap()["cpu0"].vector.executables, 3);
}

/// A policy that recognises the measurements of one reference value.
fn asking(name: &str) -> String {
    format!(
        r#"default executables := 33
executables := 3 if input.snp.measurement in query_reference_value("{name}")
trust_claims := {{"executables": executables, "hardware": 2, "configuration": 2}}
extensions := [{{"name": "owner.note", "key": -70000, "value": {{"by": "{name}"}}}}]"#
    )
}

#[test]
fn a_stored_policy_overrides_the_native_rules() {
    let appraiser = appraiser(simulated_roots(), false);
    let evidence = evidence(POLICY, &plan());
    // By the native rules it is fine; the owner's policy knows better.
    register(&appraiser, "sim", &evidence, None);
    assert_eq!(code(&appraise(&appraiser, &evidence, None)), None);
    set_policy(&appraiser, "default_cpu", r#"trust_claims := {"executables": 3, "hardware": 97}"#);
    let refused = appraise(&appraiser, &evidence, None);
    assert_eq!(code(&refused), Some(Code::AttestTcbOutdated));
    let check = refused.checks.last().unwrap();
    assert_eq!((check.name, &*check.source), ("appraisal.policy", "policy default_cpu"));
    assert!(check.got.contains("hardware 97"), "{}", check.got);
    // By the native rules nothing is known of it; the owner's policy asks for the measurement only.
    for name in ["sim_bootloader", "sim_microcode", "sim_snp_svn", "sim_tee_svn"] {
        appraiser.references().delete(name, None).unwrap();
    }
    set_policy(&appraiser, "default_cpu", &asking("snp_launch_measurement"));
    let claims = token_claims(appraise(&appraiser, &evidence, None).outcome.unwrap(), "i", 1, 2);
    let cpu = &claims["submods"]["cpu0"];
    assert_eq!(cpu["ear.status"], "affirming");
    assert_eq!(cpu["owner.note"], json!({"by": "snp_launch_measurement"}));
    assert_eq!(cpu["ear.cocoon.simulated"], true, "a policy cannot hide it");
    appraiser.policies.delete("default_cpu").unwrap();
    assert_eq!(code(&appraise(&appraiser, &evidence, None)), Some(Code::AttestTcbOutdated));
}

#[test]
fn what_a_policy_contraindicates_gets_a_token_only_if_configured() {
    let evidence = evidence(POLICY, &plan());
    for (claims, expected, status) in [
        (r#"{"executables": 33, "hardware": 2}"#, Code::AttestMeasurementUnknown, Status::Warning),
        (r#"{"executables": 96, "hardware": 2}"#, Code::AttestMeasurementUnknown, Status::Contraindicated),
        (r#"{"executables": 3, "hardware": 97}"#, Code::AttestTcbOutdated, Status::Contraindicated),
    ] {
        for issue in [false, true] {
            let appraiser = appraiser(simulated_roots(), issue);
            set_policy(&appraiser, "default_cpu", &format!("trust_claims := {claims}"));
            let appraisal = appraise(&appraiser, &evidence, None);
            if issue {
                assert!(appraisal.outcome.is_ok_and(|s| s["cpu0"].status == status));
            } else {
                assert_eq!(code(&appraisal), Some(expected));
            }
        }
    }
    // A policy that cannot be evaluated, or is not there, is never a verdict.
    let appraiser = appraiser(simulated_roots(), true);
    set_policy(&appraiser, "default_cpu", r#"trust_claims := {"executables": "good"}"#);
    assert_eq!(code(&appraise(&appraiser, &evidence, None)), Some(Code::PolicyFailed));
    let item = snp_item(&evidence, Binding::None, &Value::Null);
    assert_eq!(code(&appraise_items(&appraiser, &[item], "other")), Some(Code::PolicyFailed));
}

#[test]
fn simulated_evidence_asks_for_simulated_reference_values() {
    let appraiser = appraiser(simulated_roots(), false);
    let evidence = evidence(POLICY, &plan());
    register(&appraiser, "snp", &evidence, None);
    set_policy(&appraiser, "default_cpu", &asking("snp_launch_measurement"));
    assert_eq!(code(&appraise(&appraiser, &evidence, None)), Some(Code::AttestMeasurementUnknown));
    register(&appraiser, "sim", &evidence, None);
    appraiser.references().delete("snp_launch_measurement", None).unwrap();
    assert_eq!(code(&appraise(&appraiser, &evidence, None)), None);
}

#[test]
fn a_caller_may_present_a_digest_or_nothing_to_compare() {
    let appraiser = appraiser(simulated_roots(), false);
    let evidence = evidence(POLICY, &plan());
    register(&appraiser, "sim", &evidence, None);
    let digest = plan().digest();
    let item = Item { runtime_data: None, ..snp_item(&evidence, Binding::Digest(&digest), &Value::Null) };
    let appraisal = appraise_items(&appraiser, &[item], "default");
    let said = &appraisal.outcome.unwrap()["cpu0"].annotated_evidence;
    assert_eq!(said["init_data"], hex::encode(&digest));
    assert!(said.get("init_data_claims").is_none() && said.get("runtime_data_claims").is_none());
    let wrong = Item { init_data: Binding::Digest(&[1; 32]), ..item };
    assert_eq!(code(&appraise_items(&appraiser, &[wrong], "default")), Some(Code::AttestInitdataMismatch));

    assert!(appraisal.checks.iter().all(|c| c.name != "binding.report-data"));
    let unbound = appraise_items(&appraiser, &[Item { report_data: None, ..item }], "default");
    assert!(unbound.outcome.is_ok());
    let check = unbound.checks.iter().find(|c| c.name == "binding.report-data").unwrap();
    assert_eq!((&*check.got, check.code), ("not compared", None));
    assert!(unbound.checks.iter().all(|c| c.name != "report.report-data"));
    let other = Item { report_data: Some(&[8; 48]), ..item };
    assert_eq!(code(&appraise_items(&appraiser, &[other], "default")), Some(Code::AttestReportDataMismatch));
}

#[test]
fn devices_are_appraised_beside_the_guests_own_tee() {
    let appraiser =
        appraiser_of(Trust { snp: simulated_roots(), accept_sample: true, ..Trust::default() }, false);
    let evidence = evidence(POLICY, &plan());
    register(&appraiser, "sim", &evidence, None);
    let device = json!({"svn": "1", "report_data": b64::std_encode(&REPORT_DATA)});
    let own = snp_item(&evidence, Binding::None, &Value::Null);
    let gpu = Item { tee: Tee::Sampledevice, evidence: &device, ..own };
    assert_eq!(code(&appraise_items(&appraiser, &[own, gpu], "default")), Some(Code::AttestTcbOutdated));
    put(&appraiser, "device_svn", json!("1"));
    let submods = appraise_items(&appraiser, &[own, gpu, gpu], "default").outcome.unwrap();
    assert_eq!(submods.keys().collect::<Vec<_>>(), ["cpu0", "gpu0", "gpu1"]);
    assert!(submods.values().all(|s| s.extensions["ear.cocoon.simulated"] == true));
    // Another guest is no device, and a device's fault is the guest's.
    let second = Item { tee: Tee::Sample, evidence: &device, ..own };
    let refused = appraise_items(&appraiser, &[own, second], "default");
    assert_eq!(code(&refused), Some(Code::AttestTeeUnsupported));
    let replayed = Item { report_data: Some(&[8; 48]), ..gpu };
    assert_eq!(
        code(&appraise_items(&appraiser, &[own, replayed], "default")),
        Some(Code::AttestReportDataMismatch)
    );
    for count in [0, MAX_ITEMS + 1] {
        let refused = appraise_items(&appraiser, &vec![own; count], "default");
        assert_eq!(code(&refused), Some(Code::AttestProtocol), "{count}");
    }
}
