//! Signature payloads: come from the registry.
#![no_main]

use cocoon_signature::cosign::Payload;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(payload) = Payload::parse(bytes) {
        Payload::parse(&payload.to_json()).expect("what was read can be written");
    }
});
