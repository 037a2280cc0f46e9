//! Imports: sets, versions, previews, single values, what each format's values are called.

use super::*;
use crate::{Change, diff, sign_set};

fn signed(document: &SetDocument, key: &[u8]) -> Vec<u8> {
    message(Format::Cocoon, sign_set(document, "publisher-key", key).unwrap())
}

#[test]
fn a_sample_adds_and_overwrites() {
    let references = fresh();
    let sample = |v: Value| message(Format::Sample, v.to_string());
    let trust = TrustAnchors::default();
    assert_eq!(kind(&references.import(&sample(json!({"a": 1})), &trust, &options())), "unsigned");
    let set = references.import(&sample(json!({"a": ["x", 2], "b": {"c": [1]}})), &trust, &waived()).unwrap();
    assert_eq!((set.name.as_str(), set.source.as_str(), set.version, set.count), ("default", "sample", 1, 2));
    assert_eq!(set.signed_by, None);
    assert_eq!(references.lookup("a", NOW).unwrap(), Some(json!(["x", 2])));
    assert_eq!(references.lookup("b", NOW).unwrap(), Some(json!({"c": [1]})));
    let set = references.import(&sample(json!({"a": true})), &trust, &waived()).unwrap();
    assert_eq!(set.version, 2);
    assert_eq!(references.lookup("a", NOW).unwrap(), Some(json!(true)));
    assert!(references.lookup("b", NOW).unwrap().is_some(), "names not mentioned stay");
    assert_eq!(references.sets().unwrap(), [set]);
    for bad in [json!({}), json!([1]), json!({"a": null}), json!({"a#b": 1})] {
        assert!(references.import(&sample(bad), &trust, &waived()).is_err());
    }
}

#[test]
fn a_signed_set_is_replaced_as_a_whole_and_never_by_an_older_one() {
    let references = fresh();
    let (key, anchor) = p256("publisher-key");
    let trust = trusting(&[&anchor]);
    let one = signed(&set("guest-image 0.3.1", 5, json!({"a": ["1"], "b": ["2"]})), &key);
    let stored = references.import(&one, &trust, &options()).unwrap();
    assert_eq!((stored.version, stored.count, stored.signed_by.as_deref()), (5, 2, Some("publisher-key")));
    assert!(stored.digest.starts_with("sha256:") && stored.digest.len() == 71);
    let two = signed(&set("guest-image 0.3.1", 6, json!({"a": ["3"]})), &key);
    let changes = references.preview(&two, &trust, &options()).unwrap();
    let change = |name: &str, added: &[&str], removed: &[&str]| {
        let values = |v: &[&str]| v.iter().map(|v| json!(v)).collect();
        Change { name: name.into(), added: values(added), removed: values(removed) }
    };
    assert_eq!(changes, [change("a", &["3"], &["1"]), change("b", &[], &["2"])]);
    assert_eq!(references.accepted("b", NOW).unwrap(), [json!("2")], "a preview changes nothing");
    references.import(&two, &trust, &options()).unwrap();
    assert!(references.accepted("b", NOW).unwrap().is_empty());
    let records = references.set_records("guest-image 0.3.1", Some("publisher")).unwrap();
    assert_eq!((records.len(), records[0].version, records[0].registered_unix), (1, 2, NOW));
    assert_eq!(records[0].signed_by.as_deref(), Some("publisher-key"));

    assert_eq!(kind(&references.import(&one, &trust, &options())), "older");
    assert_eq!(kind(&references.preview(&one, &trust, &options())), "older");
    assert_eq!(references.accepted("a", NOW).unwrap(), [json!("3")]);
    let older = ImportOptions { allow_older: true, ..options() };
    assert_eq!(references.import(&one, &trust, &older).unwrap().version, 5);
    let other = signed(&set("guest-image 0.3.2", 1, json!({"a": ["9"]})), &key);
    references.import(&other, &trust, &options()).unwrap();
    assert_eq!(references.accepted("a", NOW).unwrap(), [json!("1"), json!("9")]);
    assert_eq!(references.set("guest-image 0.3.1").unwrap().len(), 1);
    assert_eq!(references.delete_set("guest-image 0.3.1").unwrap(), 2);
    assert_eq!(references.accepted("a", NOW).unwrap(), [json!("9")]);
    assert_eq!(references.sets().unwrap().len(), 1);
}

#[test]
fn a_signed_set_keeps_its_name_source_and_end() {
    let references = fresh();
    let (key, anchor) = ed25519("publisher-key");
    let trust = trusting(&[&anchor]);
    let document = SetDocument { expires_unix: Some(NOW + 50), ..set("s", 1, json!({"a": "1"})) };
    let signed = signed(&document, &key);
    for (set, source) in [(Some("t"), None), (None, Some("x"))] {
        let asked = ImportOptions { set: set.map(Into::into), source: source.map(Into::into), ..options() };
        assert_eq!(kind(&references.import(&signed, &trust, &asked)), "document");
    }
    let until = |now_unix, expires_unix| ImportOptions { now_unix, expires_unix, ..options() };
    let set = references.import(&signed, &trust, &until(NOW, Some(NOW + 99))).unwrap();
    assert_eq!(set.expires_unix, Some(NOW + 50));
    let set = references.import(&signed, &trust, &until(NOW, Some(NOW + 10))).unwrap();
    assert_eq!(set.expires_unix, Some(NOW + 10));
    assert_eq!(references.lookup("a", NOW + 9).unwrap(), Some(json!("1")));
    assert_eq!(references.lookup("a", NOW + 10).unwrap(), None);
    assert_eq!(kind(&references.import(&signed, &trust, &until(NOW + 50, None))), "validity");
}

#[test]
fn corims_give_the_names_of_the_field() {
    let references = fresh();
    let trust = TrustAnchors::default();
    let wrapped = [&[0xd9, 0x01, 0xf4, 0xd9, 0x01, 0xf6][..], &corim(3, None)].concat();
    for document in [corim(3, None), wrapped] {
        let set = references.import(&message(Format::Corim, document), &trust, &waived()).unwrap();
        assert_eq!((set.name.as_str(), set.version, set.count), ("acme-rim", 3, 2));
    }
    assert_eq!(references.lookup(EXAMPLE_NAME, NOW).unwrap(), Some(json!([EXAMPLE_DIGEST])));
    let raw = references.lookup("ACME/RoadRunner/claim7/fw/s1/raw_bytes", NOW).unwrap();
    assert_eq!(raw, Some(json!("ab01")));
    let older = message(Format::Corim, corim(2, None));
    assert_eq!(kind(&references.import(&older, &trust, &waived())), "older");
    let ended = message(Format::Corim, corim(4, Some(NOW)));
    assert_eq!(kind(&references.import(&ended, &trust, &waived())), "validity");
    let ending = message(Format::Corim, corim(4, Some(NOW + 5)));
    assert_eq!(references.import(&ending, &trust, &waived()).unwrap().expires_unix, Some(NOW + 5));
}

#[test]
fn provenance_names_its_subjects_and_nothing_else_does() {
    let references = fresh();
    let trust = TrustAnchors::default();
    let import = |document: &[u8]| references.import(&message(Format::InToto, document), &trust, &waived());
    import(&provenance("https://slsa.dev/provenance/v1")).unwrap();
    assert_eq!(references.lookup("guest.img", NOW).unwrap(), Some(json!(["ab".repeat(32)])));
    assert_eq!(kind(&import(&provenance("https://slsa.dev/verification_summary/v1"))), "document");
    let text = String::from_utf8(provenance("https://slsa.dev/provenance/v1")).unwrap();
    assert_eq!(kind(&import(text.replace("AB", "A").as_bytes())), "document");
    assert_eq!(kind(&import(text.replace("sha256", "md5").as_bytes())), "document");
    assert_eq!(kind(&import(text.replace("Statement/v1", "Statement/v9").as_bytes())), "document");
}

#[test]
fn differences() {
    let old =
        [value("a", "x", json!([1, 2, 2])), value("a", "y", json!([3])), value("same", "x", json!([1]))];
    let new =
        [value("a", "x", json!([3, 4])), value("same", "z", json!([1])), value("n", "x", json!([{"b": 1}]))];
    let wanted = [
        Change { name: "a".into(), added: vec![json!(4)], removed: vec![json!(1), json!(2)] },
        Change { name: "n".into(), added: vec![json!({"b": 1})], removed: vec![] },
    ];
    assert_eq!(diff(&old, &new), wanted);
    assert!(diff(&old, &old).is_empty());
}
