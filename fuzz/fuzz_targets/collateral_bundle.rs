//! Collateral: bundles, Intel's offline file, and documents themselves. Come from mirrors, folders and other machines.
#![no_main]

use cocoon_collateral::{Update, bundle};
use cocoon_evidence::collateral::{Document, IntelTee, Need, freshness};
use libfuzzer_sys::fuzz_target;

const NOW: u64 = 1_800_000_000;

fuzz_target!(|bytes: &[u8]| {
    for contents in
        [bundle::read(bytes, NOW), bundle::read_intel(bytes, Update::Early, NOW)].into_iter().flatten()
    {
        for entry in &contents.entries {
            assert!(entry.need.check().is_ok() && entry.fetched_unix <= NOW);
            assert!(entry.document.body.len() <= entry.need.max_body());
        }
        let again = bundle::export(&contents.entries, NOW).and_then(|bytes| bundle::read(&bytes, NOW));
        assert!(again.is_ok_and(|again| again.entries == contents.entries && again.refused.is_empty()));
    }
    let document =
        Document { body: bytes.to_vec(), issuer_chain: String::from_utf8_lossy(bytes).into_owned() };
    for need in [
        Need::IntelRootCrl,
        Need::IntelQeIdentity { tee: IntelTee::Tdx },
        Need::IntelTcbInfo { tee: IntelTee::Sgx, fmspc: "00906ed50000".into() },
        Need::NvidiaRim { id: "NV_GPU_X".into() },
    ] {
        let _ = freshness(&need, &document);
        let _ = freshness(&need, &Document { issuer_chain: String::new(), ..document.clone() });
    }
});
