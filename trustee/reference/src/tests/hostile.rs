//! Hostile documents: bombs, depth, size, noise.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::document::{self, Judge};

const FORMATS: [Format; 5] = [Format::Sample, Format::Swid, Format::Corim, Format::InToto, Format::Cocoon];

fn read(format: Format, bytes: &[u8]) -> &'static str {
    let trust = TrustAnchors::default();
    kind(&document::read(format, bytes, &Judge { trust: &trust, now_unix: NOW, unsigned_ok: true }))
}

#[test]
fn large_messages_are_refused_at_once() {
    let large = message(Format::Sample, vec![b' '; 12 * 1024 * 1024]);
    assert!(large.len() >= 16 * 1024 * 1024);
    let begun = Instant::now();
    assert_eq!(kind(&fresh().import(&large, &TrustAnchors::default(), &waived())), "large");
    assert!(begun.elapsed() < Duration::from_millis(200));
}

#[test]
fn messages_of_another_shape_are_refused() {
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"type":"sample"}"#,
        r#"{"type":"other","payload":""}"#,
        r#"{"version":"0.2.0","type":"sample","payload":"e30="}"#,
        r#"{"type":"sample","payload":"e30"}"#,
        r#"{"type":"sample","payload":"e30=","more":1}"#,
    ] {
        let outcome = fresh().import(bad.as_bytes(), &TrustAnchors::default(), &waived());
        assert_eq!(kind(&outcome), "document", "{bad}");
    }
    let bare = r#"{"type":"sample","payload":"eyJhIjoxfQ=="}"#;
    assert_eq!(kind(&fresh().import(bare.as_bytes(), &TrustAnchors::default(), &waived())), "ok");
}

#[test]
fn deep_nesting_is_refused() {
    let deep = |open: &str, close: &str, n: usize| open.repeat(n) + &close.repeat(n);
    for n in [100, 100_000] {
        let json = format!("{{\"a\":{}}}", deep("[", "]", n));
        let outcome = fresh().import(&message(Format::Sample, &json), &TrustAnchors::default(), &waived());
        assert!(matches!(kind(&outcome), "value" | "document"), "{n}");
        assert_eq!(read(Format::Swid, deep("<a>", "</a>", n).as_bytes()), "document");
        assert_eq!(read(Format::Corim, &vec![0x81; n]), "document");
        let arrays = [vec![0xd9, 0x01, 0xf5], vec![0x81; n], vec![0x00]].concat();
        assert_eq!(read(Format::Corim, &arrays), "document");
        let signed = [vec![0xd2, 0x84], vec![0x81; n], vec![0x00]].concat();
        assert_eq!(read(Format::Corim, &signed), "document");
    }
}

#[test]
fn many_values_are_refused() {
    let names: serde_json::Map<String, Value> = (0..5000).map(|i| (format!("n{i}"), json!(1))).collect();
    assert_eq!(read(Format::Sample, Value::Object(names).to_string().as_bytes()), "document");
    let many = format!("{{\"a\":[{}1]}}", "1,".repeat(700_000));
    assert_eq!(read(Format::Sample, many.as_bytes()), "document");
    let claimed = [0xd9, 0x01, 0xf5, 0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(read(Format::Corim, &claimed), "document");
    let claimed = [0xd9, 0x01, 0xf5, 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(read(Format::Corim, &claimed), "document");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_is_never_a_document(bytes in vec(any::<u8>(), 0..300)) {
        for format in FORMATS {
            prop_assert_ne!(read(format, &bytes), "ok");
        }
        let outcome = fresh().import(&bytes, &TrustAnchors::default(), &waived());
        prop_assert_eq!(kind(&outcome), "document");
    }

    #[test]
    fn altered_documents_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let (key, _) = p256("p");
        let signed = crate::sign_set(&set("s", 1, json!({"a": [1]})), "p", &key).unwrap().into_bytes();
        let statement = provenance("https://slsa.dev/provenance/v1");
        let plain = br#"{"a":[1,{"b":2}],"c":"d"}"#.to_vec();
        for (format, document) in [
            (Format::Corim, corim(1, Some(NOW + 1))),
            (Format::Cocoon, signed),
            (Format::InToto, statement),
            (Format::Sample, plain),
        ] {
            let mut altered = document.clone();
            altered[at.index(document.len())] = byte;
            read(format, &altered);
            prop_assert_ne!(read(format, &document[..cut.index(document.len())]), "ok");
        }
    }

    #[test]
    fn records_round_trip(text in "[ -~]{0,40}", number in any::<i64>(), list in vec(any::<bool>(), 0..5)) {
        let document = json!({ "n": [text, number, list.clone(), {"o": list}], "s": text }).to_string();
        let references = fresh();
        references.import(&message(Format::Sample, &document), &TrustAnchors::default(), &waived()).unwrap();
        let document: Value = serde_json::from_str(&document).unwrap();
        for name in ["n", "s"] {
            prop_assert_eq!(references.lookup(name, NOW).unwrap(), Some(document[name].clone()));
        }
    }
}
