//! Encrypted layers: the ciphertext comes from the registry.
#![no_main]

use std::io::Read;

use cocoon_image::encryption::{LayerDecryptor, PrivateOptions, PubOptions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let key = br#"{"symkey":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","digest":"","cipheroptions":{"nonce":"AAAAAAAAAAAAAAAAAAAAAA=="}}"#;
    let private = PrivateOptions::parse(key).expect("a fixed key");
    let public = PubOptions { hmac: [0; 32] };
    let mut layer = LayerDecryptor::new(bytes, &private, &public).expect("a fixed key");
    assert!(layer.read_to_end(&mut Vec::new()).is_err(), "the HMAC cannot hold");
});
