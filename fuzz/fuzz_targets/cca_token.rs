//! Arm CCA tokens: come from the attester, through the untrusted host.
#![no_main]

use std::sync::LazyLock;

use cocoon_evidence::Expectation;
use cocoon_evidence::cca::{Evidence, Rules, Store, claims, verify};
use libfuzzer_sys::fuzz_target;

static NOTHING: LazyLock<Store> = LazyLock::new(Store::empty);

fuzz_target!(|bytes: &[u8]| {
    let Ok(evidence) = Evidence::parse(bytes.to_vec()) else { return };
    assert_eq!(evidence.token(), bytes);
    let _ = claims(&evidence);
    assert_eq!(Evidence::from_json(&evidence.to_json()).as_ref(), Ok(&evidence));
    let rules = Rules { platform_references_optional: true, realm_references_ignored: true };
    let expectation = Expectation { report_data: Some(&[1; 64]), init_data_digest: None, now_unix: 0 };
    assert!(!verify(&evidence, &NOTHING, &rules, &expectation).ok(), "nobody's key is trusted");
});
