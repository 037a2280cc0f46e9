//! Notation's signatures (Notary Project signature specification 1.0): an envelope, JWS or COSE, over the descriptor of a
//! manifest, by a key whose certificates lead to a root that the caller trusts.
//!
//! A good envelope says: a trusted identity vouches for *this digest*. It names no image; comparing the digest is for the
//! caller.

mod chain;
mod cose;
mod headers;
mod identity;
mod jws;
mod time;

use std::collections::BTreeMap;

use cocoon_evidence::x509::Certificate;
use cocoon_image::{Digest, Error};
use serde::Deserialize;

use crate::NotationEnvelope;
use headers::{Algorithm, Headers, SigningScheme};
use identity::Identity;

/// Media type of a JWS envelope.
pub const JWS_TYPE: &str = "application/jose+json";
/// Media type of a COSE envelope.
pub const COSE_TYPE: &str = "application/cose";
/// The longest envelope, in bytes.
pub const MAX_ENVELOPE_BYTES: usize = 512 * 1024;
const PAYLOAD_TYPE: &str = "application/vnd.cncf.notary.payload.v1+json";
const MAX_PAYLOAD: usize = 64 * 1024;
const MAX_IDENTITIES: usize = 64;
const MAX_ROOTS: usize = 64;
/// How far ahead of our clock a signer's may be, in seconds.
const SKEW: u64 = 300;

/// Whose signatures count.
pub struct Trust {
    roots: Vec<Certificate>,
    authorities: Vec<Certificate>,
    /// `None`: any.
    identities: Option<Vec<Identity>>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").field("roots", &self.roots.len()).finish_non_exhaustive()
    }
}

/// What a verified envelope says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Digest of the signed manifest or index.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// What the signer added (`notation sign --user-metadata`).
    pub annotations: BTreeMap<String, String>,
    /// Subject of the signing certificate, for people.
    pub signer: String,
}

impl Trust {
    /// Trusts certificates (PEM, one or more in each text) as roots of the signing scheme `notary.x509`, and of what is
    /// signed under them these identities: `*` alone for all, or `x509.subject: C=…, ST=…, O=…` (RFC 4514), of which every
    /// attribute must be in the signing certificate's subject. Country, state and organisation must be named.
    ///
    /// # Errors
    /// [`Error::Key`] where there is no root or no identity, or one is malformed.
    pub fn new(roots_pem: &[String], identities: &[String]) -> Result<Trust, Error> {
        let roots = certificates(roots_pem)?;
        if roots.is_empty() {
            return Err(Error::Key("no root certificate is given for Notation".to_owned()));
        }
        let identities = match identities {
            [] => return Err(Error::Key("no trusted identity is given for Notation".to_owned())),
            [all] if all.trim() == "*" => None,
            some if some.len() > MAX_IDENTITIES => {
                return Err(Error::Key(format!("more than {MAX_IDENTITIES} trusted identities")));
            }
            some => Some(some.iter().map(|text| Identity::parse(text)).collect::<Result<_, _>>()?),
        };
        Ok(Trust { roots, authorities: Vec::new(), identities })
    }

    /// Trusts these certificates (PEM) as roots of the scheme `notary.x509.signingAuthority`. Such a root's signers are
    /// believed when they say *when* they signed, so that signatures outlive their certificates; no root of
    /// [`Trust::new`] is.
    ///
    /// # Errors
    /// [`Error::Key`] where one is malformed.
    pub fn with_authorities(mut self, pem: &[String]) -> Result<Trust, Error> {
        self.authorities = certificates(pem)?;
        Ok(self)
    }
}

fn certificates(pem: &[String]) -> Result<Vec<Certificate>, Error> {
    let mut all = Vec::new();
    for text in pem {
        let chain = Certificate::parse_chain(text.as_bytes());
        all.extend(chain.map_err(|e| Error::Key(format!("a root certificate: {e}")))?);
    }
    if all.len() > MAX_ROOTS {
        return Err(Error::Key(format!("more than {MAX_ROOTS} root certificates")));
    }
    Ok(all)
}

/// An envelope taken apart.
struct Envelope {
    algorithm: Algorithm,
    headers: Headers,
    /// Certificates, DER, the signer's first.
    chain: Vec<Vec<u8>>,
    payload: Vec<u8>,
    /// What the signature is over.
    message: Vec<u8>,
    signature: Vec<u8>,
}

/// Verifies an envelope at a time.
///
/// The signature must be PS256, PS384, PS512, ES256, ES384 or ES512, whichever belongs to the key's size; the signing
/// certificate one for code signing. Certificates must be valid at `now_unix`, under a signing authority at the authentic
/// signing time; countersignatures of time stamp authorities are not looked at.
///
/// # Errors
/// [`Error::SignatureInvalid`].
pub fn verify(trust: &Trust, envelope: &NotationEnvelope, now_unix: u64) -> Result<Claim, Error> {
    checked(trust, envelope, now_unix)
        .map_err(|why| Error::SignatureInvalid(format!("the Notation signature {why}")))
}

fn checked(trust: &Trust, envelope: &NotationEnvelope, now_unix: u64) -> Result<Claim, String> {
    if envelope.bytes.len() > MAX_ENVELOPE_BYTES {
        return Err(format!("is longer than {MAX_ENVELOPE_BYTES} bytes"));
    }
    let parsed = match envelope.media_type.as_str() {
        JWS_TYPE => jws::parse(&envelope.bytes)?,
        COSE_TYPE => cose::parse(&envelope.bytes)?,
        _ => return Err("has an envelope that is neither JWS nor COSE".to_owned()),
    };
    let (roots, at) = match parsed.headers.scheme {
        SigningScheme::X509 { signing_time } => {
            // Nobody vouches for this time, but one that is yet to come is wrong.
            not_ahead(signing_time, now_unix)?;
            (&trust.roots, now_unix)
        }
        SigningScheme::SigningAuthority { .. } if trust.authorities.is_empty() => {
            return Err("is of a signing authority, and none is trusted".to_owned());
        }
        SigningScheme::SigningAuthority { authentic_time } => {
            not_ahead(authentic_time, now_unix)?;
            (&trust.authorities, authentic_time)
        }
    };
    if parsed.headers.expiry.is_some_and(|end| end <= now_unix) {
        return Err("has expired".to_owned());
    }
    let signer = chain::signer(&parsed.chain, roots, at)?;
    if signer.algorithm != parsed.algorithm {
        return Err("has an algorithm that does not belong to its key's size".to_owned());
    }
    if !signer.key.verifies(parsed.algorithm.scheme(), &parsed.message, &parsed.signature) {
        return Err("is not its certificate's".to_owned());
    }
    if let Some(identities) = &trust.identities
        && !identities.iter().any(|identity| identity.matches(&signer.subject))
    {
        return Err(format!("is by {}, who is not among the trusted identities", signer.name));
    }
    let target = payload(&parsed.payload)?;
    Ok(Claim {
        digest: target.digest,
        media_type: target.media_type,
        size: target.size,
        annotations: target.annotations.unwrap_or_default(),
        signer: signer.name,
    })
}

fn not_ahead(time: u64, now_unix: u64) -> Result<(), String> {
    if time > now_unix.saturating_add(SKEW) { Err("is of the future".to_owned()) } else { Ok(()) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Payload {
    target_artifact: Target,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    media_type: String,
    digest: Digest,
    size: u64,
    annotations: Option<BTreeMap<String, String>>,
}

fn payload(json: &[u8]) -> Result<Target, String> {
    if json.len() > MAX_PAYLOAD {
        return Err("has a payload that is too long".to_owned());
    }
    let payload: Payload =
        serde_json::from_slice(json).map_err(|e| format!("has a malformed payload: {e}"))?;
    Ok(payload.target_artifact)
}
