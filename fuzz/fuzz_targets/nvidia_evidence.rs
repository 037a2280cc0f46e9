//! Reports of NVIDIA devices and the evidence of a guest's devices: come from the attester, through the untrusted host.
#![no_main]

use cocoon_evidence::Expectation;
use cocoon_evidence::collateral::Collateral;
use cocoon_evidence::nvidia::{
    Architecture, DeviceEvidence, Evidence, Report, Trust, needs, unverified, verify,
};
use libfuzzer_sys::fuzz_target;

/// Any certificate: what is behind a report's bytes is looked at whoever signed it.
const CHAIN: &[u8] = include_bytes!("../../core/evidence/src/nvidia/roots/device-identity-ca.pem");

fn look(evidence: &Evidence) {
    let _ = (needs(evidence), unverified(evidence));
    // A challenge that no recorded report answers.
    let expectation =
        Expectation { report_data: Some(&[0xa5; 32]), init_data_digest: None, now_unix: 1_800_000_000 };
    let devices = verify(evidence, &Trust::default(), &Collateral::none(), &expectation);
    assert!(devices.iter().all(|device| !device.verdict.ok()), "nobody can sign for NVIDIA");
}

fuzz_target!(|bytes: &[u8]| {
    for architecture in [Architecture::Hopper, Architecture::Blackwell, Architecture::Ls10] {
        if let Ok(report) = Report::parse(bytes, architecture) {
            assert_eq!(report.as_bytes(), bytes);
        }
        if let Ok(device) = DeviceEvidence::new(architecture, None, bytes, CHAIN) {
            look(&Evidence { devices: vec![device] });
        }
    }
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    let Ok(evidence) = Evidence::from_json(&json) else { return };
    look(&evidence);
    let again = Evidence::from_json(&evidence.to_json()).unwrap();
    assert_eq!(again.to_json(), evidence.to_json());
});
