//! ocicrypt's annotation packets, options and key provider messages: come with the image.
#![no_main]

use cocoon_image::encryption::{
    AnnotationPacket, KeyProviderInput, KeyProviderOutput, PrivateOptions, PubOptions, unwrap_key,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(packet) = AnnotationPacket::parse(bytes) {
        assert!(unwrap_key(&[0; 32], &packet).is_err(), "nobody forges under this key by chance");
        let text = packet.to_annotation().expect("what was read can be written");
        AnnotationPacket::from_annotation(&text).expect("and read");
    }
    let _ = PrivateOptions::parse(bytes);
    let _ = KeyProviderInput::parse(bytes);
    let _ = KeyProviderOutput::parse(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = AnnotationPacket::from_annotation(text);
        let _ = PubOptions::from_annotation(text);
    }
});
