//! Host key documents that are refused, each for its reason.

use cocoon_stage::Code;
use rcgen::{
    CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, date_time_ymd,
};

use super::pki::*;
use crate::se::{HostKey, HostKeyTrust};

fn refused(document: &[u8], trust: &HostKeyTrust) -> Code {
    HostKey::verify(document, trust, NOW).unwrap_err().code
}

fn host_params() -> CertificateParams {
    params(common("host"), HOST, false)
}

#[test]
fn a_host_key_document_verifies_to_the_root() {
    let (document, trust) = (PKI.host_document(), PKI.trust());
    let key = HostKey::verify(&document, &trust, NOW).unwrap();
    assert_eq!(key.subject(), "host");
    // 2026-01-01, when the revocation lists are due.
    assert_eq!(key.validity().not_after, 1_767_225_600);
    let pem = |block: &[u8]| {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(block);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    assert_eq!(HostKey::verify(pem(&document).as_bytes(), &trust, NOW).unwrap(), key);
    let two = pem(&document) + &pem(&PKI.other_document());
    assert_eq!(refused(two.as_bytes(), &trust), Code::AttestEvidenceMalformed);
    for length in 0..document.len() {
        assert_eq!(refused(&document[..length], &trust), Code::AttestEvidenceMalformed);
    }
    assert_eq!(refused(&[&document[..], &[0]].concat(), &trust), Code::AttestEvidenceMalformed);
}

#[test]
fn names_may_differ_as_ibms_do() {
    let reordered = name(&[
        (DnType::CountryName, "US"),
        (DnType::OrganizationName, "International Business Machines Corporation"),
        (DnType::OrganizationalUnitName, "IBM Z Host Key Signing Service"),
        (DnType::LocalityName, "Poughkeepsie"),
        (DnType::StateOrProvinceName, "New York"),
        (DnType::CommonName, "International Business Machines Corporation"),
    ]);
    let document = PKI.document(&host_params(), &PKI.host, reordered.clone());
    let mut trust = PKI.trust();
    assert!(HostKey::verify(&document, &trust, NOW).is_ok());
    // The signing key is of Armonk, document and list say Poughkeepsie.
    trust.certificates[1] = PKI.signing_certificate(&params(signing_name("Armonk"), SIGNING, false));
    trust.crls[2] = crl(&list(&[]), reordered.clone(), &PKI.signing);
    assert!(HostKey::verify(&document, &trust, NOW).is_ok());
    trust.crls[2] = crl(&list(&[HOST]), reordered, &PKI.signing);
    assert_eq!(refused(&document, &trust), Code::AttestRevoked);
}

/// The subject of a signing key but for one part.
fn renamed(kind: DnType, value: &str) -> rcgen::DistinguishedName {
    let mut name = signing_name("Poughkeepsie");
    name.push(kind, value);
    name
}

#[test]
fn only_ibms_signing_key_may_issue() {
    let document = PKI.host_document();
    for wrong in [
        signing_name("Berlin"),
        common("International Business Machines Corporation"),
        {
            let mut longer = signing_name("Poughkeepsie");
            longer.push(DnType::from_oid(&[2, 5, 4, 5]), "1");
            longer
        },
        {
            let mut other = signing_name("Poughkeepsie");
            other.push(DnType::OrganizationalUnitName, "Key Signing Service of others");
            other
        },
        renamed(DnType::CountryName, "DE"),
        renamed(DnType::StateOrProvinceName, "New Jersey"),
        renamed(DnType::OrganizationName, "International Business Machines"),
        renamed(DnType::CommonName, "IBM"),
    ] {
        let mut trust = PKI.trust();
        trust.certificates[1] = PKI.signing_certificate(&params(wrong.clone(), SIGNING, false));
        assert_eq!(refused(&document, &trust), Code::AttestChainUntrusted);
        let named = PKI.document(&host_params(), &PKI.host, wrong);
        assert_eq!(refused(&named, &trust), Code::AttestChainUntrusted);
    }
    // Issued in another name, by another key, by itself, and no signing key at all.
    let trust = PKI.trust();
    let named = PKI.document(&host_params(), &PKI.host, common("somebody"));
    assert_eq!(refused(&named, &trust), Code::AttestChainUntrusted);
    let forged = issuer(signing_name("Poughkeepsie"), &PKI.other_host);
    let forged = host_params().signed_by(&PKI.host, &forged).unwrap();
    assert_eq!(refused(forged.der(), &trust), Code::AttestChainUntrusted);
    let own = host_params().self_signed(&PKI.host).unwrap();
    assert_eq!(refused(own.der(), &trust), Code::AttestChainUntrusted);
    let mut without = PKI.trust();
    without.certificates.pop();
    assert_eq!(refused(&document, &without), Code::AttestChainUntrusted);
}

#[test]
fn the_chain_must_be_whole_and_end_in_a_root() {
    let document = PKI.host_document();
    let trust = PKI.trust();
    assert_eq!(
        refused(&document, &HostKeyTrust { roots: Vec::new(), ..trust.clone() }),
        Code::AttestChainUntrusted
    );
    let mut without = trust.clone();
    without.certificates.remove(0);
    assert_eq!(refused(&document, &without), Code::AttestChainUntrusted);
    // A signing key among the roots does not do instead of a chain, nor does one right below the root.
    let pinned = HostKeyTrust { roots: vec![trust.certificates[1].clone()], ..trust.clone() };
    assert_eq!(refused(&document, &pinned), Code::AttestChainUntrusted);
    let mut short = trust.clone();
    let root = issuer(common("Root"), &PKI.root);
    short.certificates[1] =
        parsed(&params(signing_name("Poughkeepsie"), SIGNING, false).signed_by(&PKI.signing, &root).unwrap());
    assert_eq!(refused(&document, &short), Code::AttestChainUntrusted);
    // An intermediate that is no authority.
    let mut weak = trust.clone();
    weak.certificates[0] = PKI.intermediate_certificate(&params(common("Intermediate"), INTERMEDIATE, false));
    assert_eq!(refused(&document, &weak), Code::AttestChainUntrusted);
    // A root of the same name with another key.
    let other = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let other = parsed(&params(common("Root"), 1, true).self_signed(&other).unwrap());
    assert_eq!(refused(&document, &HostKeyTrust { roots: vec![other], ..trust }), Code::AttestChainUntrusted);
}

#[test]
fn every_date_counts() {
    let old = |mut params: CertificateParams| {
        params.not_after = date_time_ymd(2025, 5, 31);
        params
    };
    let trust = PKI.trust();
    let document = PKI.document(&old(host_params()), &PKI.host, signing_name("Poughkeepsie"));
    assert_eq!(refused(&document, &trust), Code::AttestCertificateExpired);
    let document = PKI.host_document();
    let mut expired = trust.clone();
    expired.certificates[1] =
        PKI.signing_certificate(&old(params(signing_name("Poughkeepsie"), SIGNING, false)));
    assert_eq!(refused(&document, &expired), Code::AttestCertificateExpired);
    // A renewed certificate of the same key beside it helps.
    expired.certificates.push(trust.certificates[1].clone());
    assert!(HostKey::verify(&document, &expired, NOW).is_ok());
    let mut expired = trust.clone();
    expired.certificates[0] =
        PKI.intermediate_certificate(&old(params(common("Intermediate"), INTERMEDIATE, true)));
    assert_eq!(refused(&document, &expired), Code::AttestCertificateExpired);
    let expired_root = parsed(&old(params(common("Root"), 1, true)).self_signed(&PKI.root).unwrap());
    let expired = HostKeyTrust { roots: vec![expired_root], ..trust.clone() };
    assert_eq!(refused(&document, &expired), Code::AttestCertificateExpired);
    // 2023, before everything.
    let early = HostKey::verify(&document, &trust, 1_680_000_000).unwrap_err();
    assert_eq!(early.code, Code::AttestCertificateExpired);
}

#[test]
fn every_certificate_needs_a_revocation_list_that_does_not_name_it() {
    let document = PKI.host_document();
    let trust = PKI.trust();
    for revoked in [HOST, SIGNING, INTERMEDIATE] {
        let trust = HostKeyTrust { crls: PKI.crls(&[99, revoked, 100]), ..trust.clone() };
        assert_eq!(refused(&document, &trust), Code::AttestRevoked, "{revoked}");
    }
    for missing in 0..3 {
        let mut crls = PKI.crls(&[]);
        crls.remove(missing);
        assert_eq!(
            refused(&document, &HostKeyTrust { crls, ..trust.clone() }),
            Code::AttestCollateralMissing
        );
    }
    // Due, not yet valid, of another key, in another name.
    let (mut due, mut early) = (list(&[]), list(&[]));
    due.next_update = date_time_ymd(2025, 5, 1);
    early.this_update = date_time_ymd(2025, 12, 1);
    let signing = || signing_name("Poughkeepsie");
    for wrong in [
        crl(&due, signing(), &PKI.signing),
        crl(&early, signing(), &PKI.signing),
        crl(&list(&[]), signing(), &PKI.host),
        crl(&list(&[]), common("Intermediate"), &PKI.signing),
    ] {
        let mut trust = trust.clone();
        trust.crls[2] = wrong;
        assert_eq!(refused(&document, &trust), Code::AttestCollateralMissing);
    }
    // One good list beside one that names it, even an old one: revoked.
    let mut old = list(&[HOST]);
    old.next_update = date_time_ymd(2025, 5, 1);
    let mut both = trust.clone();
    both.crls.push(crl(&old, signing(), &PKI.signing));
    assert_eq!(refused(&document, &both), Code::AttestRevoked);
    // Anybody's list revokes nothing.
    let mut forged = trust.clone();
    forged.crls.push(crl(&list(&[HOST]), signing(), &PKI.other_host));
    assert!(HostKey::verify(&document, &forged, NOW).is_ok());
}

#[test]
fn a_host_key_is_on_p521() {
    let trust = PKI.trust();
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let document = PKI.document(&host_params(), &key, signing_name("Poughkeepsie"));
        assert_eq!(refused(&document, &trust), Code::AttestEvidenceMalformed);
    }
    let document = PKI.document(&host_params(), &PKI.signing, signing_name("Poughkeepsie"));
    assert_eq!(refused(&document, &trust), Code::AttestEvidenceMalformed, "RSA");
}

#[test]
fn a_flipped_bit_is_never_taken() {
    let (document, trust) = (PKI.host_document(), PKI.trust());
    for bit in (0..document.len() * 8).step_by(3) {
        let mut altered = document.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert!(HostKey::verify(&altered, &trust, NOW).is_err(), "bit {bit}");
    }
}
