//! Reference value documents of every format: come from publishers, by way of whoever stands between. The first byte
//! chooses the format (or the message as it is), and whether signatures are waived.
#![no_main]

use std::sync::{Arc, LazyLock};

use cocoon_audit::HeadSigner;
use cocoon_fuzz::NOW;
use cocoon_fuzz::signed::IDENTITY;
use cocoon_reference::{
    AnchorKey, Format, ImportOptions, ReferenceValues, SetDocument, TrustAnchors, message, sign_set,
};
use cocoon_store::MemoryStore;
use libfuzzer_sys::fuzz_target;

/// PKCS#8 of a signing key, and the anchors that trust it.
static TRUSTED: LazyLock<(Vec<u8>, TrustAnchors)> = LazyLock::new(|| {
    let key = cocoon_audit::LogKey::generate().expect("randomness");
    let text = key.public_key().to_string();
    let raw = hex::decode(text.strip_prefix("ed25519:").expect("this kind is made")).expect("hex");
    // SubjectPublicKeyInfo of Ed25519 (RFC 8410 §4).
    let spki =
        [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], raw.as_slice()].concat();
    let anchors = TrustAnchors {
        keys: vec![AnchorKey { id: "k".into(), key: spki }],
        certificates: vec![IDENTITY.ca.clone()],
    };
    anchors.check().expect("good anchors");
    (key.to_pkcs8().expect("it was made here").to_vec(), anchors)
});

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, document)) = bytes.split_first() else { return };
    let (key, anchors) = &*TRUSTED;
    let unsigned_ok = choice & 8 == 0;
    let options = ImportOptions { now_unix: NOW, unsigned_ok, ..ImportOptions::default() };
    let values = ReferenceValues::new(Arc::new(MemoryStore::new()));
    let mut signed_here = false;
    let text = match choice & 7 {
        0 => message(Format::Sample, document),
        1 => message(Format::Swid, document),
        2 => message(Format::Corim, document),
        3 => message(Format::InToto, document),
        4 => message(Format::Cocoon, document),
        5 => {
            let Ok(set) = serde_json::from_slice::<SetDocument>(document) else { return };
            let Ok(signed) = sign_set(&set, "k", key) else { return };
            signed_here = true;
            message(Format::Cocoon, signed.as_bytes())
        }
        _ => String::from_utf8_lossy(document).into_owned(),
    };
    let changes = values.preview(text.as_bytes(), anchors, &options);
    let imported = values.import(text.as_bytes(), anchors, &options);
    assert_eq!(changes.is_ok(), imported.is_ok());
    let Ok(set) = imported else { return };
    assert!(unsigned_ok || signed_here && set.signed_by.is_some(), "nobody trusted signed it");
    assert_eq!(values.list().expect("what was stored is read").len(), set.count);
    let again = values.preview(text.as_bytes(), anchors, &ImportOptions { allow_older: true, ..options });
    assert!(again.expect("it was taken before").is_empty());
});
