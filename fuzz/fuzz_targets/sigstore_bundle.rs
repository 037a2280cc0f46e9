//! Sigstore bundles, annotations, time stamps and trusted roots: bundles and annotations come from the registry.
#![no_main]

use std::sync::LazyLock;

use cocoon_signature::sigstore::{Identity, Roots, Trust, verify_blob, verify_bundle, verify_legacy};
use cocoon_signature::{CosignSignature, KeyPair};
use libfuzzer_sys::fuzz_target;

static KEY: LazyLock<String> = LazyLock::new(|| KeyPair::generate().expect("randomness").public_pem);

/// Keys that made none of the signatures, and an identity below an authority that certified none of them.
static TRUST: LazyLock<[Trust; 2]> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate().expect("randomness");
    let params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    let authority = params.self_signed(&key).expect("a certificate").pem();
    let keys = [KEY.clone()];
    let roots = Roots::new(&[authority.clone()], &keys, &keys, &[authority]).expect("good roots");
    let identity = Identity::email("https://issuer", "a@example").expect("a good identity");
    [Trust::keys(&keys).expect("a good key"), Trust::keyless(roots, identity).expect("good roots")]
});

fuzz_target!(|bytes: &[u8]| {
    for trust in TRUST.iter() {
        assert!(verify_bundle(trust, bytes, &[], 0).is_err());
        assert!(verify_blob(trust, bytes, b"blob", 0).is_err());
        let text = String::from_utf8_lossy(bytes);
        let found = |certificate: &str, bundle: &str| CosignSignature {
            payload: bytes.to_vec(),
            signature: "AAAA".to_owned(),
            certificate: (!certificate.is_empty()).then(|| certificate.to_owned()),
            bundle: (!bundle.is_empty()).then(|| bundle.to_owned()),
            ..CosignSignature::default()
        };
        assert!(verify_legacy(trust, &found("", &text), 0).is_err());
        assert!(verify_legacy(trust, &found(&text, ""), 0).is_err());
        let stamp = CosignSignature { timestamp: Some(text.into_owned()), ..found("", "") };
        assert!(verify_legacy(trust, &stamp, 0).is_err());
    }
    let _ = Roots::from_trusted_root(bytes);
});
