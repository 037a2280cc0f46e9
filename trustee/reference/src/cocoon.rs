//! Our own signed form: a set of reference values as JSON in a DSSE envelope, read and written.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::document::{Document, Entry, Format, Judge, refused};
use crate::value::printable;
use crate::{Error, ReferenceValue, dsse, json};

const FORMAT: Format = Format::Cocoon;
const PAYLOAD_TYPE: &str = "application/vnd.cocoon.reference-values+json";

/// A set of reference values as its publisher writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetDocument {
    /// Name of the set, e.g. `guest-image 0.3.1`; printable ASCII without `#`, up to 100.
    pub set: String,
    /// Version of the set; an older one does not replace a newer one.
    pub version: u64,
    /// Who publishes it; printable ASCII without `#`, up to 200.
    pub source: String,
    /// From when on it does not count, in seconds since 1970; `None` is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_unix: Option<u64>,
    /// Name to values: an array is a list of accepted values, anything else a single one.
    pub values: Map<String, Value>,
}

pub(crate) fn read(document: &[u8], judge: &Judge<'_>) -> Result<Document, Error> {
    let (payload, signed_by) = dsse::open(FORMAT, document, PAYLOAD_TYPE, judge)?;
    let set: SetDocument = json::parse(FORMAT.as_str(), &payload)?;
    let mut read = Document {
        set: Some(set.set),
        source: Some(set.source),
        version: Some(set.version),
        expires_unix: set.expires_unix,
        signed_by,
        ..Document::default()
    };
    for (name, value) in set.values {
        read.add(FORMAT, Entry::from_json(name, value))?;
    }
    Ok(read)
}

/// Signs a set: the DSSE envelope as JSON, the document of a [`Format::Cocoon`] message.
///
/// `key` is an unencrypted PKCS#8 private key in DER, P-256 or Ed25519, and secret; `key_id` the id under which readers
/// trust its public half, or empty: then they try all their keys.
///
/// # Errors
/// [`Error::Key`] for another kind of key (never quotes it); [`Error::Document`] and [`Error::ReferenceValue`] for what
/// no reader would take.
pub fn sign_set(set: &SetDocument, key_id: &str, key: &[u8]) -> Result<String, Error> {
    for (name, value) in &set.values {
        let Entry { name, values, single } = Entry::from_json(name.clone(), value.clone());
        let (source, set) = (set.source.clone(), set.set.clone());
        ReferenceValue { name, values, single, source, set, ..Default::default() }.check()?;
    }
    if set.values.is_empty() {
        return Err(refused(FORMAT, "holds no reference values"));
    }
    if !key_id.is_empty() && !printable(key_id, 100) {
        return Err(Error::Key {
            id: String::new(),
            reason: "an id has 1 to 100 printable ASCII characters without `#`",
        });
    }
    let payload = serde_json::to_vec(set).map_err(|_| refused(FORMAT, "cannot be written"))?;
    let signature = sign(&dsse::pae(PAYLOAD_TYPE, &payload), key).ok_or(Error::Key {
        id: key_id.to_owned(),
        reason: "not a P-256 or Ed25519 private key in PKCS#8",
    })?;
    let envelope = dsse::Envelope {
        payload_type: PAYLOAD_TYPE.to_owned(),
        payload: STANDARD.encode(payload),
        signatures: vec![dsse::Signature { keyid: key_id.to_owned(), sig: STANDARD.encode(signature) }],
    };
    serde_json::to_string(&envelope).map_err(|_| refused(FORMAT, "cannot be written"))
}

fn sign(message: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key) {
        return Some(pair.sign(&SystemRandom::new(), message).ok()?.as_ref().to_vec());
    }
    let pair =
        Ed25519KeyPair::from_pkcs8(key).or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(key)).ok()?;
    Some(pair.sign(message).as_ref().to_vec())
}
