//! Evidence of a generic TPM, as JSON from the guest.
#![no_main]

use cocoon_evidence::Expectation;
use cocoon_evidence::tpm::{Evidence, Trust, verify};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    if let Ok(evidence) = Evidence::from_json(&value) {
        let again = Evidence::from_json(&evidence.to_json()).expect("what was accepted can be written");
        let expectation =
            Expectation { report_data: Some(&[1; 48]), init_data_digest: Some(&[2; 48]), now_unix: 1 };
        // Nobody enrolled the key.
        assert!(!verify(&again, &Trust::default(), &expectation).ok());
    }
});
