//! Trustee's encrypted answers, decrypted in the guest: come through the untrusted host.
#![no_main]

use std::sync::LazyLock;

use cocoon_protocol::TeeKeyPair;
use cocoon_protocol::jwe::JweFlattened;
use libfuzzer_sys::fuzz_target;

static KEY: LazyLock<TeeKeyPair> = LazyLock::new(|| TeeKeyPair::generate().expect("randomness"));

fuzz_target!(|bytes: &[u8]| {
    if let Ok(jwe) = serde_json::from_slice::<JweFlattened>(bytes) {
        assert!(KEY.decrypt(&jwe).is_err(), "nobody encrypts to this key by chance");
    }
});
