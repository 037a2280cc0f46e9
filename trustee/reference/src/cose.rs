//! COSE_Sign1 (RFC 9052) with the key named by `kid` or carried as `x5chain` (RFC 9360).

use ciborium::Value;
use coset::{Algorithm, CborSerializable, ContentType, CoseSign1, Label, iana};

use crate::Error;
use crate::certificate::{parse_chain, trusted_signer};
use crate::document::{Format, Judge, refused};
use crate::trust::{Form, PublicKey, Scheme};

const FORMAT: Format = Format::Corim;
/// Header label of `x5chain`.
const X5CHAIN: i64 = 33;
/// Header label of the CoRIM's own metadata, a byte string that holds a CBOR map.
const CORIM_META: i64 = 8;

/// A signed payload.
pub(crate) struct Signed {
    pub payload: Vec<u8>,
    /// `corim-meta`, CBOR, if the signed header has it.
    pub meta: Option<Vec<u8>>,
    /// Who signed; `None` for somebody untrusted, if that was waived.
    pub signed_by: Option<String>,
}

/// Reads a COSE_Sign1, without its tag 18, and judges its signature.
pub(crate) fn open(bytes: &[u8], judge: &Judge<'_>) -> Result<Signed, Error> {
    let sign1 = CoseSign1::from_slice(bytes).map_err(|_| refused(FORMAT, "not a COSE_Sign1"))?;
    let header = &sign1.protected.header;
    if !header.crit.is_empty() {
        return Err(refused(FORMAT, "has critical headers that are not known"));
    }
    match &header.content_type {
        None => {}
        Some(ContentType::Text(text))
            if matches!(text.as_str(), "application/rim+cbor" | "application/corim-unsigned+cbor") => {}
        Some(_) => return Err(refused(FORMAT, "the signed content is not a CoRIM")),
    }
    let Some(payload) = sign1.payload.clone() else {
        return Err(refused(FORMAT, "the signed content is not in the document"));
    };
    let scheme = match &header.alg {
        Some(Algorithm::Assigned(iana::Algorithm::ES256)) => Ok(Scheme::EcdsaSha256(Form::Fixed)),
        Some(Algorithm::Assigned(iana::Algorithm::ES384)) => Ok(Scheme::EcdsaSha384(Form::Fixed)),
        Some(Algorithm::Assigned(iana::Algorithm::EdDSA)) => Ok(Scheme::Ed25519),
        _ => Err(Error::Untrusted("the algorithm is none of ES256, ES384, EdDSA")),
    };
    let signed_by = judge.signer(scheme.and_then(|scheme| verify(&sign1, scheme, judge)))?;
    let meta = match label(&header.rest, CORIM_META) {
        None => None,
        Some(Value::Bytes(meta)) => Some(meta.clone()),
        Some(_) => return Err(refused(FORMAT, "corim-meta is not a byte string")),
    };
    Ok(Signed { payload, meta, signed_by })
}

fn verify(sign1: &CoseSign1, scheme: Scheme, judge: &Judge<'_>) -> Result<String, Error> {
    let signed = sign1.tbs_data(&[]);
    let fits = |key: &PublicKey| {
        if key.verifies(scheme, &signed, &sign1.signature) {
            Ok(())
        } else {
            Err(Error::Signature("it does not fit the document and the signer's key"))
        }
    };
    let (protected, unprotected) = (&sign1.protected.header, &sign1.unprotected);
    let chain = label(&protected.rest, X5CHAIN).or_else(|| label(&unprotected.rest, X5CHAIN));
    if let Some(chain) = chain {
        let chain = parse_chain(certificates(chain)?.into_iter())?;
        fits(chain.first().ok_or(Error::Untrusted("it has no certificate"))?.key())?;
        return trusted_signer(&chain, judge.trust, judge.now_unix);
    }
    let kid = if protected.key_id.is_empty() { &unprotected.key_id } else { &protected.key_id };
    if kid.is_empty() {
        return Err(Error::Untrusted("neither kid nor x5chain names it"));
    }
    let keys = judge.trust.keys()?;
    let (id, key) = keys
        .iter()
        .find(|(id, _)| id.as_bytes() == kid.as_slice())
        .ok_or(Error::Untrusted("no trusted key has its kid"))?;
    fits(key)?;
    Ok((*id).to_owned())
}

fn certificates(chain: &Value) -> Result<Vec<&[u8]>, Error> {
    let malformed = || refused(FORMAT, "x5chain is not one certificate or a list of them");
    match chain {
        Value::Bytes(one) => Ok(vec![one]),
        Value::Array(list) => {
            list.iter().map(|c| c.as_bytes().map(Vec::as_slice).ok_or_else(malformed)).collect()
        }
        _ => Err(malformed()),
    }
}

fn label(rest: &[(Label, Value)], wanted: i64) -> Option<&Value> {
    rest.iter().find(|(label, _)| *label == Label::Int(wanted)).map(|(_, value)| value)
}
