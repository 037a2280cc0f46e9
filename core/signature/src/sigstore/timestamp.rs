//! Time stamps (RFC 3161) over signatures: CMS SignedData (RFC 5652) around a TSTInfo.

use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use cocoon_evidence::x509::{Certificate, Hash, PublicKey, Scheme, path_for};
use const_oid::ObjectIdentifier;

use super::certificate::{TIME_STAMPING, has_usage};
use super::time;
use super::tlv::{self, Tlv};
use super::trust::Authority;

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
/// `[0]`, constructed.
const CONTEXT_0: u8 = 0xa0;
const MAX_ELEMENTS: usize = 32;
const MAX_CERTIFICATES: usize = 8;

/// The parts of a time stamp that matter.
struct Token<'a> {
    /// TSTInfo, DER.
    info: &'a [u8],
    certificates: Vec<Certificate>,
    signer: Signer<'a>,
}

struct Signer<'a> {
    digest_algorithm: &'a [u8],
    /// The signed attributes' content.
    attributes: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

/// The time at which one of the authorities saw the signature, Unix seconds; says why not. A stamp that is well-formed and
/// of this signature takes one of `chains`; with none left it is refused unseen.
pub(super) fn verify(
    response: &[u8],
    authorities: &[Authority],
    signature: &[u8],
    chains: &mut usize,
) -> Result<u64, &'static str> {
    let token = token(response).ok_or("the time stamp is malformed")?;
    let (imprint_algorithm, imprint, at) = info(token.info).ok_or("the time stamp's content is malformed")?;
    let (_, algorithm) = hash(imprint_algorithm).ok_or("the time stamp has a hash of an unknown kind")?;
    if digest(algorithm, signature).as_ref() != imprint {
        return Err("the time stamp is of another signature");
    }
    check_attributes(&token)?;
    *chains = chains.checked_sub(1).ok_or("there are too many time stamps")?;
    let signed = tlv::write(tlv::SET, token.signer.attributes);
    let mut fault = "the time stamp is not of a trusted authority";
    for authority in authorities {
        let pool = [&authority.intermediates[..], &token.certificates].concat();
        // The stamp's certificate may come along or be known already.
        for leaf in pool.iter().chain(&authority.roots).filter(|c| has_usage(c, TIME_STAMPING)) {
            if !signed_by(leaf, &token.signer, &signed) {
                continue;
            }
            match path_for(leaf, &pool, &authority.roots, TIME_STAMPING) {
                Ok(path) if path.expired(at).is_none() && authority.window.contains(at) => return Ok(at),
                Ok(_) => fault = "the time-stamping authority was not valid at that time",
                Err(_) => {}
            }
        }
    }
    Err(fault)
}

/// A TimeStampResp that was granted, or the bare token.
fn token(response: &[u8]) -> Option<Token<'_>> {
    let outer = tlv::only(response, tlv::SEQUENCE)?;
    let (first, rest) = tlv::split(outer)?;
    let content_info = if first.tag == tlv::SEQUENCE {
        let (status, _) = tlv::split(first.content)?;
        if status.tag != tlv::INTEGER || !matches!(status.content, [0 | 1]) {
            return None;
        }
        tlv::only(rest, tlv::SEQUENCE)?
    } else {
        outer
    };
    let (kind, rest) = tlv::split(content_info)?;
    if !is(&kind, SIGNED_DATA) {
        return None;
    }
    let data = tlv::all(tlv::only(tlv::only(rest, CONTEXT_0)?, tlv::SEQUENCE)?, MAX_ELEMENTS)?;
    let [_version, _digests, content, others @ ..] = data.as_slice() else { return None };
    let (kind, rest) = tlv::split(content.content)?;
    if !is(&kind, TST_INFO) {
        return None;
    }
    let info = tlv::only(tlv::only(rest, CONTEXT_0)?, tlv::OCTETS)?;
    let mut certificates = Vec::new();
    if let Some(set) = others.iter().find(|e| e.tag == CONTEXT_0) {
        for element in tlv::all(set.content, MAX_CERTIFICATES)? {
            certificates.push(Certificate::parse(element.whole).ok()?);
        }
    }
    let signers = others.last().filter(|e| e.tag == tlv::SET)?;
    Some(Token { info, certificates, signer: signer(tlv::only(signers.content, tlv::SEQUENCE)?)? })
}

fn signer(content: &[u8]) -> Option<Signer<'_>> {
    let elements = tlv::all(content, MAX_ELEMENTS)?;
    let [_version, _id, digest_algorithm, attributes, algorithm, signature, ..] = elements.as_slice() else {
        return None;
    };
    (attributes.tag == CONTEXT_0 && signature.tag == tlv::OCTETS).then_some(())?;
    Some(Signer {
        digest_algorithm: identifier(digest_algorithm)?,
        attributes: attributes.content,
        algorithm: identifier(algorithm)?,
        signature: signature.content,
    })
}

/// The object identifier of an AlgorithmIdentifier.
fn identifier<'a>(element: &Tlv<'a>) -> Option<&'a [u8]> {
    let (oid, _) = tlv::split(element.content)?;
    (element.tag == tlv::SEQUENCE && oid.tag == tlv::OID).then_some(oid.content)
}

fn is(element: &Tlv<'_>, oid: ObjectIdentifier) -> bool {
    element.tag == tlv::OID && element.content == oid.as_bytes()
}

/// Hash algorithm and hash of what was stamped, and when.
fn info(tst: &[u8]) -> Option<(&[u8], &[u8], u64)> {
    let elements = tlv::all(tlv::only(tst, tlv::SEQUENCE)?, MAX_ELEMENTS)?;
    let [version, _policy, imprint, _serial, at, ..] = elements.as_slice() else { return None };
    (version.content == [1] && at.tag == tlv::TIME).then_some(())?;
    let (algorithm, rest) = tlv::split(imprint.content)?;
    let at = time::generalized(std::str::from_utf8(at.content).ok()?)?;
    Some((identifier(&algorithm)?, tlv::only(rest, tlv::OCTETS)?, at))
}

/// The signed attributes must say that this content, and no other, is signed.
fn check_attributes(token: &Token<'_>) -> Result<(), &'static str> {
    let malformed = "the time stamp's attributes are malformed";
    let (_, algorithm) =
        hash(token.signer.digest_algorithm).ok_or("the time stamp has a hash of an unknown kind")?;
    let (mut kind, mut content) = (false, false);
    for attribute in tlv::all(token.signer.attributes, MAX_ELEMENTS).ok_or(malformed)? {
        let (oid, values) = tlv::split(attribute.content).ok_or(malformed)?;
        let value = tlv::only(values, tlv::SET);
        if is(&oid, CONTENT_TYPE) {
            kind = value.and_then(|v| tlv::only(v, tlv::OID)) == Some(TST_INFO.as_bytes());
        } else if is(&oid, MESSAGE_DIGEST) {
            content =
                value.and_then(|v| tlv::only(v, tlv::OCTETS)) == Some(digest(algorithm, token.info).as_ref());
        }
    }
    if kind && content { Ok(()) } else { Err("the time stamp's attributes are of another content") }
}

fn signed_by(leaf: &Certificate, signer: &Signer<'_>, signed: &[u8]) -> bool {
    let Ok(key) = leaf.key() else { return false };
    let oid = ObjectIdentifier::from_bytes(signer.algorithm).map(|o| o.to_string()).unwrap_or_default();
    let of_digest = hash(signer.digest_algorithm).map(|(h, _)| h);
    let hash = match oid.as_str() {
        "1.2.840.10045.4.3.2" | "1.2.840.113549.1.1.11" => Some(Hash::Sha256),
        "1.2.840.10045.4.3.3" | "1.2.840.113549.1.1.12" => Some(Hash::Sha384),
        "1.2.840.10045.4.3.4" | "1.2.840.113549.1.1.13" => Some(Hash::Sha512),
        // rsaEncryption, and id-ecPublicKey of careless writers: the hash is the digest's.
        "1.2.840.113549.1.1.1" | "1.2.840.10045.2.1" => of_digest,
        _ => None,
    };
    let scheme = match (&key, hash) {
        (PublicKey::Rsa(_), Some(hash)) => Scheme::RsaPkcs1(hash),
        (PublicKey::Ec(..), Some(hash)) => Scheme::Ecdsa(hash),
        _ => return false,
    };
    key.verifies(scheme, signed, signer.signature)
}

fn hash(oid: &[u8]) -> Option<(Hash, &'static Algorithm)> {
    match ObjectIdentifier::from_bytes(oid).ok()?.to_string().as_str() {
        "2.16.840.1.101.3.4.2.1" => Some((Hash::Sha256, &SHA256)),
        "2.16.840.1.101.3.4.2.2" => Some((Hash::Sha384, &SHA384)),
        "2.16.840.1.101.3.4.2.3" => Some((Hash::Sha512, &SHA512)),
        _ => None,
    }
}
