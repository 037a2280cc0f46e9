//! NVIDIA DPU evidence: comes from the attester, through the untrusted host.
#![no_main]

use cocoon_evidence::Expectation;
use cocoon_evidence::dpu::{Evidence, TcbInfo, Trust, verify};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = TcbInfo::parse(bytes);
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    if let Ok(evidence) = Evidence::from_json(&value) {
        let expectation =
            Expectation { report_data: Some(&[1; 64]), init_data_digest: None, now_unix: 1_800_000_000 };
        assert!(!verify(&evidence, &Trust::default(), &expectation).ok(), "nobody is trusted");
    }
});
