//! Proofs that are good, and those of a hostile cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use cocoon_attestation::{Appraiser, Config, NoCollateral, Trust};
use cocoon_evidence::snp::{CertEntry, Evidence, Report, Roots, SimulatedRoot};
use cocoon_policy::Policies;
use cocoon_protocol::initdata::host_data;
use cocoon_protocol::{HashAlgorithm, Tee};
use cocoon_reference::{ReferenceValue, ReferenceValues};
use cocoon_sim::{GuestContext, SecureProcessor};
use cocoon_store::{MemoryStore, Store};
use serde_json::json;

use super::*;

static PROCESSOR: LazyLock<SecureProcessor> = LazyLock::new(|| {
    // It keeps nothing in the folder once it is open.
    let folder = tempfile::tempdir().unwrap();
    SecureProcessor::open_or_create(folder.path()).unwrap()
});

const GOOD: [u8; 48] = [0xab; 48];
const NONCE: [u8; 32] = [7; 32];

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn document(plan: &str) -> InitData {
    let data = BTreeMap::from([("plan.json".to_owned(), plan.to_owned())]);
    InitData::new(HashAlgorithm::Sha256, data)
}

fn digest(plan: &str) -> String {
    hex::encode(document(plan).digest())
}

fn registration(name: &str, at_unix: u64) -> Registered {
    Registered {
        name: Some(name.to_owned()),
        at_unix,
        expires_unix: None,
        least: Status::Affirming,
        simulated: true,
    }
}

/// An owner who registered these plans, and trusts simulated TEES or not.
fn owner(plans: &[(&str, Registered)], trusts: bool) -> Expected {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let references = ReferenceValues::new(store.clone());
    let tcb = PROCESSOR.tcb();
    let value = |name: &str, value: Value| ReferenceValue {
        name: name.into(),
        values: vec![value],
        source: "test".into(),
        ..ReferenceValue::default()
    };
    references
        .put(&[
            value("sim_launch_measurement", hex::encode(GOOD).into()),
            value("sim_bootloader", tcb.bootloader.into()),
            value("sim_microcode", tcb.microcode.into()),
            value("sim_snp_svn", tcb.snp.into()),
            value("sim_tee_svn", tcb.tee.into()),
        ])
        .unwrap();
    let (ark_der, ask_der) = PROCESSOR.root();
    let simulated = if trusts { vec![SimulatedRoot { ark_der, ask_der }] } else { Vec::new() };
    let config = Config {
        trust: Trust { snp: Roots { vendor: true, simulated }, ..Trust::default() },
        collateral: Arc::new(NoCollateral),
        nvidia_remote: None,
        issue_contraindicated: false,
    };
    Expected {
        plans: plans.iter().map(|(plan, registered)| (digest(plan), registered.clone())).collect(),
        given: false,
        appraiser: Appraiser::new(config, references, Arc::new(Policies::new(store))),
    }
}

/// What a guest with this measurement and plan answers to a nonce.
fn proof(measurement: [u8; 48], plan: &str, nonce: &[u8]) -> Proof {
    let guest = GuestContext { measurement, host_data: host_data(&document(plan).digest()), policy: 0x30000 };
    let data: [u8; 64] = proof_report_data(nonce).try_into().unwrap();
    let report = PROCESSOR.report_of(&guest, [5; 32], &data).unwrap();
    let certificate = CertEntry { cert_type: "VCEK".to_owned(), data: PROCESSOR.vcek_der().to_vec() };
    let evidence = Evidence { report: Report::parse(&report).unwrap(), cert_chain: vec![certificate] };
    Proof { tee: Tee::Snp, evidence: evidence.to_json() }
}

/// The whole way: the annotation's plan, then the proof.
fn verified(expected: &Expected, workload: &str, plan: &str, proof: &Proof) -> Result<Facts, Code> {
    let annotation = document(plan).to_annotation().unwrap();
    let claim = Claim { initdata: &annotation, workload };
    let plan = super::plan(&claim, expected, now()).map_err(|r| r.failure.code)?;
    judge(proof, &NONCE, (&plan.0, plan.1), expected, now()).map_err(|r| r.failure.code)
}

#[test]
fn a_good_proof_says_what_it_proves() {
    let owner = owner(&[("web", registration("web.shop", 2)), ("old", registration("web.shop", 1))], true);
    let facts = verified(&owner, "web.shop", "web", &proof(GOOD, "web", &NONCE)).unwrap();
    assert_eq!((facts.platform.as_str(), facts.simulated), ("snp", true));
    assert_eq!(facts.measurement, Some(hex::encode(GOOD)));
    assert_eq!((facts.plan, facts.superseded_unix), (digest("web"), None));
    assert_eq!(facts.guest, Some("05".repeat(32)));
    // An earlier plan is good while its registration lasts, and said to be one.
    let old = verified(&owner, "web.shop", "old", &proof(GOOD, "old", &NONCE)).unwrap();
    assert_eq!(old.superseded_unix, Some(1));
}

#[test]
fn every_lie_has_its_code() {
    let plans = [("web", registration("web.shop", 1)), ("other", registration("other.shop", 1))];
    let owner = owner(&plans, true);
    let good = proof(GOOD, "web", &NONCE);
    let of = |plan: &str, proof: &Proof| verified(&owner, "web.shop", plan, proof).unwrap_err();
    // An answer to another nonce, an unknown guest image.
    assert_eq!(of("web", &proof(GOOD, "web", &[8; 32])), Code::AttestReportDataMismatch);
    assert_eq!(of("web", &proof([1; 48], "web", &NONCE)), Code::AttestMeasurementUnknown);
    // The annotation is the right plan's, the guest another's.
    assert_eq!(of("web", &proof(GOOD, "other", &NONCE)), Code::AttestInitdataMismatch);
    assert_eq!(of("web", &proof(GOOD, "evil", &NONCE)), Code::AttestInitdataMismatch);
    // Annotation and guest agree on what is another workload's, or nobody's.
    assert_eq!(of("other", &proof(GOOD, "other", &NONCE)), Code::VerifyPlanUnknown);
    assert_eq!(of("evil", &proof(GOOD, "evil", &NONCE)), Code::VerifyPlanUnknown);
    // A report that was changed after it was signed.
    let mut changed = good.clone();
    changed.evidence["attestation_report"]["measurement"] = json!(vec![0xac; 48]);
    assert!(verified(&owner, "web.shop", "web", &changed).is_err());
    for evidence in [json!(null), json!({}), json!([]), json!({"attestation_report": "x"})] {
        let proof = Proof { tee: Tee::Snp, evidence };
        assert_eq!(of("web", &proof), Code::AttestEvidenceMalformed);
    }
    // Kinds of evidence that anybody can write, or that bind no plan.
    for tee in [Tee::Sample, Tee::Sampledevice, Tee::Nvidia, Tee::Tdx, Tee::Tpm] {
        let evidence = json!({"svn": "1", "report_data": "AA", "device_evidence_list": []});
        assert!(verified(&owner, "web.shop", "web", &Proof { tee, evidence }).is_err(), "{tee}");
    }
}

#[test]
fn simulated_guests_are_good_where_both_say_so() {
    let good = proof(GOOD, "web", &NONCE);
    let plans = [("web", registration("web.shop", 1))];
    let refused = verified(&owner(&plans, false), "web.shop", "web", &good);
    assert_eq!(refused, Err(Code::AttestSimulatedRefused));
    let strict = [("web", Registered { simulated: false, ..registration("web.shop", 1) })];
    let refused = verified(&owner(&strict, true), "web.shop", "web", &good);
    assert_eq!(refused, Err(Code::AttestSimulatedRefused));
}

#[test]
fn registrations_end() {
    let ended = [("web", Registered { expires_unix: Some(now() - 1), ..registration("web.shop", 1) })];
    let refused = verified(&owner(&ended, true), "web.shop", "web", &proof(GOOD, "web", &NONCE));
    assert_eq!(refused, Err(Code::VerifyPlanUnknown));
}

#[test]
fn annotations_are_hostile() {
    let owner = owner(&[("web", registration("web.shop", 1))], true);
    for initdata in ["", "H4sI", "not base64", &"A".repeat(1 << 20)] {
        let claim = Claim { initdata, workload: "web.shop" };
        let refused = plan(&claim, &owner, now()).err().map(|r| r.failure.code);
        assert_eq!(refused, Some(Code::InitdataMalformed));
    }
}

#[test]
fn a_field_of_any_length_binds_a_digest() {
    let digest = "ab".repeat(48);
    assert!(binds(&"ab".repeat(48), &digest) && binds(&format!("{digest}{}", "00".repeat(16)), &digest));
    assert!(binds(&"ab".repeat(32), &digest));
    assert!(!binds("", &digest) && !binds("ab", &digest) && !binds(&format!("{digest}01"), &digest));
}
