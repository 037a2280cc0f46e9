//! Revocation lists: each rule broken once.

use rcgen::{
    CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint, RevokedCertParams,
};

use super::writer::{INTEGER, SEQUENCE, UTC_TIME, ecdsa, extension, name, sequence, signed, tlv};
use super::*;
use crate::x509::Crl;

fn list(serials: &[&[u8]]) -> CertificateRevocationListParams {
    let entry = |serial: &&[u8]| RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: date_time_ymd(2025, 2, 1),
        reason_code: None,
        invalidity_date: None,
    };
    CertificateRevocationListParams {
        this_update: date_time_ymd(2025, 1, 1),
        next_update: date_time_ymd(2026, 1, 1),
        crl_number: SerialNumber::from(4711u64),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::PreSpecified(vec![1; 20]),
    }
}

fn sign(params: &CertificateRevocationListParams, issuer: &str, key: &KeyPair) -> Crl {
    Crl::parse(params.signed_by(&Issuer::new(leaf(issuer), key)).unwrap().der()).unwrap()
}

fn numbered(serial: &[u8], issuer: &str, issuer_key: &KeyPair) -> Certificate {
    let params = with(leaf("leaf"), |p| p.serial_number = Some(SerialNumber::from_slice(serial)));
    issue(&params, &key(), issuer, issuer_key)
}

/// A list by hand: version, parts before the entries, entries, extensions.
struct Raw {
    version: Vec<u8>,
    dates: Vec<u8>,
    entries: Vec<u8>,
    extensions: Vec<u8>,
    inner: Vec<u8>,
    outer: Vec<u8>,
}

impl Raw {
    fn new() -> Self {
        let date = |text: &str| tlv(UTC_TIME, text.as_bytes());
        Raw {
            version: tlv(INTEGER, &[1]),
            dates: [date("250101000000Z"), date("260101000000Z")].concat(),
            entries: Vec::new(),
            extensions: Vec::new(),
            inner: ecdsa(),
            outer: ecdsa(),
        }
    }

    fn entry(mut self, serial: &[u8], extensions: &[u8]) -> Self {
        let extensions = if extensions.is_empty() { Vec::new() } else { tlv(SEQUENCE, extensions) };
        let date = tlv(UTC_TIME, b"250201000000Z");
        self.entries.extend(sequence(&[&tlv(INTEGER, serial), &date, &extensions]));
        self
    }

    fn extension(mut self, number: u8, critical: bool, content: &[u8]) -> Self {
        self.extensions.extend(extension(number, critical, content));
        self
    }

    fn der(&self, key: &KeyPair) -> Vec<u8> {
        let entries = if self.entries.is_empty() { Vec::new() } else { tlv(SEQUENCE, &self.entries) };
        let extensions = match self.extensions.is_empty() {
            true => Vec::new(),
            false => tlv(0xa0, &tlv(SEQUENCE, &self.extensions)),
        };
        let parts: [&[u8]; 6] =
            [&self.version, &self.inner, &name("root"), &self.dates, &entries, &extensions];
        signed(&sequence(&parts), &self.outer, key)
    }
}

#[test]
fn a_list_revokes_what_it_names_of_its_issuer() {
    let root_key = key();
    let root = own(&authority("root"), &root_key);
    let crl = sign(&list(&[&[1], &[0x80, 7], &[0x7f; 20]]), "root", &root_key);
    assert!(crl.is_signed_by(&root));
    assert_eq!((crl.len(), crl.is_empty(), crl.number()), (3, false, Some(4711)));
    assert_eq!((crl.validity().not_before, crl.validity().not_after), (1_735_689_600, 1_767_225_600));
    for serial in [&[1][..], &[0, 1], &[0x80, 7], &[0, 0x80, 7], &[0x7f; 20]] {
        assert!(crl.revokes(&numbered(serial, "root", &root_key)), "{serial:?}");
    }
    for serial in [&[2][..], &[1, 0], &[7, 0x80], &[7], &[0x7f; 19]] {
        assert!(!crl.revokes(&numbered(serial, "root", &root_key)), "{serial:?}");
    }
    assert!(!crl.revokes(&numbered(&[1], "another", &root_key)), "serial numbers count within one issuer");
    assert!(sign(&list(&[]), "root", &root_key).is_empty());
}

#[test]
fn only_the_issuer_may_sign_and_only_if_it_may() {
    let (root_key, other_key) = (key(), key());
    let root = own(&authority("root"), &root_key);
    assert!(sign(&list(&[]), "root", &root_key).is_signed_by(&root));
    assert!(!sign(&list(&[]), "root", &other_key).is_signed_by(&root), "another key");
    assert!(!sign(&list(&[]), "other", &root_key).is_signed_by(&root), "another name");
    let crl = sign(&list(&[]), "root", &root_key);
    let usages = |key_usages| own(&with(authority("root"), |p| p.key_usages = key_usages), &root_key);
    assert!(!crl.is_signed_by(&usages(vec![KeyUsagePurpose::DigitalSignature])));
    assert!(!crl.is_signed_by(&usages(vec![KeyUsagePurpose::KeyCertSign])), "certificates only");
    assert!(crl.is_signed_by(&usages(Vec::new())), "no key usage forbids nothing");
    assert!(!crl.is_signed_by(&own(&leaf("root"), &root_key)), "no authority");
    assert!(crl.is_signed_with(&root.key().unwrap()));
}

#[test]
fn lists_by_hand_are_read_like_the_librarys() {
    let root_key = key();
    let root = own(&authority("root"), &root_key);
    let crl =
        Crl::parse(&Raw::new().entry(&[0, 0x80, 7], &[]).extension(20, false, &[2, 1, 9]).der(&root_key))
            .unwrap();
    assert!(crl.is_signed_by(&root) && crl.lists(&[0x80, 7]) && crl.number() == Some(9));
}

#[test]
fn partial_and_indirect_lists_are_refused() {
    let root_key = key();
    let parse = |raw: Raw| Crl::parse(&raw.der(&root_key));
    let reason = extension(21, false, &[0x0a, 1, 1]);
    assert!(parse(Raw::new()).is_ok());
    assert!(parse(Raw::new().entry(&[1], &reason)).is_ok());
    for critical in [true, false] {
        assert!(parse(Raw::new().extension(27, critical, &[2, 1, 3])).is_err(), "delta");
        assert!(
            parse(Raw::new().extension(28, critical, &[0x30, 3, 0x81, 1, 0xff])).is_err(),
            "part of an issuer's"
        );
    }
    let issuer = extension(29, true, &[0x30, 0]);
    assert!(parse(Raw::new().entry(&[1], &issuer)).is_err(), "of another issuer");
    assert!(parse(Raw::new().extension(99, true, &[5, 0])).is_err());
    assert!(parse(Raw::new().extension(99, false, &[5, 0])).is_ok());
    let twice = Raw::new().extension(20, false, &[2, 1, 1]).extension(20, false, &[2, 1, 2]);
    assert!(parse(twice).is_err(), "an extension twice");
    let mut params = list(&[]);
    params.issuing_distribution_point = Some(CrlIssuingDistributionPoint {
        distribution_point: CrlDistributionPoint { uris: vec!["http://localhost/crl".into()] },
        scope: None,
    });
    let der = params.signed_by(&Issuer::new(leaf("root"), &root_key)).unwrap();
    assert!(Crl::parse(der.der()).is_err());
}

#[test]
fn a_list_must_say_when_it_is_due_and_how_it_is_signed() {
    let root_key = key();
    let root = own(&authority("root"), &root_key);
    let mut endless = Raw::new();
    endless.dates = tlv(UTC_TIME, b"250101000000Z");
    assert!(Crl::parse(&endless.der(&root_key)).is_err());
    let mut old = Raw::new();
    old.version = Vec::new();
    assert!(Crl::parse(&old.der(&root_key)).map_or(true, |crl| crl.is_signed_by(&root)), "version 1");
    // The algorithm within the signature is another than the one beside it.
    let sha384 = sequence(&[&tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3])]);
    let mut mixed = Raw::new();
    mixed.inner = sha384.clone();
    assert!(Crl::parse(&mixed.der(&root_key)).map_or(true, |crl| !crl.is_signed_by(&root)));
    let mut mixed = Raw::new();
    mixed.outer = sha384;
    assert!(Crl::parse(&mixed.der(&root_key)).map_or(true, |crl| !crl.is_signed_by(&root)));
}

#[test]
fn odd_serial_numbers_are_refused_or_mean_the_same() {
    let root_key = key();
    let parse = |serial: &[u8]| Crl::parse(&Raw::new().entry(serial, &[]).der(&root_key));
    assert!(parse(&[]).is_err());
    assert!(parse(&[0xff; 64]).is_err());
    assert!(parse(&[0, 0, 1]).map_or(true, |crl| crl.lists(&[1])), "superfluous zeros");
    assert!(parse(&[0, 1]).map_or(true, |crl| crl.lists(&[1])), "superfluous zero");
}

#[test]
fn every_truncation_and_every_flip_is_noticed() {
    let root_key = key();
    let root = own(&authority("root"), &root_key);
    let der = Raw::new().entry(&[0x11], &[]).extension(20, false, &[2, 1, 9]).der(&root_key);
    assert!(Crl::parse(&der).unwrap().is_signed_by(&root));
    for length in 0..der.len() {
        assert!(Crl::parse(&der[..length]).is_err(), "{length} bytes");
    }
    assert!(Crl::parse(&[&der[..], &[0]].concat()).is_err(), "trailing");
    for bit in 0..der.len() * 8 {
        let mut altered = der.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert!(Crl::parse(&altered).map_or(true, |crl| !crl.is_signed_by(&root)), "bit {bit}");
    }
}

#[test]
fn all_three_forms_are_read_and_long_lists_too() {
    let root_key = key();
    let der = Raw::new().entry(&[1], &[]).der(&root_key);
    let hex = hex::encode(&der);
    assert!(Crl::parse(hex.as_bytes()).unwrap().lists(&[1]));
    assert!(Crl::parse(format!("{hex}\n").as_bytes()).is_ok());
    assert!(
        Crl::parse(&hex.as_bytes()[1..]).is_err()
            && Crl::parse(b"3").is_err()
            && Crl::parse(b"30zz").is_err()
    );
    let signed = list(&[&[1]]).signed_by(&Issuer::new(leaf("root"), &root_key)).unwrap();
    assert!(Crl::parse(signed.pem().unwrap().as_bytes()).unwrap().lists(&[1]));
    assert!(Crl::parse(&[]).is_err());
    // 30000 entries are most of a megabyte; twice as many are too much.
    let many = |count: u32| {
        let mut raw = Raw::new();
        for serial in 0..count {
            raw = raw.entry(&[&[1], &serial.to_be_bytes()[..]].concat(), &[]);
        }
        raw.der(&root_key)
    };
    let crl = Crl::parse(&many(30_000)).unwrap();
    assert!(crl.len() == 30_000 && crl.lists(&[1, 0, 0, 0x12, 0x34]));
    assert!(Crl::parse(&many(60_000)).is_err());
}
