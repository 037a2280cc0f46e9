//! The default policies of everything that is no CPU.

use serde_json::{Map, Value, json};

use super::{appraise, spoiled, three, under};

fn nvidia(device: &str, chains: &[&str], flags: &[&str]) -> Map<String, Value> {
    let mut claims = Map::new();
    for chain in chains {
        let good = json!({"x-nvidia-cert-status": "valid", "x-nvidia-cert-ocsp-status": "good"});
        claims.insert(format!("x-nvidia-{device}-{chain}-cert-chain"), good);
    }
    for flag in flags {
        claims.insert(format!("x-nvidia-{device}-{flag}"), json!(true));
    }
    claims.insert("secboot".into(), json!(true));
    claims.insert("dbgstat".into(), json!("disabled"));
    claims.insert("measres".into(), json!("success"));
    claims
}

const REPORT: [&str; 5] = [
    "arch-check",
    "attestation-report-cert-chain-fwid-match",
    "attestation-report-nonce-match",
    "attestation-report-parsed",
    "attestation-report-signature-verified",
];
const RIM: [&str; 5] =
    ["fetched", "measurements-available", "schema-validated", "signature-verified", "version-match"];

fn spoil(class: &str, input: &Value, values: &Value, expected: [i8; 3]) {
    assert_eq!(three(&appraise(class, input, values).unwrap()), expected);
    for (pointer, wrong) in spoiled(input) {
        let got = three(&appraise(class, &wrong, values).unwrap());
        assert_ne!(got, expected, "{pointer} is not looked at");
        assert!(got.iter().zip(expected).all(|(got, before)| *got >= before), "{pointer}: {got:?}");
    }
}

#[test]
fn gpu() {
    let rims: Vec<String> = ["driver", "vbios"]
        .iter()
        .flat_map(|part| RIM.iter().map(move |step| format!("{part}-rim-{step}")))
        .chain(["vbios-index-no-conflict".to_owned()])
        .collect();
    let flags: Vec<&str> = REPORT.into_iter().chain(rims.iter().map(String::as_str)).collect();
    let mut claims = nvidia("gpu", &["attestation-report", "driver-rim", "vbios-rim"], &flags);
    claims.insert("x-nvidia-gpu-vbios-version".into(), json!("96.00"));
    claims.insert("x-nvidia-gpu-driver-version".into(), json!("550"));
    let input = under("nvidia", Value::Object(claims));
    let values = json!({"allowed_vbios_versions": ["96.00"], "allowed_driver_versions": ["550"]});
    spoil("gpu", &input, &values, [3, 2, 2]);
    assert_eq!(three(&appraise("gpu", &input, &json!({})).unwrap()), [3, 2, 3]);
    let other = json!({"allowed_vbios_versions": ["97.00"]});
    assert_eq!(
        three(&appraise("gpu", &input, &other).unwrap()),
        [3, 2, 36],
        "a version that is not registered"
    );
    let local = json!({"nvidia": {"arch": "HOPPER", "measurements": {}}});
    assert_eq!(three(&appraise("gpu", &local, &values).unwrap()), [33, 97, 36]);
    // Verified here alone: affirmed by NVIDIA's manifests and registered versions.
    let here = json!({"nvidia": {"fwid": "f", "rims": ["NV_GPU_DRIVER"], "measres": "success",
        "vbios_version": "96.00", "driver_version": "550"}});
    assert_eq!(three(&appraise("gpu", &here, &values).unwrap()), [3, 2, 3]);
    assert_eq!(three(&appraise("gpu", &here, &json!({})).unwrap()), [3, 2, 36]);
    let uncompared = json!({"nvidia": {"fwid": "f", "rims": [], "measres": "not-compared",
        "vbios_version": "96.00", "driver_version": "550"}});
    assert_eq!(three(&appraise("gpu", &uncompared, &values).unwrap()), [33, 2, 3]);
}

#[test]
fn sample_device() {
    let input = json!({"sampledevice": {"svn": "2"}});
    let outcome = appraise("gpu", &input, &json!({"device_svn": ["2"]})).unwrap();
    assert_eq!(three(&outcome), [33, 2, 36]);
    assert_eq!(outcome.extensions["ear.trustee.simulated"], json!(true));
}

#[test]
fn switch() {
    let rims: Vec<String> = RIM.iter().map(|step| format!("bios-rim-{step}")).collect();
    let flags: Vec<&str> = REPORT.into_iter().chain(rims.iter().map(String::as_str)).collect();
    let mut claims = nvidia("switch", &["attestation-report", "bios-rim"], &flags);
    claims.insert("x-nvidia-switch-bios-version".into(), json!("1.2"));
    let input = under("nvidia", Value::Object(claims));
    spoil("switch", &input, &json!({"allowed_switch_bios_versions": "1.2"}), [3, 2, 2]);
}

#[test]
fn protected_pcie() {
    let input = json!({"nvidia": {"gpu_count": 8, "switch_count": 4}});
    spoil("ppcie", &input, &json!({}), [0, 0, 2]);
}

#[test]
fn dcu_and_dpu() {
    let dcu = json!({"hygondcu": {"body": {"measure": "m", "chip_id": "c"}}});
    spoil("dcu", &dcu, &json!({"dcu_measure": ["m"], "dcu_chip_id": ["c"]}), [3, 2, 0]);
    let two = json!({"hygondcu": {"0": {"body": {"measure": "m", "chip_id": "c"}},
        "1": {"body": {"measure": "n", "chip_id": "d"}}}});
    let values = json!({"dcu_measure": ["m", "n"], "dcu_chip_id": ["c", "d"]});
    spoil("dcu", &two, &values, [3, 2, 0]);
    assert_eq!(three(&appraise("dcu", &json!({"hygondcu": {}}), &values).unwrap()), [33, 97, 0]);
    let dpu = json!({"nvidia-dpu": {"device_class": "bluefield3",
        "layers": [{"fwid": "a"}, {"fwid": "b"}]}});
    let values = json!({"dpu_device_class": "bluefield3", "dpu_fwids": ["a", "b"]});
    spoil("nvidia-dpu", &dpu, &values, [3, 2, 0]);
    let empty = json!({"nvidia-dpu": {"device_class": "bluefield3", "layers": []}});
    assert_eq!(three(&appraise("nvidia-dpu", &empty, &values).unwrap()), [33, 2, 0]);
}
