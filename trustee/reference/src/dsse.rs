//! DSSE v1 envelopes: `{"payloadType","payload","signatures":[{"keyid","sig"}]}`, signed over the PAE.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::{Deserialize, Serialize};

use crate::document::{Format, Judge, refused};
use crate::trust::{Form, Kind, PublicKey, Scheme};
use crate::{Error, json};

/// Most signatures of an envelope.
const MAX_SIGNATURES: usize = 8;

/// An envelope as it is written.
#[derive(Serialize, Deserialize)]
pub(crate) struct Envelope {
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    pub payload: String,
    pub signatures: Vec<Signature>,
}

/// One signature of an envelope.
#[derive(Serialize, Deserialize)]
pub(crate) struct Signature {
    /// A hint; may be missing or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub keyid: String,
    pub sig: String,
}

/// What is signed: the pre-authentication encoding of type and payload.
pub(crate) fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut pae = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    pae.extend_from_slice(payload);
    pae
}

/// The payload of an envelope of this type, and who signed it (`None`: nobody trusted, and that was waived).
pub(crate) fn open(
    format: Format,
    document: &[u8],
    payload_type: &str,
    judge: &Judge<'_>,
) -> Result<(Vec<u8>, Option<String>), Error> {
    let envelope: Envelope = json::parse(format.as_str(), document)?;
    if envelope.payload_type != payload_type {
        return Err(refused(format, format!("the payload's type is not {payload_type}")));
    }
    let payload = base64(&envelope.payload).ok_or_else(|| refused(format, "the payload is not base64"))?;
    if envelope.signatures.len() > MAX_SIGNATURES {
        return Err(refused(format, "more than 8 signatures"));
    }
    if envelope.signatures.is_empty() {
        return Ok((payload, judge.unsigned(format)?));
    }
    let verified = verify(&envelope.signatures, &pae(payload_type, &payload), judge);
    Ok((payload, judge.signer(verified)?))
}

/// The id of the first trusted key that made one of the signatures. A signature that names a trusted key must be that
/// key's.
fn verify(signatures: &[Signature], signed: &[u8], judge: &Judge<'_>) -> Result<String, Error> {
    let keys = judge.trust.keys()?;
    let mut signer = None;
    for signature in signatures {
        let bytes = base64(&signature.sig).ok_or(Error::Signature("it is not base64"))?;
        let named = keys.iter().find(|(id, _)| *id == signature.keyid);
        if let Some((id, key)) = named {
            if !fits(key, signed, &bytes) {
                return Err(Error::Signature("it does not fit the document and the key it names"));
            }
            signer.get_or_insert(*id);
        } else if let Some((id, _)) = keys.iter().find(|(_, key)| fits(key, signed, &bytes)) {
            signer.get_or_insert(*id);
        }
    }
    signer.map(str::to_owned).ok_or(Error::Untrusted("no trusted key made a signature of this document"))
}

fn fits(key: &PublicKey, signed: &[u8], signature: &[u8]) -> bool {
    let schemes: &[Scheme] = match key.kind {
        Kind::P256 => &[Scheme::EcdsaSha256(Form::Asn1)],
        Kind::P384 => &[Scheme::EcdsaSha384(Form::Asn1), Scheme::EcdsaSha256(Form::Asn1)],
        Kind::Ed25519 => &[Scheme::Ed25519],
        Kind::Rsa => &[Scheme::RsaPssSha256, Scheme::RsaSha256],
    };
    schemes.iter().any(|scheme| key.verifies(*scheme, signed, signature))
}

/// Standard or URL-safe base64; the specification allows both.
fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}
