//! Real reports of a Hopper GPU and an LS10 switch against NVIDIA's real roots; own devices with test keys; hostile input.

mod devices;
mod group;
mod hostile;
mod nras;
mod own;
mod rims;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_stage::Code;
use serde_json::{Value, json};

use super::*;
use crate::collateral::{Collateral, Document, Need};
use crate::testing::vector;
use crate::{Expectation, Verdict};

/// 2026-06-01.
const NOW: u64 = 1_780_272_000;
/// 2025-06-01, when the manifests' signers were valid.
const JUNE_2025: u64 = 1_748_736_000;

const NONCE: &str = "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb";

/// Evidence of one device in the wire form.
fn wire(arch: &str, report: &[u8], pem: &[u8]) -> Value {
    json!({ "device_evidence_list": [{
        "arch": arch, "uuid": "1111-2222-33333-444444-555555",
        "evidence": hex::encode(report), "certificate": STANDARD.encode(pem),
    }] })
}

/// The report of the vector, and evidence of it with that chain.
fn hopper(report: &str, chain: &str) -> Option<(Vec<u8>, Evidence)> {
    let text = vector(&format!("nvidia/{report}"))?;
    let report = hex::decode(text.trim_ascii()).unwrap();
    let pem = vector(&format!("nvidia/{chain}"))?;
    let evidence = Evidence::from_json(&wire("HOPPER", &report, &pem)).unwrap();
    Some((report, evidence))
}

fn first() -> Option<(Vec<u8>, Evidence)> {
    hopper("hopperAttestationReport.txt", "hopper_cert_chain_case1.txt")
}

fn expecting(report_data: Option<&[u8]>) -> Expectation<'_> {
    Expectation { report_data, init_data_digest: None, now_unix: NOW }
}

/// The verdict of the only device, against NVIDIA's roots.
fn judge(evidence: &Evidence, expectation: &Expectation<'_>) -> Verdict {
    only(verify(evidence, &Trust::default(), &Collateral::none(), expectation))
}

fn only(devices: Vec<Device>) -> Verdict {
    let [device] = <[Device; 1]>::try_from(devices).unwrap();
    device.verdict
}

/// Names and codes of the failed checks.
fn failed(verdict: &Verdict) -> Vec<(&'static str, Code)> {
    assert_eq!(verdict.ok(), verdict.checks.iter().all(|c| c.code.is_none()));
    assert!(verdict.ok() || verdict.claims.is_null(), "claims of a failed verdict");
    verdict.checks.iter().filter_map(|c| Some((c.name, c.code?))).collect()
}

fn names(verdict: &Verdict) -> Vec<&'static str> {
    failed(verdict).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_hopper_report_verifies_with_upstreams_claims() {
    let Some((_, evidence)) = first() else { return };
    let nonce = hex::decode(NONCE).unwrap();
    let devices = verify(&evidence, &Trust::default(), &Collateral::none(), &expecting(Some(&nonce)));
    assert_eq!((devices.len(), devices[0].class, devices[0].index), (1, "gpu", Some(0)));
    let verdict = &devices[0].verdict;
    assert_eq!(failed(verdict), []);
    assert!(!verdict.simulated);
    let expected: Value =
        serde_json::from_slice(&vector("nvidia/hopperAttestationReport-claims.txt").unwrap()).unwrap();
    let claims = &verdict.claims;
    for name in ["arch", "config", "measurements"] {
        assert_eq!(claims[name], expected[name], "{name}");
    }
    assert_eq!((&claims["uuid"], &claims["uuid_unverified"]), (&Value::Null, &expected["uuid"]));
    assert_eq!(claims["measres"], "not-compared");
    assert_eq!(
        (&claims["driver_version"], &claims["vbios_version"]),
        (&json!("550.90.07"), &json!("96.00.9f.00.01"))
    );
    assert_eq!((&claims["hwmodel"], &claims["nonce"]), (&json!("GH100 A01 GSP BROM"), &json!(NONCE)));
    assert_eq!(claims["fwid"], expected["config"]["fwid"]);
    assert_eq!(claims["ueid"], "478176379286082186618948445787393647364802107249");
}

#[test]
fn report_data_longer_than_the_nonce_is_truncated() {
    let Some((report, evidence)) = hopper("hopper_coco_report1.txt", "hopper_coco_certs1.txt") else {
        return;
    };
    // That driver hands out one byte more than the message.
    assert_eq!(report.last(), Some(&0));
    let data =
        "87d8e24ab336adafe228d49e83d745f6dba4ae505372b6a5704820856b343fece279b616efefc2aae21da80cf5581250";
    let data = hex::decode(data).unwrap();
    assert_eq!(failed(&judge(&evidence, &expecting(Some(&data)))), []);
    assert_eq!(failed(&judge(&evidence, &expecting(Some(&data[..32])))), []);
    let mismatch = [("report.nonce", Code::AttestReportDataMismatch)];
    assert_eq!(failed(&judge(&evidence, &expecting(Some(&data[..31])))), mismatch);
    assert_eq!(failed(&judge(&evidence, &expecting(Some(&[])))), mismatch);
    // Nothing to compare with: no such check. Initdata is not a device's matter.
    let verdict = judge(&evidence, &Expectation { init_data_digest: Some(&[1; 32]), ..expecting(None) });
    assert_eq!(failed(&verdict), []);
    assert!(verdict.checks.iter().all(|check| check.name != "report.nonce"));
}

#[test]
fn incomplete_chains_are_refused() {
    for (chain, expected) in [
        (
            "hopper_cert_chain_case2.txt",
            &[
                "certificates.chain",
                "certificates.architecture",
                "certificates.firmware",
                "report.signature",
                "report.fwid",
            ][..],
        ),
        ("hopper_cert_chain_case3.txt", &["certificates.chain", "certificates.architecture"]),
        (
            "hopper_cert_chain_case4.txt",
            &[
                "certificates.chain",
                "certificates.architecture",
                "certificates.firmware",
                "report.signature",
                "report.fwid",
            ],
        ),
        ("hopper_coco_certs1.txt", &["report.signature", "report.fwid"]),
    ] {
        let Some((_, evidence)) = hopper("hopperAttestationReport.txt", chain) else { return };
        let verdict = judge(&evidence, &expecting(None));
        assert_eq!(names(&verdict), expected, "{chain}");
    }
}

#[test]
fn dates_and_roots_count() {
    let Some((_, evidence)) = first() else { return };
    for now_unix in [0, 1_640_000_000, u64::MAX] {
        let verdict = judge(&evidence, &Expectation { now_unix, ..expecting(None) });
        assert_eq!(failed(&verdict), [("certificates.dates", Code::AttestCertificateExpired)]);
    }
    let trust = Trust { device_roots: Vec::new(), ..Trust::default() };
    let verdict = only(verify(&evidence, &trust, &Collateral::none(), &expecting(None)));
    assert_eq!(failed(&verdict), [("certificates.chain", Code::AttestChainUntrusted)]);
    // The root of manifests is no root of devices.
    let trust = Trust { device_roots: Trust::default().rim_roots, ..Trust::default() };
    let verdict = only(verify(&evidence, &trust, &Collateral::none(), &expecting(None)));
    assert_eq!(names(&verdict), ["certificates.chain"]);
}

#[test]
fn a_device_is_not_taken_for_another_architecture() {
    let Some((_, mut evidence)) = first() else { return };
    evidence.devices[0].architecture = Architecture::Blackwell;
    assert_eq!(names(&judge(&evidence, &expecting(None))), ["certificates.architecture"]);
    let unknown = Evidence::from_json(&wire("AMPERE", &[], &[])).unwrap_err();
    assert_eq!(cocoon_stage::Failure::from(unknown).code, Code::AttestTeeUnsupported);
}

#[test]
fn an_ls10_switch_verifies() {
    let Some(text) = vector("nvidia/ls10-evidence.json") else { return };
    let list: Value = serde_json::from_slice(&text).unwrap();
    let evidence = Evidence::from_json(&json!({ "device_evidence_list": list })).unwrap();
    let nonce = hex::decode(NONCE).unwrap();
    let devices = verify(&evidence, &Trust::default(), &Collateral::none(), &expecting(Some(&nonce)));
    assert_eq!(devices[0].class, "switch");
    let verdict = &devices[0].verdict;
    assert_eq!(failed(verdict), []);
    assert_eq!(verdict.claims["arch"], "LS10");
    assert_eq!(verdict.claims["vbios_version"], "96.10.55.00.01");
    assert_eq!(verdict.claims["driver_version"], Value::Null);
    assert_eq!(verdict.claims["config"]["switch_pdi"], "203eb31ad9ed0008");
    assert_eq!(verdict.claims["measurements"].as_object().unwrap().len(), 31);
    assert_eq!(needs(&evidence), [Need::NvidiaRim { id: "NV_SWITCH_BIOS_5612_0002_890_9610550001".into() }]);
}

#[test]
fn a_blackwell_gpu_verifies() {
    let Some(text) = vector("nvidia/blackwell-evidence.json") else { return };
    let list: Value = serde_json::from_slice(&text).unwrap();
    let evidence = Evidence::from_json(&json!({ "device_evidence_list": list })).unwrap();
    let nonce = hex::decode(NONCE).unwrap();
    let devices = verify(&evidence, &Trust::default(), &Collateral::none(), &expecting(Some(&nonce)));
    assert_eq!(devices[0].class, "gpu");
    let verdict = &devices[0].verdict;
    assert_eq!(failed(verdict), []);
    assert!(verdict.checks.iter().any(|check| check.name == "certificates.debug"));
    assert_eq!(
        (&verdict.claims["arch"], &verdict.claims["hwmodel"]),
        (&json!("Blackwell"), &json!("GB100 A01 GSP BROM"))
    );
    assert_eq!(verdict.claims["driver_version"], "575.32");
    // This driver does not tell the chip, so the id of its manifest is not known.
    assert_eq!(needs(&evidence), [Need::NvidiaRim { id: "NV_GPU_VBIOS_G525_0220_886_970088000F".into() }]);
    let trust = Trust { require_rims: true, ..Trust::default() };
    let verdict = only(verify(&evidence, &trust, &Collateral::none(), &expecting(None)));
    let missing = Code::AttestCollateralMissing;
    assert_eq!(failed(&verdict), [("rim.driver", missing), ("rim.firmware", missing)]);
}

#[test]
fn json_round_trips() {
    let Some((report, evidence)) = first() else { return };
    let json = evidence.to_json();
    let again = Evidence::from_json(&json).unwrap();
    assert_eq!(again.to_json(), json);
    assert_eq!(again.devices[0].report.as_bytes(), report);
}
