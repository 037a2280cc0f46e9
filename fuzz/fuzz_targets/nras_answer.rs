//! Answers and keys of NVIDIA's remote attestation service: come from the network.
#![no_main]

use cocoon_evidence::nvidia::Architecture;
use cocoon_evidence::nvidia::nras::{Answer, ISSUER, Jwks, Request, verify};
use libfuzzer_sys::fuzz_target;

/// A key whose private half nobody has: the generator of P-384.
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-384","kid":"k","x":"qofKIr6LBTeOscce8yCtdG4dO2KLp5uYWfdB4IJUKjhVAvJdv1UpbDpUXjhydgq3","y":"NhfeSpYmLG9dnpi_kpLcKfj0Hb0omhR86doxE7XwuMAKYLHOHX6BnXpDHXyQ6g5f"}]}"#;

fuzz_target!(|bytes: &[u8]| {
    let _ = Jwks::parse(bytes);
    let Ok(answer) = Answer::parse(bytes) else { return };
    let keys = Jwks::parse(KEYS.as_bytes()).unwrap();
    let request = Request {
        architecture: Architecture::Hopper,
        endpoint: "gpu",
        devices: vec![0, 1],
        nonce: [0; 32],
        body: serde_json::Value::Null,
    };
    for device in verify(&request, &answer, &keys, ISSUER, 1_800_000_000) {
        assert!(!device.verdict.ok() && device.verdict.claims.is_null());
    }
});
