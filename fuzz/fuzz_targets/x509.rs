//! Certificates, revocation lists and paths. Three parts between NUL bytes: a PEM chain, a list (PEM or hex), and a key; the
//! whole is also taken as DER.
#![no_main]

use cocoon_evidence::x509::{Certificate, Crl, Hash, MAX_DEPTH, PublicKey, Scheme, path};
use libfuzzer_sys::fuzz_target;

const NOW: u64 = 1_800_000_000;

fn certificate(certificate: &Certificate) {
    assert_eq!(Certificate::parse(certificate.der()).unwrap().der(), certificate.der());
    assert!(certificate.subject().len() <= 64 && certificate.issuer().len() <= 64);
    assert!(!certificate.may_sign_crl() || certificate.is_authority());
    assert_ne!(certificate.serial().first(), Some(&0));
    let _ = (
        certificate.validity().contains(NOW),
        certificate.path_length(),
        certificate.is_issued_by(certificate),
    );
    if let Ok(key) = certificate.key() {
        let _ = key.prepared(Scheme::RsaPss(Hash::Sha384));
        let _ = key.verifies(Scheme::Ecdsa(Hash::Sha384), b"message", certificate.serial());
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(parsed) = Certificate::parse(bytes) {
        certificate(&parsed);
    }
    let _ = Crl::parse(bytes);
    let mut parts = bytes.splitn(3, |b| *b == 0);
    let chain = Certificate::parse_chain(parts.next().unwrap_or_default()).unwrap_or_default();
    let crl = Crl::parse(parts.next().unwrap_or_default());
    if let Ok(key) = PublicKey::from_spki(parts.next().unwrap_or_default()) {
        if let Ok(spki) = key.to_spki() {
            assert_eq!(PublicKey::from_spki(&spki).as_ref(), Ok(&key));
        }
    }
    chain.iter().for_each(certificate);
    if let Ok(crl) = &crl {
        for certificate in &chain {
            let _ = crl.revokes(certificate);
            assert!(!crl.is_signed_by(certificate) || certificate.may_sign_crl());
        }
    }
    if let [leaf, pool @ .., root] = chain.as_slice() {
        if let Ok(found) = path(leaf, pool, std::slice::from_ref(root)) {
            let links = &found.certificates;
            assert!(links.len() <= MAX_DEPTH);
            assert_eq!(links[0].der(), leaf.der());
            assert_eq!(found.root().map(Certificate::der), Some(root.der()));
            for (below, pair) in links.windows(2).enumerate() {
                assert!(pair[0].is_issued_by(pair[1]) && pair[1].is_authority());
                assert!(pair[1].path_length().is_none_or(|limit| usize::from(limit) >= below));
            }
            let _ = found.expired(NOW);
        }
    }
});
