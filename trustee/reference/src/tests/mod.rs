//! Tests of the crate as its callers see it, one file per question.

mod hostile;
mod imports;
mod records;
mod signatures;
mod swid;

use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use ciborium::Value as Cbor;
use cocoon_store::MemoryStore;
use serde_json::{Value, json};

use crate::{
    AnchorKey, Error, Format, ImportOptions, ReferenceValue, ReferenceValues, SetDocument, TrustAnchors,
};

/// A time at which the tests' certificates are valid: 2026-01-01.
pub const NOW: u64 = 1_767_225_600;

pub fn fresh() -> ReferenceValues {
    ReferenceValues::new(Arc::new(MemoryStore::new()))
}

pub fn value(name: &str, source: &str, values: Value) -> ReferenceValue {
    let values = values.as_array().unwrap().clone();
    ReferenceValue {
        name: name.into(),
        values,
        source: source.into(),
        registered_unix: 1,
        ..Default::default()
    }
}

pub fn message(format: Format, document: impl AsRef<[u8]>) -> Vec<u8> {
    crate::message(format, document.as_ref()).into_bytes()
}

pub fn options() -> ImportOptions {
    ImportOptions { now_unix: NOW, ..Default::default() }
}

pub fn waived() -> ImportOptions {
    ImportOptions { unsigned_ok: true, ..options() }
}

/// Private key (PKCS#8) and the anchor that trusts it.
pub fn p256(id: &str) -> (Vec<u8>, AnchorKey) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let key = AnchorKey { id: id.into(), key: public.as_ref().to_vec() };
    (pair.to_pkcs8v1().unwrap().as_ref().to_vec(), key)
}

pub fn ed25519(id: &str) -> (Vec<u8>, AnchorKey) {
    let pair = Ed25519KeyPair::generate().unwrap();
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let key = AnchorKey { id: id.into(), key: public.as_ref().to_vec() };
    (pair.to_pkcs8().unwrap().as_ref().to_vec(), key)
}

pub fn trusting(keys: &[&AnchorKey]) -> TrustAnchors {
    TrustAnchors { keys: keys.iter().map(|k| (*k).clone()).collect(), certificates: Vec::new() }
}

pub fn set(name: &str, version: u64, values: Value) -> SetDocument {
    SetDocument {
        set: name.into(),
        version,
        source: "publisher".into(),
        expires_unix: None,
        values: values.as_object().unwrap().clone(),
    }
}

/// The outcome in a word.
pub fn kind<T: std::fmt::Debug>(outcome: &Result<T, Error>) -> &'static str {
    match outcome {
        Ok(_) => "ok",
        Err(Error::TooLarge { .. }) => "large",
        Err(Error::Document { .. }) => "document",
        Err(Error::Unsigned(_)) => "unsigned",
        Err(Error::Untrusted(_)) => "untrusted",
        Err(Error::Signature(_)) => "signature",
        Err(Error::Validity(_)) => "validity",
        Err(Error::Older { .. }) => "older",
        Err(Error::Key { .. }) => "key",
        Err(Error::ReferenceValue { .. }) => "value",
        Err(_) => "other",
    }
}

pub fn cbor(value: &Cbor) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

pub fn map(entries: Vec<(i64, Cbor)>) -> Cbor {
    Cbor::Map(entries.into_iter().map(|(label, value)| (Cbor::from(label), value)).collect())
}

pub const EXAMPLE_NAME: &str = "ACME/RoadRunner/31fb5abf-023e-4992-aa4e-95f9c1503bfa/digests";
pub const EXAMPLE_DIGEST: &str = "a3a5e715f0cc574a73c3f9bebb6bc24f32ffd5b67b387244c2c909da779a1478";

/// A CoRIM like the specification's example: one measured element by UUID, and others.
pub fn corim(version: u64, not_after: Option<u64>) -> Vec<u8> {
    let uuid = Cbor::Tag(37, Box::new(Cbor::Bytes(hex::decode("31fb5abf023e4992aa4e95f9c1503bfa").unwrap())));
    let digest = |hex: &str| Cbor::Array(vec![Cbor::from(1), Cbor::Bytes(hex::decode(hex).unwrap())]);
    let raw = Cbor::Tag(560, Box::new(Cbor::Bytes(vec![0xab, 1])));
    let measurements = Cbor::Array(vec![
        map(vec![(0, uuid.clone()), (1, map(vec![(2, Cbor::Array(vec![digest(EXAMPLE_DIGEST)]))]))]),
        map(vec![(0, Cbor::from(7)), (1, map(vec![(4, raw), (11, "fw".into()), (8, "s1".into())]))]),
        // Kinds that are not understood: passed over.
        map(vec![
            (0, Cbor::Tag(999, Box::new("x".into()))),
            (1, map(vec![(2, Cbor::Array(vec![digest("aa")]))])),
        ]),
        map(vec![(1, map(vec![(1, Cbor::from(3))]))]),
    ]);
    let class = map(vec![(1, "ACME".into()), (2, "RoadRunner".into())]);
    let triple = Cbor::Array(vec![map(vec![(0, class)]), measurements]);
    let comid = map(vec![
        (1, map(vec![(0, "tag".into()), (1, Cbor::from(version))])),
        (4, map(vec![(0, Cbor::Array(vec![triple]))])),
    ]);
    let tag = Cbor::Tag(506, Box::new(Cbor::Bytes(cbor(&comid))));
    let mut corim = vec![(0, "acme-rim".into()), (1, Cbor::Array(vec![tag]))];
    if let Some(end) = not_after {
        corim.push((4, map(vec![(1, Cbor::Tag(1, Box::new(Cbor::from(end))))])));
    }
    cbor(&Cbor::Tag(501, Box::new(map(corim))))
}

pub fn provenance(predicate: &str) -> Vec<u8> {
    json!({
        "_type": "https://in-toto.io/Statement/v1", "predicateType": predicate, "predicate": {},
        "subject": [{ "name": "guest.img", "digest": { "sha256": "AB".repeat(32), "sha1": "00" } }],
    })
    .to_string()
    .into_bytes()
}
