//! Attestation tokens: come from whoever asks for a secret.
#![no_main]

use std::sync::LazyLock;

use cocoon_protocol::token::{Signer, verify};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

static KEYS: LazyLock<Value> = LazyLock::new(|| Signer::generate().expect("randomness").jwks());

fuzz_target!(|text: &str| {
    assert!(verify(text, &KEYS, 1_800_000_000).is_err(), "nobody signs with this key by chance");
});
