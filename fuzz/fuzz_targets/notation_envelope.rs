//! Notation's envelopes, JWS and COSE: come from the registry.
#![no_main]

use std::sync::LazyLock;

use cocoon_signature::NotationEnvelope;
use cocoon_signature::notation::{COSE_TYPE, JWS_TYPE, Trust, verify};
use libfuzzer_sys::fuzz_target;

static TRUST: LazyLock<Trust> = LazyLock::new(|| {
    let certified = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("a certificate");
    let pem = [certified.cert.pem()];
    let trust = Trust::new(&pem, &["*".to_owned()]).expect("a root");
    trust.with_authorities(&pem).expect("an authority")
});

fuzz_target!(|bytes: &[u8]| {
    for media_type in [JWS_TYPE, COSE_TYPE] {
        let envelope = NotationEnvelope { media_type: media_type.to_owned(), bytes: bytes.to_vec() };
        assert!(verify(&TRUST, &envelope, 1_800_000_000).is_err(), "nobody has the root's key");
    }
});
