//! Evidence of Azure's guests, as JSON of any version.
#![no_main]

use cocoon_evidence::azure::{snp, tdx};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    if let Ok(evidence) = snp::Evidence::from_json(&value) {
        snp::Evidence::from_json(&evidence.to_json()).expect("what was accepted can be written");
    }
    if let Ok(evidence) = tdx::Evidence::from_json(&value) {
        tdx::Evidence::from_json(&evidence.to_json()).expect("what was accepted can be written");
    }
});
