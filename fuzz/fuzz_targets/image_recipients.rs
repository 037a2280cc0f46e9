//! Recipients of encrypted layers: JWE messages and annotations come with the image, keys are files.
#![no_main]

use std::collections::BTreeMap;

use cocoon_image::encryption::{JWE_ANNOTATION, Jwe, KEYS_ANNOTATION_PREFIX, OpeningKey, PUBOPTS_ANNOTATION};
use cocoon_image::encryption::{PubOptions, RecipientKey, WrappedKeys};
use cocoon_image::{Descriptor, Digest};
use libfuzzer_sys::fuzz_target;

const KEY: &[u8] = br#"{"kty":"EC","crv":"P-256","d":"VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw"}"#;

fuzz_target!(|bytes: &[u8]| {
    let key = OpeningKey::parse(KEY, None).expect("a fixed key");
    if let Ok(jwe) = Jwe::parse(bytes) {
        assert!(jwe.open(&[key]).is_err(), "nobody encrypts to this key by chance");
        jwe.recipients();
        assert_eq!(Jwe::parse(jwe.json()).expect("it was read before"), jwe);
    }
    // Without a password: a key's rounds of derivation may be many.
    let _ = OpeningKey::parse(bytes, None);
    if let Ok(public) = RecipientKey::parse(bytes) {
        Jwe::seal(&public, b"secret").expect("a key that is read can be used");
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (jwe, provider) = text.split_once('\n').unwrap_or((text, ""));
    let annotations = BTreeMap::from([
        (PUBOPTS_ANNOTATION.to_owned(), PubOptions { hmac: [0; 32] }.to_annotation()),
        (JWE_ANNOTATION.to_owned(), jwe.to_owned()),
        (format!("{KEYS_ANNOTATION_PREFIX}attestation-agent"), provider.to_owned()),
    ]);
    let kind = "application/vnd.oci.image.layer.v1.tar+encrypted";
    let layer = Descriptor { annotations, ..Descriptor::new(kind, Digest::sha256(b""), 0) };
    if let Ok(keys) = WrappedKeys::read(&layer) {
        let written = keys.annotations().expect("what was read can be written");
        let again = WrappedKeys::read(&Descriptor { annotations: written, ..layer }).expect("and read");
        assert_eq!(again, keys);
    }
});
