//! Arm CCA trust anchors and reference values: an operator's files, which may come from elsewhere.
#![no_main]

use cocoon_evidence::cca::Store;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) {
        let _ = Store::from_json(&value, &serde_json::json!({}));
        let _ = Store::from_json(&serde_json::json!([]), &value);
    }
});
