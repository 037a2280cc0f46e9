//! Bundles between machines: what goes in comes out, and nothing else does.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::LazyLock;

use cocoon_collateral::{Entry, Error, bundle};
use cocoon_evidence::collateral::Document;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{DAY, IDENTITY, JUNE, chain, chip, folder, identity, vcek};

fn entries() -> Vec<Entry> {
    static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(made);
    ENTRIES.clone()
}

fn made() -> Vec<Entry> {
    let identity = Document { body: identity(JUNE, JUNE + 30 * DAY, "a"), issuer_chain: chain() };
    let leaf = Document { body: vcek(&chip(1)), issuer_chain: String::new() };
    vec![
        Entry::new(chip(1), leaf, "kds.example", JUNE + 1).unwrap(),
        Entry::new(IDENTITY, identity, "pcs.example", JUNE + 2).unwrap(),
    ]
}

fn changed(change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(&bundle::export(&entries(), JUNE).unwrap()).unwrap();
    change(&mut value);
    value.to_string().into_bytes()
}

#[test]
fn documents_come_through_and_none_replaces_a_newer_one() {
    let bytes = bundle::export(&entries(), JUNE).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let folder = folder(dir.path());
    let imported = bundle::import(&bytes, &folder, JUNE + 10).unwrap();
    assert_eq!((imported.stored.len(), imported.kept.len(), imported.refused.len()), (2, 0, 0));
    assert_eq!(folder.list(), entries());

    let newer = Document { body: identity(JUNE + 5, JUNE + 31 * DAY, "b"), issuer_chain: chain() };
    let newer = Entry::new(IDENTITY, newer, "x", JUNE + 5).unwrap();
    folder.offer(&newer, false).unwrap();
    let imported = bundle::import(&bytes, &folder, JUNE + 10).unwrap();
    assert_eq!(imported.kept, ["intel-qe-identity tdx"]);
    assert_eq!(folder.read(&IDENTITY), Some(newer));
}

#[test]
fn the_form_is_what_it_was() {
    let value: Value = serde_json::from_slice(&bundle::export(&entries(), JUNE).unwrap()).unwrap();
    assert_eq!(value["format"], "cocoon-collateral");
    assert_eq!(value["version"], 1);
    let document = &value["documents"][1];
    assert_eq!(document["need"], json!({"kind": "intel-qe-identity", "tee": "tdx"}));
    assert_eq!(document["fetched_unix"], JUNE + 2);
    assert_eq!(document["valid_until_unix"], JUNE + 30 * DAY);
    assert_eq!(document["from"], "pcs.example");
}

#[test]
fn what_is_no_bundle_is_refused_whole() {
    let over = vec![b' '; bundle::MAX_BUNDLE + 1];
    for bytes in [
        b"".to_vec(),
        b"{}".to_vec(),
        b"[]".to_vec(),
        b"\xff\xfe".to_vec(),
        over,
        "[".repeat(100_000).into_bytes(),
        changed(|v| v["version"] = json!(2)),
        changed(|v| v["format"] = json!("other")),
        changed(|v| v["documents"] = json!({})),
        changed(|v| v["\u{1b}[31m evil"] = json!(1)),
        changed(|v| v["documents"][0]["need"]["kind"] = json!("amd-ark")),
        changed(|v| v["documents"][0]["surprise"] = json!(1)),
        changed(|v| v["documents"][0]["fetched_unix"] = json!(-1)),
    ] {
        let error = bundle::read(&bytes, JUNE).unwrap_err();
        let Error::Bundle(text) = &error else { panic!("{error:?}") };
        assert!(text.len() < 300 && text.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{text:?}");
    }
}

#[test]
fn a_bad_document_keeps_no_good_one_out() {
    type Change = Box<dyn Fn(&mut Value)>;
    let cases: [(&str, Change); 10] = [
        ("chip_id", Box::new(|d| d["need"]["chip_id"] = json!("../../../etc/passwd"))),
        ("another chip", Box::new(|d| d["need"]["chip_id"] = json!("ab".repeat(64)))),
        ("another chip", Box::new(|d| d["need"]["tcb"]["snp"] = json!(9))),
        ("product", Box::new(|d| d["need"]["product"] = json!("Rome\u{7}"))),
        ("base64", Box::new(|d| d["body"] = json!("%%%"))),
        ("certificate", Box::new(|d| d["body"] = json!("AAAA"))),
        ("certificate", Box::new(|d| d["body"] = json!(""))),
        ("larger", Box::new(|d| d["body"] = json!("A".repeat(40_000)))),
        ("damaged", Box::new(|d| d["sha256"] = json!("00"))),
        ("larger", Box::new(|d| d["issuer_chain"] = json!("x".repeat(70_000)))),
    ];
    for (reason, change) in cases {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(&dir.path().join("cache"));
        let bytes = changed(|v| change(&mut v["documents"][0]));
        let imported = bundle::import(&bytes, &folder, JUNE + 10).unwrap();
        assert_eq!(imported.stored, ["intel-qe-identity tdx"], "{reason}");
        assert!(imported.refused[0].reason.contains(reason), "{reason}: {:?}", imported.refused);
        assert!(imported.refused[0].need.chars().all(|c| !c.is_control()), "{:?}", imported.refused);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(folder.list().len(), 1);
    }
}

#[test]
fn times_to_come_are_not_believed() {
    let bytes = changed(|v| {
        v["documents"][0]["fetched_unix"] = json!(u64::MAX);
        v["documents"][1]["valid_until_unix"] = json!(u64::MAX);
    });
    let contents = bundle::read(&bytes, JUNE + 10).unwrap();
    assert_eq!(contents.entries[0].fetched_unix, JUNE + 10);
    assert_eq!(
        contents.entries[1].validity.unwrap().not_after,
        JUNE + 30 * DAY,
        "the document says it itself"
    );
    let contents = bundle::read(&bytes, JUNE - 3 * DAY).unwrap();
    assert_eq!(contents.refused[0].reason, "it begins in the future");
}

proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let _ = bundle::read(&bytes, JUNE);
        let mut bundle_bytes = bundle::export(&entries()[1..], JUNE).unwrap();
        let at = at.index(bundle_bytes.len());
        bundle_bytes[at] ^= 1 << bit;
        if let Ok(contents) = bundle::read(&bundle_bytes, JUNE + 10) {
            for entry in contents.entries {
                prop_assert_eq!(&entry.document, &entries()[1].document);
            }
        }
    }
}
