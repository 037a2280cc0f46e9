//! Manifests, indexes, configs and references: come from the registry.
#![no_main]

use cocoon_image::{Config, Document, Index, Manifest, Reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes) {
        let _ = manifest.check_image();
    }
    let _ = Document::parse(bytes);
    let _ = Index::parse(bytes);
    let _ = Config::parse(bytes);
    if let Some(reference) = std::str::from_utf8(bytes).ok().and_then(|t| Reference::parse(t).ok()) {
        let text = reference.to_string();
        assert_eq!(Reference::parse(&text).expect("a printed reference is one").to_string(), text);
    }
});
