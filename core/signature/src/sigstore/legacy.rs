//! Cosign's signatures under a tag: a payload, and all else in annotations.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_evidence::x509::Certificate;
use serde::Deserialize;

use cocoon_image::Error;

use super::body::Content;
use super::entry::Entry;
use super::trust::Trust;
use super::verify::{Material, Message, prove, sha256_of};
use super::{Claim, MAX_BUNDLE_BYTES, wrong};
use crate::CosignSignature;
use crate::cosign::{MAX_PAYLOAD_BYTES, Payload};

/// Longest signature, base64.
const MAX_SIGNATURE_TEXT: usize = 8 * 1024;
/// Longest certificate or chain, PEM.
const MAX_PEM: usize = 64 * 1024;

/// Annotation `dev.sigstore.cosign/bundle`.
#[derive(Deserialize)]
struct BundleWire {
    #[serde(rename = "SignedEntryTimestamp")]
    promise: String,
    #[serde(rename = "Payload")]
    payload: PayloadWire,
}

#[derive(Deserialize)]
struct PayloadWire {
    body: String,
    #[serde(rename = "integratedTime")]
    integrated: u64,
    #[serde(rename = "logIndex")]
    index: u64,
    #[serde(rename = "logID")]
    log_id: String,
}

/// Annotation `dev.sigstore.cosign/rfc3161timestamp`.
#[derive(Deserialize)]
struct TimestampWire {
    #[serde(rename = "SignedRFC3161Timestamp")]
    stamp: String,
}

#[derive(Deserialize)]
struct BodyKind {
    kind: String,
    #[serde(rename = "apiVersion")]
    version: String,
}

/// Checks a signature that was found under a tag. The claim's digest and reference are the payload's; whether they are
/// the image's is the caller's question.
///
/// # Errors
/// [`Error::SignatureInvalid`] with the reason.
pub fn verify_legacy(trust: &Trust, found: &CosignSignature, now_unix: u64) -> Result<Claim, Error> {
    let payload = found.payload.as_slice();
    if u64::try_from(payload.len()).unwrap_or(u64::MAX) > MAX_PAYLOAD_BYTES
        || found.signature.len() > MAX_SIGNATURE_TEXT
    {
        return Err(wrong("the signature or its payload is too long"));
    }
    let signature = base64(found.signature.trim(), "the signature")?;
    let leaf = certificates(found.certificate.as_deref())?.into_iter().next();
    let chain = certificates(found.chain.as_deref())?;
    let entries: Vec<Entry> = found.bundle.as_deref().map(entry).transpose()?.into_iter().collect();
    let timestamps: Vec<Vec<u8>> = found.timestamp.as_deref().map(stamp).transpose()?.into_iter().collect();
    let material =
        Material { leaf: leaf.as_ref(), chain: &chain, entries: &entries, timestamps: &timestamps };
    let content = Content::Message { sha256: sha256_of(payload), bytes: Some(payload) };
    let (by, at_unix) = prove(trust, &material, Message::Bytes(payload), content, &signature, now_unix)?;
    // The payload is parsed only after it is known to come from the signer.
    let payload = Payload::parse(payload)?;
    Ok(Claim { digest: payload.manifest_digest, reference: Some(payload.reference), by, at_unix })
}

fn base64(text: &str, what: &str) -> Result<Vec<u8>, Error> {
    STANDARD.decode(text).map_err(|_| wrong(format!("{what} is not base64")))
}

fn certificates(pem: Option<&str>) -> Result<Vec<Certificate>, Error> {
    match pem.map(str::trim).filter(|pem| !pem.is_empty()) {
        None => Ok(Vec::new()),
        Some(pem) if pem.len() > MAX_PEM => Err(wrong("the certificates are too long")),
        Some(pem) => {
            Certificate::parse_chain(pem.as_bytes()).map_err(|e| wrong(format!("the certificates: {e}")))
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(json: &[u8], what: &str) -> Result<T, Error> {
    let malformed = |why: String| wrong(format!("{what} is malformed: {why}"));
    let value = crate::strict::parse(json, MAX_BUNDLE_BYTES, 5_000).map_err(malformed)?;
    T::deserialize(value).map_err(|e| malformed(e.to_string()))
}

fn entry(json: &str) -> Result<Entry, Error> {
    let wire: BundleWire = parse(json.as_bytes(), "the log's promise")?;
    let body = base64(&wire.payload.body, "the log's record")?;
    let kind: BodyKind = parse(&body, "the log's record")?;
    Ok(Entry {
        body,
        body_base64: wire.payload.body,
        kind: (kind.kind, kind.version),
        index: wire.payload.index,
        log_id: hex::decode(&wire.payload.log_id).map_err(|_| wrong("the log's id is not hex"))?,
        integrated: wire.payload.integrated,
        promise: Some(base64(&wire.promise, "the log's promise")?),
        proof: None,
    })
}

fn stamp(json: &str) -> Result<Vec<u8>, Error> {
    let wire: TimestampWire = parse(json.as_bytes(), "the time stamp")?;
    base64(&wire.stamp, "the time stamp")
}
