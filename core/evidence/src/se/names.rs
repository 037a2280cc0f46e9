//! Names of IBM's certificates: which one is a host key signing key, and when two names mean the same.
//!
//! IBM's documents are not consistent: the issuer in a host key document or in its revocation list may have the parts of the
//! signing key's subject in another order, in another string type, or with the locality Poughkeepsie for Armonk (s390-tools
//! knows all three). So here names are compared as sets of parts; the signature is what identifies the issuer.

use const_oid::ObjectIdentifier;
use der::{Tag, Tagged};
use x509_cert::name::Name;

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

const COMMON_NAME: ObjectIdentifier = oid("2.5.4.3");
const COUNTRY: ObjectIdentifier = oid("2.5.4.6");
const LOCALITY: ObjectIdentifier = oid("2.5.4.7");
const STATE: ObjectIdentifier = oid("2.5.4.8");
const ORGANIZATION: ObjectIdentifier = oid("2.5.4.10");
const ORGANIZATIONAL_UNIT: ObjectIdentifier = oid("2.5.4.11");

const IBM: &[u8] = b"International Business Machines Corporation";
const POUGHKEEPSIE: &[u8] = b"Poughkeepsie";
const ARMONK: &[u8] = b"Armonk";
const UNIT_ENDS_WITH: &[u8] = b"Key Signing Service";
/// More parts than any name has that is compared here.
const MAX_PARTS: usize = 16;

type Part<'a> = (ObjectIdentifier, &'a [u8]);

/// The name's parts in order of kind; `None` where one is no text.
fn parts(name: &Name) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    for attribute in name.iter().take(MAX_PARTS + 1) {
        let text = matches!(attribute.value.tag(), Tag::Utf8String | Tag::PrintableString);
        parts.push((attribute.oid, text.then(|| attribute.value.value())?));
    }
    parts.sort_unstable();
    (!parts.is_empty() && parts.len() <= MAX_PARTS).then_some(parts)
}

/// Whether the subject is that of an IBM Z host key signing key: six parts with fixed values, of which the locality is one of
/// two and the unit only ends in a fixed way.
pub(super) fn is_signing_key(subject: &Name) -> bool {
    let Some(parts) = parts(subject) else { return false };
    let [(cn, name), (c, country), (l, locality), (st, state), (o, organization), (ou, unit)] =
        parts.as_slice()
    else {
        return false;
    };
    [*cn, *c, *l, *st, *o, *ou] == [COMMON_NAME, COUNTRY, LOCALITY, STATE, ORGANIZATION, ORGANIZATIONAL_UNIT]
        && *name == IBM
        && *country == b"US"
        && [POUGHKEEPSIE, ARMONK].contains(locality)
        && *state == b"New York"
        && *organization == IBM
        && unit.ends_with(UNIT_ENDS_WITH)
}

/// Whether an issuer's name, in a host key document or a revocation list, means that signing key.
pub(super) fn same(issuer: &Name, signing_key: &Name) -> bool {
    let normal = |name| -> Option<Vec<Part<'_>>> {
        let moved =
            |(kind, value)| (kind, if kind == LOCALITY && value == ARMONK { POUGHKEEPSIE } else { value });
        let mut parts: Vec<Part<'_>> = parts(name)?.into_iter().map(moved).collect();
        parts.sort_unstable();
        Some(parts)
    };
    matches!((normal(issuer), normal(signing_key)), (Some(a), Some(b)) if a == b)
}
