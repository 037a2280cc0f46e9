//! OpenPGP keyrings and signed messages: messages come from look-aside places, keyrings from the plan's author.
#![no_main]

use std::sync::LazyLock;

use cocoon_signature::simple::{Keyring, verify};
use libfuzzer_sys::fuzz_target;

/// An Ed25519 key that nobody has any more.
static KEYRING: LazyLock<Keyring> = LazyLock::new(|| {
    Keyring::parse(include_bytes!("openpgp_key.asc")).expect("the key is good")
});

fuzz_target!(|bytes: &[u8]| {
    // Two bytes of length, a keyring, a message.
    let (length, rest) = bytes.split_at_checked(2).unwrap_or((&[], bytes));
    let length = length.iter().fold(0, |n, b| n * 256 + usize::from(*b));
    let (keyring, message) = rest.split_at_checked(length).unwrap_or((rest, rest));
    if let Ok(keyring) = Keyring::parse(keyring) {
        assert!(!keyring.fingerprints().is_empty());
        let _ = verify(&keyring, message, 1_800_000_000);
    }
    assert!(verify(&KEYRING, bytes, 1_800_000_000).is_err(), "nobody has the key");
});
