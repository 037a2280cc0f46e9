//! Signed certificate timestamps inside a certificate (RFC 6962, sections 3.2 and 3.3): the proof that a certificate
//! log has seen it.

use aws_lc_rs::digest::{SHA256, digest};
use cocoon_evidence::x509::Certificate;
use const_oid::ObjectIdentifier;

use super::trust::Log;
use super::{SKEW, tlv};

const SCT_LIST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11129.2.4.2");
/// `[3] EXPLICIT Extensions` of a TBSCertificate.
const EXTENSIONS: u8 = 0xa3;
const MAX_SCTS: usize = 8;

struct Sct<'a> {
    log_id: &'a [u8],
    /// Milliseconds.
    timestamp: &'a [u8],
    extensions: &'a [u8],
    signature: &'a [u8],
}

/// Checks that one of the logs has seen the certificate; nothing to do where none is given. Says why not.
pub(super) fn check(
    leaf: &Certificate,
    issuer: &Certificate,
    logs: &[Log],
    at_unix: u64,
) -> Result<(), String> {
    if logs.is_empty() {
        return Ok(());
    }
    let list = leaf.extension(SCT_LIST).ok_or("the certificate has no proof of a certificate log (SCT)")?;
    let scts = parse(list).ok_or("the certificate's proof of a certificate log (SCT) is malformed")?;
    let tbs = precertificate(leaf.der()).ok_or("the certificate is malformed")?;
    let issuer_key = digest(&SHA256, &issuer.spki());
    let good = |sct: &Sct<'_>| {
        let Some(signed) = signed(sct, issuer_key.as_ref(), &tbs) else { return false };
        let milliseconds = sct.timestamp.iter().fold(0u64, |sum, b| (sum << 8) | u64::from(*b));
        let seconds = milliseconds / 1000;
        logs.iter().any(|log| {
            log.id.as_slice() == sct.log_id
                && log.window.contains(seconds)
                && seconds <= at_unix.saturating_add(SKEW)
                && log.key.verifies(&signed, sct.signature)
        })
    };
    if scts.iter().any(good) {
        return Ok(());
    }
    Err("no trusted certificate log has seen the certificate (SCT)".to_owned())
}

/// What the log signed: version, kind, time, entry type "precert", the issuer's key, the certificate, extensions.
fn signed(sct: &Sct<'_>, issuer_key: &[u8], tbs: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(tbs.len()).ok()?.to_be_bytes();
    let extensions = u16::try_from(sct.extensions.len()).ok()?.to_be_bytes();
    let parts: [&[u8]; 8] =
        [&[0, 0], sct.timestamp, &[0, 1], issuer_key, length.get(1..)?, tbs, &extensions, sct.extensions];
    Some(parts.concat())
}

/// The certificate's signed part without the list of timestamps.
fn precertificate(der: &[u8]) -> Option<Vec<u8>> {
    let (tbs, _) = tlv::split(tlv::only(der, tlv::SEQUENCE)?)?;
    let mut out = Vec::with_capacity(tbs.content.len());
    for element in tlv::all(tbs.content, 16)? {
        if element.tag != EXTENSIONS {
            out.extend_from_slice(element.whole);
            continue;
        }
        let mut kept = Vec::new();
        for extension in tlv::all(tlv::only(element.content, tlv::SEQUENCE)?, 64)? {
            let (oid, _) = tlv::split(extension.content)?;
            if oid.content != SCT_LIST.as_bytes() {
                kept.extend_from_slice(extension.whole);
            }
        }
        out.extend_from_slice(&tlv::write(EXTENSIONS, &tlv::write(tlv::SEQUENCE, &kept)));
    }
    Some(tlv::write(tlv::SEQUENCE, &out))
}

fn parse(extension: &[u8]) -> Option<Vec<Sct<'_>>> {
    let (mut list, []) = vector(tlv::only(extension, tlv::OCTETS)?)? else { return None };
    let mut out = Vec::new();
    while !list.is_empty() {
        let (sct, rest) = vector(list)?;
        if out.len() == MAX_SCTS {
            return None;
        }
        // Versions after the first are passed over, for they may look otherwise.
        if let Some((0, sct)) = sct.split_first() {
            out.push(one(sct)?);
        }
        list = rest;
    }
    Some(out)
}

fn one(sct: &[u8]) -> Option<Sct<'_>> {
    let (log_id, rest) = sct.split_at_checked(32)?;
    let (timestamp, rest) = rest.split_at_checked(8)?;
    let (extensions, rest) = vector(rest)?;
    // Hash and kind of the signature: the log's key decides, so they only have to be there.
    let (_algorithm, rest) = rest.split_at_checked(2)?;
    let (signature, []) = vector(rest)? else { return None };
    Some(Sct { log_id, timestamp, extensions, signature })
}

/// A vector with a length of two bytes, and what follows.
fn vector(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(0u8.., 0..200)) {
            let _ = precertificate(&bytes);
            let _ = parse(&tlv::write(tlv::OCTETS, &bytes));
        }
    }
}
