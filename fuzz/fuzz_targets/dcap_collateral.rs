//! Intel's collateral: comes from a provider, a cache or a bundle, none of which is trusted.
#![no_main]

use cocoon_evidence::collateral::{Document, IntelTee, Need};
use cocoon_evidence::dcap::update_window;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let document = Document { body: bytes.to_vec(), issuer_chain: String::new() };
    let tee = IntelTee::Tdx;
    for need in
        [Need::IntelRootCrl, Need::IntelTcbInfo { tee, fmspc: String::new() }, Need::IntelQeIdentity { tee }]
    {
        let _ = update_window(&need, &document);
    }
});
