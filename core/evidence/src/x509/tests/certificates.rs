//! Single certificates: what is refused, and what is read.

use proptest::prelude::*;
use rcgen::CustomExtension;

use super::writer::{ecdsa, signed};
use super::*;
use crate::x509::{Crl, Curve, PublicKey};

fn with_extensions(extensions: Vec<CustomExtension>) -> Result<Certificate, crate::Error> {
    let params = with(authority("extended"), |p| p.custom_extensions = extensions);
    Certificate::parse(params.self_signed(&key()).unwrap().der())
}

fn extension(oid: &[u64], critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, vec![5, 0]);
    extension.set_criticality(critical);
    extension
}

#[test]
fn unknown_critical_and_double_extensions_are_refused() {
    let private = [1, 3, 6, 1, 4, 1, 99999, 1];
    let fine = with_extensions(vec![extension(&private, false)]).unwrap();
    let oid = const_oid::ObjectIdentifier::new("1.3.6.1.4.1.99999.1").unwrap();
    assert_eq!(fine.extension(oid), Some(&[5, 0][..]));
    assert!(with_extensions(vec![extension(&private, true)]).is_err());
    // Name constraints, policy constraints: not understood here, so never ignored where critical.
    assert!(with_extensions(vec![extension(&[2, 5, 29, 30], true)]).is_err());
    assert!(with_extensions(vec![extension(&[2, 5, 29, 36], true)]).is_err());
    let twice = vec![extension(&private, false), extension(&private, false)];
    assert!(with_extensions(twice).is_err());
    // A second set of basic constraints beside the true one.
    assert!(with_extensions(vec![extension(&[2, 5, 29, 19], false)]).is_err());
    let apart = vec![
        extension(&private, false),
        extension(&[1, 3, 6, 1, 4, 1, 99999, 2], false),
        extension(&private, false),
    ];
    assert!(with_extensions(apart).is_err());
}

#[test]
fn malformed_constraints_make_no_authority() {
    // Basic constraints and key usage whose content is no such thing (a NULL).
    let of = |oid: &[u64], params: CertificateParams| {
        let params = with(params, |p| p.custom_extensions = vec![extension(oid, false)]);
        own(&params, &key())
    };
    let constraints = of(&[2, 5, 29, 19], leaf("odd"));
    assert!(!constraints.is_authority() && !constraints.may_sign_crl());
    assert_eq!(constraints.path_length(), None);
    let usage = of(&[2, 5, 29, 15], with(authority("odd"), |p| p.key_usages = Vec::new()));
    assert!(!usage.is_authority() && !usage.may_sign_crl());
}

#[test]
fn what_is_read_is_what_was_written() {
    let key = key();
    let mut params = leaf("na\u{7}me\u{e9}");
    params.serial_number = Some(SerialNumber::from_slice(&[0, 0, 0x80, 1]));
    let certificate = own(&params, &key);
    assert_eq!(certificate.subject(), "na?me?");
    assert_eq!(certificate.issuer(), "na?me?");
    assert_eq!(certificate.serial(), [0x80, 1]);
    assert_eq!(certificate.validity().not_before, 1_704_067_200);
    assert_eq!(certificate.validity().not_after, 1_893_456_000);
    let public = certificate.key().unwrap();
    assert_eq!(public, PublicKey::Ec(Curve::P256, key.public_key_raw().to_vec()));
    assert_eq!(PublicKey::from_spki(&certificate.spki()).unwrap(), public);
    assert_eq!(public.to_spki().unwrap(), certificate.spki());
    assert_eq!(own(&leaf(&"x".repeat(200)), &key).subject().len(), 64);
}

#[test]
fn every_truncation_and_every_flip_is_noticed() {
    let (root_key, leaf_key) = (key(), key());
    let root = own(&authority("root"), &root_key);
    let certificate = issue(&leaf("leaf"), &leaf_key, "root", &root_key);
    let der = certificate.der();
    assert!(certificate.is_issued_by(&root));
    for length in 0..der.len() {
        assert!(Certificate::parse(&der[..length]).is_err(), "{length} bytes");
    }
    assert!(Certificate::parse(&[der, &[0]].concat()).is_err(), "trailing");
    for bit in 0..der.len() * 8 {
        let mut altered = der.to_vec();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert!(Certificate::parse(&altered).map_or(true, |c| !c.is_issued_by(&root)), "bit {bit}");
    }
}

#[test]
fn the_algorithm_within_and_beside_the_signature_is_the_same() {
    let root_key = key();
    let root = own(&authority("root"), &root_key);
    let certificate = issue(&leaf("leaf"), &key(), "root", &root_key);
    let tbs = crate::x509::certificate::signed_part(certificate.der()).unwrap().to_vec();
    let resigned = Certificate::parse(&signed(&tbs, &ecdsa(), &root_key)).unwrap();
    assert!(resigned.is_issued_by(&root));
    // Within stands SHA-384, which is signed like the rest; beside it SHA-256, with which it is signed.
    let mut other = tbs;
    let at = other.windows(8).position(|w| w == [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]).unwrap();
    other[at + 7] = 3;
    let mixed = Certificate::parse(&signed(&other, &ecdsa(), &root_key)).unwrap();
    assert!(!mixed.is_issued_by(&root) && !mixed.is_signed_with(&root.key().unwrap()));
}

#[test]
fn impossible_lengths_cost_nothing() {
    for length in [
        &[0x84, 0xff, 0xff, 0xff, 0xff][..],
        &[0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x80],
        &[0xff],
    ] {
        for inner in [&[][..], &[0x30], &[0x30, 0x80]] {
            let bytes = [&[0x30], length, inner].concat();
            assert!(Certificate::parse(&bytes).is_err() && Crl::parse(&bytes).is_err());
        }
    }
    // Thousands of nested sequences, and a long certificate.
    let header = |i: u16| [&[0x30, 0x82][..], &(16000 - 4 * i).to_be_bytes()].concat();
    let nested: Vec<u8> = (1..4000).flat_map(header).collect();
    assert!(Certificate::parse(&nested).is_err());
    assert!(Certificate::parse(&vec![0x30; 1 << 20]).is_err());
    let long = with(leaf("long"), |p| {
        p.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3], vec![0; 17_000])]
    });
    assert!(Certificate::parse(long.self_signed(&key()).unwrap().der()).is_err());
}

#[test]
fn thousands_of_extensions_are_no_work() {
    // As many tiny ones as 16 KiB hold; comparing them pairwise is half a million steps at most.
    let extensions =
        (0..1200).map(|i| CustomExtension::from_oid_content(&[1, 2, 3, i], Vec::new())).collect();
    assert!(with_extensions(extensions).is_ok());
}

proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Certificate::parse(&bytes);
        let _ = Certificate::parse_chain(&bytes);
        let _ = Crl::parse(&bytes);
        let _ = PublicKey::from_spki(&bytes);
        let _ = PublicKey::rsa(&bytes, &bytes).map(|key| key.to_spki());
    }
}
