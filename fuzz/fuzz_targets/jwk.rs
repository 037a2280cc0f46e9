//! The guest's public key as Trustee reads it, and encrypting to it.
#![no_main]

use cocoon_protocol::jwe::encrypt;
use cocoon_protocol::jwk::TeePublicKey;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(key) = serde_json::from_slice::<TeePublicKey>(bytes) {
        let _ = encrypt(&key, b"secret");
    }
});
