//! Canonical JSON (RFC 8785): what it gives is the same value, and canonical already.
#![no_main]

use cocoon_protocol::jcs::canonicalize;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    let Ok(once) = canonicalize(&value) else { return };
    let again: Value = serde_json::from_slice(&once).expect("canonical JSON is JSON");
    assert_eq!(canonicalize(&again).expect("it stays acceptable"), once);
});
