//! Reports of NVIDIA devices and the evidence of a guest's devices: come from the attester, through the untrusted host.
#![no_main]

use cocoon_evidence::Expectation;
use cocoon_evidence::collateral::Collateral;
use cocoon_evidence::nvidia::{Architecture, Evidence, Report, Trust, needs, verify};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for architecture in [Architecture::Hopper, Architecture::Blackwell, Architecture::Ls10] {
        if let Ok(report) = Report::parse(bytes, architecture) {
            assert_eq!(report.as_bytes(), bytes);
        }
    }
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    let Ok(evidence) = Evidence::from_json(&json) else { return };
    let _ = needs(&evidence);
    let again = Evidence::from_json(&evidence.to_json()).unwrap();
    assert_eq!(again.to_json(), evidence.to_json());
    // A challenge that no recorded report answers.
    let expectation =
        Expectation { report_data: Some(&[0xa5; 32]), init_data_digest: None, now_unix: 1_800_000_000 };
    let devices = verify(&evidence, &Trust::default(), &Collateral::none(), &expectation);
    assert!(devices.iter().all(|device| !device.verdict.ok()), "nobody can sign for NVIDIA");
});
