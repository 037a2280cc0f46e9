//! The COSE envelope: a tagged COSE_Sign1 (RFC 9052, section 4.2).

use ciborium::Value;
use coset::iana::{self, EnumI64 as _};
use coset::{ContentType, CoseSign1, Label, RegisteredLabelWithPrivate, TaggedCborSerializable as _};

use super::headers::{AUTHENTIC_TIME, Algorithm, EXPIRY, Headers, SCHEME, SIGNING_TIME};
use super::{Envelope, PAYLOAD_TYPE};

/// RFC 9360: certificates, the signer's first.
const X5CHAIN: i64 = 33;

pub(super) fn parse(bytes: &[u8]) -> Result<Envelope, String> {
    let malformed = |e: coset::CoseError| format!("has a malformed COSE envelope: {e}");
    let sign1 = CoseSign1::from_tagged_slice(bytes).map_err(malformed)?;
    let header = &sign1.protected.header;
    let algorithm = match header.alg {
        Some(RegisteredLabelWithPrivate::Assigned(algorithm)) => match algorithm {
            iana::Algorithm::PS256 => Some(Algorithm::Ps256),
            iana::Algorithm::PS384 => Some(Algorithm::Ps384),
            iana::Algorithm::PS512 => Some(Algorithm::Ps512),
            iana::Algorithm::ES256 => Some(Algorithm::Es256),
            iana::Algorithm::ES384 => Some(Algorithm::Es384),
            iana::Algorithm::ES512 => Some(Algorithm::Es512),
            _ => None,
        },
        _ => None,
    };
    let algorithm = algorithm.ok_or("has an algorithm that is not supported")?;
    if header.content_type != Some(ContentType::Text(PAYLOAD_TYPE.to_owned())) {
        return Err("is not over a payload of Notation".to_owned());
    }
    let named = |name: &str| {
        header.rest.iter().find(|(label, _)| *label == Label::Text(name.to_owned())).map(|(_, value)| value)
    };
    let time = |name: &str| match named(name) {
        None => Ok(None),
        Some(value) => seconds(value).map(Some).ok_or("has a malformed time".to_owned()),
    };
    let critical: Vec<String> = header
        .crit
        .iter()
        .map(|label| match label {
            RegisteredLabelWithPrivate::Text(name) => name.clone(),
            RegisteredLabelWithPrivate::Assigned(label) => label.to_i64().to_string(),
            RegisteredLabelWithPrivate::PrivateUse(number) => number.to_string(),
        })
        .collect();
    let scheme = named(SCHEME).and_then(Value::as_text).ok_or("has no signing scheme")?;
    let headers = Headers::new(scheme, time(SIGNING_TIME)?, time(AUTHENTIC_TIME)?, time(EXPIRY)?, &critical)?;
    let chain = sign1.unprotected.rest.iter().find(|(label, _)| *label == Label::Int(X5CHAIN));
    let chain = match chain.map(|(_, value)| value) {
        Some(Value::Bytes(one)) => Some(vec![one.clone()]),
        Some(Value::Array(some)) => some.iter().map(|v| v.as_bytes().cloned()).collect(),
        _ => None,
    };
    Ok(Envelope {
        algorithm,
        headers,
        chain: chain.ok_or("has no certificates")?,
        message: sign1.tbs_data(&[]),
        payload: sign1.payload.ok_or("has no payload")?,
        signature: sign1.signature,
    })
}

/// An instant as CBOR tag 1 in whole seconds.
fn seconds(value: &Value) -> Option<u64> {
    let Value::Tag(1, inner) = value else { return None };
    u64::try_from(i128::from(inner.as_integer()?)).ok()
}
