//! Reports of our own: there is no real one to be had.

use std::sync::Arc;

use cocoon_stage::Code;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::collateral::{Collateral, Document, Need};
use crate::csv::testing::{Key, Machine};
use crate::csv::wire;
use crate::{Expectation, Verdict};

const NOBODY: Expectation<'_> = Expectation { report_data: None, init_data_digest: None, now_unix: 0 };

fn report(chip: &str, user_data: [u8; 64], key: &Key) -> Report {
    let mut bytes = 1_u32.to_le_bytes().to_vec();
    bytes.extend_from_slice(chip.as_bytes());
    bytes.resize(20, 0);
    bytes.extend_from_slice(&user_data);
    bytes.extend_from_slice(&[0x77; 32]);
    bytes.extend_from_slice(&[0; 128]);
    bytes.extend_from_slice(&0x1004_u32.to_le_bytes());
    bytes.extend_from_slice(&4_u32.to_le_bytes());
    let signature = key.sign(&bytes);
    bytes.extend(wire::to_bytes(&signature));
    Report::parse(&bytes).unwrap()
}

/// Two devices. Their certificates are the same, which changes nothing for the verifier.
fn two(machine: &Machine) -> Evidence {
    let of = |chip| report(chip, [0x11; 64], &machine.cek);
    Evidence { reports: vec![of("SIMDCU0000000001"), of("SIMDCU02")] }
}

fn collateral(machine: &Machine, evidence: &Evidence) -> Collateral {
    let mut collateral = Collateral::none();
    for need in needs(evidence) {
        let document = Document { body: machine.document(), issuer_chain: String::new() };
        collateral.insert(need, Arc::new(document));
    }
    collateral
}

fn judge(machine: &Machine, evidence: &Evidence) -> Verdict {
    verify(evidence, &machine.roots(), &collateral(machine, evidence), &NOBODY)
}

fn failed(verdict: &Verdict) -> Vec<(&'static str, Code)> {
    verdict.checks.iter().filter_map(|c| c.code.map(|code| (c.name, code))).collect()
}

#[test]
fn reports_of_two_devices_verify() {
    let machine = Machine::new();
    let evidence = two(&machine);
    assert_eq!(Evidence::from_json(&evidence.to_json()).unwrap(), evidence);
    let expectation = Expectation { report_data: Some(&[0x11; 64]), ..NOBODY };
    let verdict = verify(&evidence, &machine.roots(), &collateral(&machine, &evidence), &expectation);
    assert_eq!(failed(&verdict), []);
    assert!(verdict.simulated);
    let claim = |chip: &str| {
        json!({
            "body": {
                "version": 1, "chip_id": chip, "user_data": "11".repeat(64), "measure": "77".repeat(32),
                "reserved": "00".repeat(128), "sig_usage": "1004", "sig_algo": "4",
            },
            "report_data": "11".repeat(64),
            "simulated": true,
        })
    };
    let (first, second) = (hex::encode("SIMDCU0000000001"), hex::encode("SIMDCU02\0\0\0\0\0\0\0\0"));
    assert_eq!(verdict.claims, json!({ "0": claim(&first), "1": claim(&second) }));
}

#[test]
fn without_certificates_nothing_verifies() {
    let machine = Machine::new();
    let evidence = two(&machine);
    let chip = |chip: &str| Need::HygonCertificates { chip_id: chip.to_owned() };
    assert_eq!(needs(&evidence), [chip("SIMDCU0000000001"), chip("SIMDCU02")]);
    let verdict = verify(&evidence, &machine.roots(), &Collateral::none(), &NOBODY);
    let of_one =
        ["hsk.chain", "cek.chain", "report.signature"].map(|name| (name, Code::AttestCollateralMissing));
    assert_eq!(failed(&verdict), [of_one, of_one].concat());
    // One without is enough.
    let mut collateral = Collateral::none();
    let document = Document { body: machine.document(), issuer_chain: String::new() };
    collateral.insert(chip("SIMDCU02"), Arc::new(document));
    assert_eq!(failed(&verify(&evidence, &machine.roots(), &collateral, &NOBODY)), of_one);
}

#[test]
fn every_report_must_hold() {
    let machine = Machine::new();
    let good = two(&machine);
    assert!(judge(&machine, &good).ok());
    let with = |second: Report| {
        failed(&judge(&machine, &Evidence { reports: vec![good.reports[0].clone(), second] }))
    };
    let invalid = [("report.signature", Code::AttestSignatureInvalid)];
    assert_eq!(with(report("SIMDCU02", [0; 64], &machine.pek)), invalid);
    assert_eq!(
        with(report("SIMDCU02", [0; 64], &Key::new(3, "SIMULATED-HSK"))),
        invalid,
        "another signer's id"
    );
    assert_eq!(with(good.reports[0].clone()), [("reports.distinct", Code::AttestEvidenceMalformed)]);
    let verdict = verify(&good, &Roots::default(), &collateral(&machine, &good), &NOBODY);
    assert_eq!(failed(&verdict), [("hsk.chain", Code::AttestSimulatedRefused); 2]);

    let expect = |report_data: Option<&[u8]>, init_data_digest: Option<&[u8]>| {
        let expectation = Expectation { report_data, init_data_digest, now_unix: 0 };
        failed(&verify(&good, &machine.roots(), &collateral(&machine, &good), &expectation))
    };
    assert_eq!(expect(Some(&[0x11; 63]), None), [("report.report-data", Code::AttestReportDataMismatch); 2]);
    assert_eq!(expect(Some(&[0x11; 65]), None), [("report.report-data", Code::AttestReportDataMismatch); 2]);
    assert_eq!(expect(None, Some(&[1; 32])), [("report.init-data", Code::AttestInitdataMismatch)]);
}

#[test]
fn flipped_bits_and_cut_reports_are_found() {
    let machine = Machine::new();
    let good = report("SIMDCU02", [0x11; 64], &machine.cek);
    for (i, at) in (0..Report::SIZE).enumerate() {
        let mut bytes = good.to_bytes().to_vec();
        bytes[at] ^= 1 << (i % 8);
        if let Ok(report) = Report::parse(&bytes) {
            assert!(!judge(&machine, &Evidence { reports: vec![report] }).ok(), "byte {at}");
        }
        assert!(Report::parse(&bytes[..at]).is_err());
    }
}

#[test]
fn malformed_evidence_is_refused() {
    let good = two(&Machine::new()).to_json();
    let with = |pointer: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        Evidence::from_json(&changed)
    };
    assert!(Evidence::from_json(&Value::Null).is_err());
    let one = good["attestation_reports"][0].clone();
    assert!(with("/attestation_reports", json!([])).is_err());
    assert!(with("/attestation_reports", json!(vec![one.clone(); 64])).is_ok());
    assert!(with("/attestation_reports", json!(vec![one; 65])).is_err());
    assert!(with("/attestation_reports/0/body/chip_id", json!(b"../../../../etc/")).is_err());
    assert!(with("/attestation_reports/0/body/chip_id", json!(vec![0; 16])).is_err());
    assert!(with("/attestation_reports/0/body/user_data", json!(vec![0; 63])).is_err());
    assert!(with("/attestation_reports/0/body/version", json!(-1)).is_err());
    assert!(with("/attestation_reports/0/sig", json!({ "r": [], "s": [] })).is_err());
}

proptest! {
    #[test]
    fn parsers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        let _ = Report::parse(&bytes);
    }
}
