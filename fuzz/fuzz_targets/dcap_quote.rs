//! DCAP quotes of TDX and SGX: come from the attester, through the untrusted host.
#![no_main]

use cocoon_evidence::collateral::Collateral;
use cocoon_evidence::dcap::{Cache, Pck, Quote, Roots, Rules, Trust, needs};
use cocoon_evidence::{Expectation, sgx, tdx};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let trust = Trust { roots: Roots::default(), rules: Rules::default(), cache: Cache::new(0, 0) };
    let expectation = Expectation {
        report_data: Some(&[1; 64]),
        init_data_digest: Some(&[2; 48]),
        now_unix: 1_750_809_600,
    };
    let none = Collateral::none();
    if let Ok(quote) = Quote::parse(bytes) {
        assert_eq!(quote.bytes(), bytes);
        let _ = needs(&quote);
        assert!(
            !tdx::verify_quote(&quote, &trust, &none, &expectation).ok(),
            "nothing is good without collateral"
        );
    }
    if let Ok(evidence) = sgx::Evidence::new(bytes) {
        let _ = sgx::claims(&evidence);
        assert!(!sgx::verify(&evidence, &trust, &none, &expectation).ok());
    }
    let _ = Pck::parse(bytes);
    if let Ok(value) = serde_json::from_slice(bytes) {
        let _ = sgx::Evidence::from_json(&value);
        if let Ok(evidence) = tdx::Evidence::from_json(&value) {
            assert!(!tdx::verify(&evidence, &trust, &none, &expectation).ok());
        }
    }
});
