//! The JSON of bundles (protobuf-specs, sigstore_bundle.proto), versions 0.1 to 0.3.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_evidence::x509::Certificate;
use serde::Deserialize;
use serde_json::Value;

use cocoon_image::Error;

use super::entry::{Entry, Proof};
use super::{MAX_BUNDLE_BYTES, wrong};
use crate::policy::line;

const MAX_VALUES: usize = 5_000;
const MAX_CHAIN: usize = 8;
const MAX_ENTRIES: usize = 8;
const MAX_TIMESTAMPS: usize = 8;
/// Most hashes of a proof: a tree of 2^64 leaves.
const MAX_HASHES: usize = 64;

/// A bundle, unverified.
#[derive(Debug)]
pub(super) struct Bundle {
    /// The signer's certificate; `None` where a key is expected to be known.
    pub leaf: Option<Certificate>,
    /// Certificates above it.
    pub chain: Vec<Certificate>,
    /// Entries of logs.
    pub entries: Vec<Entry>,
    /// RFC 3161 time stamps.
    pub timestamps: Vec<Vec<u8>>,
    /// What is signed, and the signature.
    pub content: Signed,
}

/// What is signed.
#[derive(Debug)]
pub(super) enum Signed {
    /// A message that is not in the bundle.
    Message {
        /// Its SHA-256, where the bundle says one.
        sha256: Option<[u8; 32]>,
        /// The signature.
        signature: Vec<u8>,
    },
    /// A DSSE envelope.
    Dsse {
        /// `payloadType`.
        payload_type: String,
        /// The payload.
        payload: Vec<u8>,
        /// The only signature.
        signature: Vec<u8>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    media_type: String,
    verification_material: Material,
    message_signature: Option<MessageSignature>,
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    certificate: Option<Raw>,
    x509_certificate_chain: Option<Chain>,
    public_key: Option<Value>,
    tlog_entries: Option<Vec<EntryWire>>,
    timestamp_verification_data: Option<Timestamps>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    raw_bytes: Bytes,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<Raw>,
}

#[derive(Deserialize)]
struct Timestamps {
    #[serde(rename = "rfc3161Timestamps")]
    rfc3161: Option<Vec<Timestamp>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Timestamp {
    signed_timestamp: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageSignature {
    message_digest: Option<MessageDigest>,
    signature: Bytes,
}

#[derive(Deserialize)]
struct MessageDigest {
    algorithm: String,
    digest: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: Bytes,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryWire {
    log_index: Option<Number>,
    log_id: LogId,
    kind_version: Option<KindVersion>,
    integrated_time: Option<Number>,
    inclusion_promise: Option<Promise>,
    inclusion_proof: Option<ProofWire>,
    canonicalized_body: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogId {
    key_id: Bytes,
}

#[derive(Deserialize)]
struct KindVersion {
    kind: String,
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Promise {
    signed_entry_timestamp: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProofWire {
    log_index: Option<Number>,
    tree_size: Number,
    root_hash: Bytes,
    hashes: Option<Vec<Bytes>>,
    checkpoint: Checkpoint,
}

#[derive(Deserialize)]
struct Checkpoint {
    envelope: String,
}

/// Base64 in JSON.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Bytes(Vec<u8>);

impl TryFrom<String> for Bytes {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD.decode(text).map(Bytes).map_err(|_| "not base64")
    }
}

/// A 64-bit number, which protobuf writes as text in JSON; nothing is negative here.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(u64),
    Text(String),
}

impl Number {
    fn read(&self) -> Result<u64, Error> {
        match self {
            Number::Number(n) => Ok(*n),
            Number::Text(text) => text.parse().map_err(|_| wrong("the bundle is malformed: not a number")),
        }
    }
}

/// What protobuf leaves out is zero.
fn number(n: Option<&Number>) -> Result<u64, Error> {
    n.map_or(Ok(0), Number::read)
}

impl Bundle {
    pub(super) fn parse(json: &[u8]) -> Result<Self, Error> {
        let malformed = |why: String| wrong(format!("the bundle is malformed: {}", line(&why, 200)));
        let value = crate::strict::parse(json, MAX_BUNDLE_BYTES, MAX_VALUES).map_err(malformed)?;
        let wire = Wire::deserialize(value).map_err(|e| malformed(e.to_string()))?;
        let version = version(&wire.media_type).ok_or_else(|| {
            wrong(format!("a bundle of the kind {:?} is not known", line(&wire.media_type, 100)))
        })?;
        let Material {
            certificate,
            x509_certificate_chain,
            public_key,
            tlog_entries,
            timestamp_verification_data,
        } = wire.verification_material;
        let certificates = match (certificate, x509_certificate_chain, public_key) {
            (Some(one), None, None) => vec![one],
            (None, Some(chain), None) if version < 3 => chain.certificates,
            (None, None, Some(_)) => Vec::new(),
            _ => {
                return Err(malformed(
                    "it must have a key or a certificate, in its version's form".to_owned(),
                ));
            }
        };
        let entries = tlog_entries.unwrap_or_default();
        let timestamps = timestamp_verification_data.and_then(|t| t.rfc3161).unwrap_or_default();
        if certificates.len() > MAX_CHAIN || entries.len() > MAX_ENTRIES || timestamps.len() > MAX_TIMESTAMPS
        {
            return Err(malformed("too many certificates, log entries or time stamps".to_owned()));
        }
        let certificate = |raw: &Raw| {
            Certificate::parse(&raw.raw_bytes.0).map_err(|e| malformed(format!("a certificate: {e}")))
        };
        let mut chain: Vec<Certificate> = certificates.iter().map(certificate).collect::<Result<_, _>>()?;
        let leaf = if chain.is_empty() { None } else { Some(chain.remove(0)) };
        let content = match (wire.message_signature, wire.dsse_envelope) {
            (Some(message), None) => message.read()?,
            (None, Some(envelope)) => envelope.read()?,
            _ => {
                return Err(malformed("it must have either a message's signature or an envelope".to_owned()));
            }
        };
        let entries: Result<Vec<Entry>, Error> = entries.into_iter().map(|e| e.read(version)).collect();
        let timestamps = timestamps.into_iter().map(|t| t.signed_timestamp.0).collect();
        Ok(Bundle { leaf, chain, entries: entries?, timestamps, content })
    }
}

fn version(media_type: &str) -> Option<u8> {
    match media_type {
        "application/vnd.dev.sigstore.bundle+json;version=0.1" => Some(1),
        "application/vnd.dev.sigstore.bundle+json;version=0.2" => Some(2),
        "application/vnd.dev.sigstore.bundle+json;version=0.3" | super::BUNDLE_MEDIA_TYPE => Some(3),
        _ => None,
    }
}

impl MessageSignature {
    fn read(self) -> Result<Signed, Error> {
        let sha256 = match self.message_digest {
            Some(d) if d.algorithm == "SHA2_256" => {
                Some(d.digest.0.try_into().map_err(|_| wrong("the bundle's digest has a wrong length"))?)
            }
            _ => None,
        };
        Ok(Signed::Message { sha256, signature: self.signature.0 })
    }
}

impl Envelope {
    fn read(self) -> Result<Signed, Error> {
        let mut signatures = self.signatures.into_iter();
        let (Some(one), None) = (signatures.next(), signatures.next()) else {
            return Err(wrong("the bundle's envelope must have exactly one signature"));
        };
        Ok(Signed::Dsse { payload_type: self.payload_type, payload: self.payload.0, signature: one.sig.0 })
    }
}

impl EntryWire {
    fn read(self, version: u8) -> Result<Entry, Error> {
        let body = STANDARD
            .decode(&self.canonicalized_body)
            .map_err(|_| wrong("the bundle's log entry is not base64"))?;
        let kind = self.kind_version.ok_or_else(|| wrong("the bundle's log entry has no kind"))?;
        let proof = self.inclusion_proof.map(ProofWire::read).transpose()?;
        let promise = self.inclusion_promise.map(|p| p.signed_entry_timestamp.0);
        match version {
            1 if promise.is_none() => return Err(wrong("a bundle 0.1 must have the log's promise")),
            2.. if proof.is_none() => return Err(wrong("a bundle since 0.2 must have the log's proof")),
            _ => {}
        }
        Ok(Entry {
            body,
            body_base64: self.canonicalized_body,
            kind: (kind.kind, kind.version),
            index: number(self.log_index.as_ref())?,
            log_id: self.log_id.key_id.0,
            integrated: number(self.integrated_time.as_ref())?,
            promise,
            proof,
        })
    }
}

impl ProofWire {
    fn read(self) -> Result<Proof, Error> {
        let hashes = self.hashes.unwrap_or_default();
        if hashes.len() > MAX_HASHES {
            return Err(wrong("the bundle's proof is too long"));
        }
        let hashes: Result<Vec<_>, _> = hashes.into_iter().map(|h| h.0.try_into()).collect();
        Ok(Proof {
            index: number(self.log_index.as_ref())?,
            size: self.tree_size.read()?,
            root: self.root_hash.0,
            hashes: hashes.map_err(|_| wrong("the bundle's proof has a hash of a wrong length"))?,
            checkpoint: self.checkpoint.envelope,
        })
    }
}
