//! What a log recorded, compared with the signature at hand.
//!
//! Kinds: `hashedrekord` 0.0.1 and 0.0.2, `dsse` 0.0.1 and 0.0.2, `intoto` 0.0.2 (github.com/sigstore/rekor, pkg/types;
//! rekor-tiles).

use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_evidence::x509::Certificate;
use serde_json::Value;

use crate::VerifyingKey;

/// What the log must have recorded.
pub(super) struct Expected<'a> {
    /// The signature's bytes.
    pub signature: &'a [u8],
    /// The key that made it.
    pub key: &'a VerifyingKey,
    /// The certificate that must have been recorded; `None` where the key alone counts.
    pub certificate: Option<&'a Certificate>,
    /// What was signed.
    pub content: Content<'a>,
}

/// What was signed.
pub(super) enum Content<'a> {
    /// A message: its SHA-256, and itself where it is at hand.
    Message { sha256: [u8; 32], bytes: Option<&'a [u8]> },
    /// The payload of a DSSE envelope, and the bytes that are signed for it.
    Dsse { payload: &'a [u8], pae: &'a [u8] },
}

impl<'a> Content<'a> {
    /// SHA-256 of what the signature is over, and that itself where it is at hand.
    fn signed(&self) -> ([u8; 32], Option<&'a [u8]>) {
        match *self {
            Content::Message { sha256, bytes } => (sha256, bytes),
            Content::Dsse { pae, .. } => (sha256_of(pae), Some(pae)),
        }
    }
}

/// Checks a recorded body; says why it is another signature's.
pub(super) fn check(body: &[u8], kind: &str, version: &str, expected: &Expected<'_>) -> Result<(), String> {
    let body = crate::strict::parse(body, super::MAX_BUNDLE_BYTES, 10_000)
        .map_err(|e| format!("the log's record is malformed: {e}"))?;
    let own = |name: &str| body.get(name).and_then(Value::as_str);
    if own("kind") != Some(kind) || own("apiVersion") != Some(version) {
        return Err("the log's record is of another kind than the bundle says".to_owned());
    }
    let at = |pointer: &str| body.pointer(pointer);
    match (kind, version, &expected.content) {
        ("hashedrekord", "0.0.1", content) => {
            let hash = at("/spec/data/hash").ok_or("the log's record has no hash")?;
            let (sha256, bytes) = content.signed();
            same_hash(hash, &sha256, bytes)?;
            same(at("/spec/signature/content"), expected.signature)?;
            verifier(at("/spec/signature/publicKey/content"), expected)
        }
        ("hashedrekord", "0.0.2", content) => {
            let record = at("/spec/hashedRekordV002").ok_or("the log's record is empty")?;
            same_digest(record.get("data"), &content.signed().0)?;
            let signature = record.get("signature").ok_or("the log's record has no signature")?;
            same(signature.get("content"), expected.signature)?;
            raw_verifier(signature.get("verifier"), expected)
        }
        ("dsse", "0.0.1", Content::Dsse { payload, .. }) => {
            let hash = at("/spec/payloadHash").ok_or("the log's record has no hash")?;
            same_hash(hash, &sha256_of(payload), Some(payload))?;
            let signature = only(at("/spec/signatures"))?;
            same(signature.get("signature"), expected.signature)?;
            verifier(signature.get("verifier"), expected)
        }
        ("dsse", "0.0.2", Content::Dsse { payload, .. }) => {
            let record = at("/spec/dsseV002").ok_or("the log's record is empty")?;
            same_digest(record.get("payloadHash"), &sha256_of(payload))?;
            let signature = only(record.get("signatures"))?;
            same(signature.get("content"), expected.signature)?;
            raw_verifier(signature.get("verifier"), expected)
        }
        ("intoto", "0.0.2", Content::Dsse { payload, .. }) => {
            let hash = at("/spec/content/payloadHash").ok_or("the log's record has no hash")?;
            same_hash(hash, &sha256_of(payload), Some(payload))?;
            let signature = only(at("/spec/content/envelope/signatures"))?;
            // This kind encodes the signature's base64 once more.
            let outer = bytes(signature.get("sig"))?;
            if outer != expected.signature
                && STANDARD.decode(&outer).ok().as_deref() != Some(expected.signature)
            {
                return Err("the log recorded another signature".to_owned());
            }
            verifier(signature.get("publicKey"), expected)
        }
        _ => Err(format!(
            "a log's record of kind {kind:?} {version:?} says nothing about this kind of signature"
        )),
    }
}

fn sha256_of(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

fn bytes(value: Option<&Value>) -> Result<Vec<u8>, String> {
    let text = value.and_then(Value::as_str).ok_or("the log's record lacks a member")?;
    STANDARD.decode(text).map_err(|_| "the log's record is not base64".to_owned())
}

fn same(value: Option<&Value>, signature: &[u8]) -> Result<(), String> {
    if bytes(value)? == signature { Ok(()) } else { Err("the log recorded another signature".to_owned()) }
}

fn only(value: Option<&Value>) -> Result<&Value, String> {
    match value.and_then(Value::as_array).map(Vec::as_slice) {
        Some([one]) => Ok(one),
        _ => Err("the log's record does not have exactly one signature".to_owned()),
    }
}

fn same_hash(hash: &Value, sha256: &[u8; 32], message: Option<&[u8]>) -> Result<(), String> {
    let part = |name: &str| hash.get(name).and_then(Value::as_str).unwrap_or_default();
    let own = match (part("algorithm"), message) {
        ("sha256", _) => sha256.to_vec(),
        ("sha384", Some(message)) => digest(&SHA384, message).as_ref().to_vec(),
        ("sha512", Some(message)) => digest(&SHA512, message).as_ref().to_vec(),
        _ => return Err("the log's record has a hash of an unknown kind".to_owned()),
    };
    if part("value") == hex::encode(own) { Ok(()) } else { Err("the log recorded another digest".to_owned()) }
}

fn same_digest(hash: Option<&Value>, sha256: &[u8; 32]) -> Result<(), String> {
    let hash = hash.ok_or("the log's record has no hash")?;
    if hash.get("algorithm").and_then(Value::as_str) != Some("SHA2_256") {
        return Err("the log's record has a hash of an unknown kind".to_owned());
    }
    if bytes(hash.get("digest"))? == sha256 {
        Ok(())
    } else {
        Err("the log recorded another digest".to_owned())
    }
}

/// A verifier in PEM, base64 once more.
fn verifier(value: Option<&Value>, expected: &Expected<'_>) -> Result<(), String> {
    let pem = String::from_utf8(bytes(value)?).map_err(|_| "the log's record has no PEM")?;
    if pem.contains("-----BEGIN CERTIFICATE-----") {
        let certificate = Certificate::parse_chain(pem.as_bytes()).ok();
        let first = certificate.as_ref().and_then(|c| c.first());
        return same_certificate(first, expected);
    }
    same_key(VerifyingKey::from_pem(&pem).ok(), expected)
}

/// A verifier in DER.
fn raw_verifier(value: Option<&Value>, expected: &Expected<'_>) -> Result<(), String> {
    let raw = |kind: &str| value.and_then(|v| v.get(kind)).map(|v| bytes(v.get("rawBytes")));
    match (raw("x509Certificate"), raw("publicKey")) {
        (Some(der), None) => same_certificate(Certificate::parse(&der?).ok().as_ref(), expected),
        (None, Some(der)) => same_key(VerifyingKey::from_der(&der?).ok(), expected),
        _ => Err("the log's record does not have exactly one verifier".to_owned()),
    }
}

fn same_certificate(recorded: Option<&Certificate>, expected: &Expected<'_>) -> Result<(), String> {
    let same = recorded.is_some_and(|recorded| match expected.certificate {
        Some(own) => own.der() == recorded.der(),
        None => recorded.spki() == expected.key.der(),
    });
    if same { Ok(()) } else { Err("the log recorded another certificate".to_owned()) }
}

fn same_key(recorded: Option<VerifyingKey>, expected: &Expected<'_>) -> Result<(), String> {
    if expected.certificate.is_none() && recorded.as_ref() == Some(expected.key) {
        return Ok(());
    }
    Err("the log recorded another key".to_owned())
}
