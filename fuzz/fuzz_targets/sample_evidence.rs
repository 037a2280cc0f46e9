//! Evidence of the kind `sample`: comes from whoever reaches Trustee's port.
#![no_main]

use cocoon_evidence::sample::{Evidence, verify};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    let Ok(evidence) = Evidence::from_json(&value) else { return };
    assert_eq!(Evidence::from_json(&evidence.to_json()).expect("it was read"), evidence);
    assert!(!verify(&evidence, false, Some(&evidence.report_data)).ok(), "it is not accepted by default");
    let verdict = verify(&evidence, true, Some(b"another report data"));
    assert!(verdict.simulated);
    assert!(!verdict.ok() || evidence.report_data.starts_with(b"another report data"));
});
