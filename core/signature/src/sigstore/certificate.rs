//! A signer's certificate, at the time of its use.

use cocoon_evidence::x509::{Certificate, path_for};
use const_oid::ObjectIdentifier;

use super::trust::{Authority, Identity, Name, Roots};
use super::{sct, tlv};
use crate::policy::line;

const SUBJECT_ALTERNATIVE_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
/// Fulcio's issuer as bare text, and as a DER string (github.com/sigstore/fulcio, docs/oid-info.md).
const ISSUER_TEXT: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");
const ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8");
pub(super) const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
pub(super) const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
const EMAIL: u8 = 0x81;
const URI: u8 = 0x86;

/// Checks what needs no time: that the certificate is for signing code, of the identity, and under an authority, whenever
/// that was; says why not. Anyone can have certificates of a public authority, so what costs nothing comes first.
pub(super) fn plausible(
    leaf: &Certificate,
    chain: &[Certificate],
    roots: &Roots,
    identity: &Identity,
) -> Result<(), String> {
    if !has_usage(leaf, CODE_SIGNING) {
        return Err("the certificate is not for signing code".to_owned());
    }
    is_of(leaf, identity)?;
    let mut fault = "no certificate authority is trusted".to_owned();
    for authority in &roots.authorities {
        let pool = [&authority.intermediates[..], chain].concat();
        match path_for(leaf, &pool, &authority.roots, CODE_SIGNING) {
            Ok(_) => return Ok(()),
            Err(why) => fault = why.to_string(),
        }
    }
    Err(fault)
}

/// Checks that an authority certified the certificate, [`plausible`] before, and that it held at that time; says why not.
pub(super) fn check(
    leaf: &Certificate,
    chain: &[Certificate],
    roots: &Roots,
    at_unix: u64,
) -> Result<(), String> {
    let mut fault = "no certificate authority was in use when it was signed".to_owned();
    for authority in roots.authorities.iter().filter(|a| a.window.contains(at_unix)) {
        match is_certified(leaf, chain, authority, roots, at_unix) {
            Ok(()) => return Ok(()),
            Err(why) => fault = why,
        }
    }
    Err(fault)
}

fn is_certified(
    leaf: &Certificate,
    chain: &[Certificate],
    authority: &Authority,
    roots: &Roots,
    at_unix: u64,
) -> Result<(), String> {
    let pool = [&authority.intermediates[..], chain].concat();
    let path = path_for(leaf, &pool, &authority.roots, CODE_SIGNING).map_err(|e| e.to_string())?;
    if path.expired(at_unix).is_some() {
        return Err("the certificate or one above it was not valid when it was used".to_owned());
    }
    let issuer = path.certificates.get(1).ok_or("the certificate is a root itself")?;
    sct::check(leaf, issuer, &roots.certificate_logs, at_unix)
}

/// Whether the certificate's extended key usage names this one.
pub(super) fn has_usage(certificate: &Certificate, usage: ObjectIdentifier) -> bool {
    let list = certificate.extension(EXTENDED_KEY_USAGE).and_then(|e| tlv::only(e, tlv::SEQUENCE));
    let usages = list.and_then(|list| tlv::all(list, 16)).unwrap_or_default();
    usages.iter().any(|u| u.tag == tlv::OID && u.content == usage.as_bytes())
}

fn is_of(leaf: &Certificate, identity: &Identity) -> Result<(), String> {
    let issuers = issuers(leaf);
    if issuers.is_empty() {
        return Err("the certificate names no OIDC issuer".to_owned());
    }
    if let Some(other) = issuers.iter().find(|i| **i != identity.issuer) {
        return Err(format!("the certificate's issuer is {:?}, not {:?}", line(other, 200), identity.issuer));
    }
    let names = names(leaf).ok_or("the certificate names no subject")?;
    let (kind, expected) = match &identity.subject {
        Name::Email(text) => (EMAIL, text),
        Name::Uri(text) => (URI, text),
    };
    if names.iter().any(|(k, text)| *k == kind && text == expected) {
        return Ok(());
    }
    let shown: Vec<String> = names.iter().take(4).map(|(_, text)| line(text, 200)).collect();
    Err(format!("the certificate's subject is {shown:?}, not {expected:?}"))
}

/// The issuer in both of its extensions; one that is malformed counts as an empty name, which fits nothing.
fn issuers(leaf: &Certificate) -> Vec<String> {
    let text =
        |bytes: Option<&[u8]>| bytes.and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default().to_owned();
    let new = leaf.extension(ISSUER).map(|e| text(tlv::only(e, tlv::UTF8)));
    let old = leaf.extension(ISSUER_TEXT).map(|e| text(Some(e)));
    new.into_iter().chain(old).collect()
}

/// E-mail addresses and URIs of the subject's alternative name.
fn names(leaf: &Certificate) -> Option<Vec<(u8, String)>> {
    let list = tlv::only(leaf.extension(SUBJECT_ALTERNATIVE_NAME)?, tlv::SEQUENCE)?;
    let names = tlv::all(list, 32)?;
    let text = |n: &tlv::Tlv<'_>| Some((n.tag, std::str::from_utf8(n.content).ok()?.to_owned()));
    Some(names.iter().filter(|n| matches!(n.tag, EMAIL | URI)).filter_map(text).collect())
}

/// Subject and issuer for people; nothing in it was checked.
pub(super) fn shown(identity: &Identity) -> String {
    let (Name::Email(subject) | Name::Uri(subject)) = &identity.subject;
    format!("{subject} (certified under {})", identity.issuer)
}
