//! The handshake's messages: come from whoever reaches Trustee's port.
#![no_main]

use cocoon_protocol::messages::{Attestation, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = serde_json::from_slice::<Request>(bytes) {
        serde_json::to_vec(&request).expect("what was read can be written");
    }
    if let Ok(attestation) = serde_json::from_slice::<Attestation>(bytes) {
        serde_json::to_vec(&attestation).expect("what was read can be written");
    }
});
