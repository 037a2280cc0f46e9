//! Reference manifests, XML: come from a provider that is not trusted.
#![no_main]

use cocoon_rim::Document;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(document) = Document::parse(bytes) else { return };
    let _ = document.signature();
    if let Ok(manifest) = document.manifest() {
        for hash in manifest.measurements.iter().flat_map(|measurement| &measurement.hashes) {
            assert!(hash.hex.len() >= 64 && hash.hex.bytes().all(|b| b.is_ascii_hexdigit()));
        }
    }
});
