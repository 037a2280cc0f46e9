//! Malformed evidence and documents, flipped bits, one format in the place of another.

use std::sync::Arc;

use cocoon_stage::Code;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Error;
use crate::collateral::Document;
use crate::csv::testing::*;

#[test]
fn hsk_and_cek_may_come_from_a_provider_that_nobody_trusts() {
    let machine = Machine::new();
    let mut evidence = evidence(&machine, Fields::new().v2(&machine));
    evidence.hsk_cek = None;
    let need = needs(&evidence).remove(0);
    let with = |body: Vec<u8>| {
        let mut collateral = Collateral::none();
        collateral.insert(need.clone(), Arc::new(Document { body, issuer_chain: String::new() }));
        verify(&evidence, &machine.roots(), &Rules::default(), &collateral, &NOBODY)
    };
    assert!(with(machine.document()).ok());
    for length in [0, 831, 832, 2915] {
        let mut body = machine.document();
        body.truncate(length);
        let invalid = Code::AttestCollateralInvalid;
        assert_eq!(
            failed(&with(body)),
            [("hsk.chain", invalid), ("cek.chain", invalid), ("pek.chain", invalid)]
        );
    }
    let mut long = machine.document();
    long.push(0);
    assert!(!with(long).ok());
    for at in (0..2916).step_by(7) {
        // The CEK's second signature is nobody's and no part of the chain.
        if (832 + 1044 + 520..832 + 1044 + 520 + 152).contains(&at) {
            continue;
        }
        let mut body = machine.document();
        body[at] ^= 0x10;
        assert!(!with(body).ok(), "byte {at}");
    }
}

#[test]
fn flipped_bits_of_our_own_report_are_found() {
    let machine = Machine::new();
    let roots = machine.roots();
    let good = evidence(&machine, Fields::new().v2(&machine));
    let page = good.report.to_bytes();
    for (i, at) in (0..0x490).chain((0x490..Report::SIZE).step_by(16)).enumerate() {
        let mut flipped = page.to_vec();
        flipped[at] ^= 1 << (i % 8);
        let Ok(report) = Report::parse(b"ATTESTATION_EXT\0", 1, &flipped) else { continue };
        let mut evidence = good.clone();
        evidence.report = report;
        // What the attester clears, and the MAC over that.
        let unsigned = (0x490 + 2084 + 64..0x490 + 2084 + 128).contains(&at);
        assert_eq!(judge(&evidence, &roots).ok(), unsigned, "byte {at:#x}");
    }
}

#[test]
fn one_version_is_not_taken_for_the_other() {
    let machine = Machine::new();
    let v2 = Fields::new().v2(&machine);
    let v1 = Fields::new().v1(&machine, [1, 2, 3, 4]);
    let read = |magic: &[u8; 16], flags, report: &Report| Report::parse(magic, flags, report.to_bytes());
    for (magic, flags) in [([0; 16], 1), ([1; 16], 0), (*b"ATTESTATION_EXT\0", 2), (*b"ATTESTATION_EXT\0", 3)]
    {
        assert!(matches!(read(&magic, flags, &v2), Err(Error::Unsupported { .. })));
    }
    assert!(read(&[0; 16], 0, &v2).is_err(), "there is more than version 1 has");
    let as_v1 = read(b"ATTESTATION_EXT\0", 0, &v1).unwrap();
    assert!(judge(&evidence(&machine, as_v1), &machine.roots()).ok());
    if let Ok(as_v2) = read(b"ATTESTATION_EXT\0", 1, &v1) {
        assert!(names(&judge(&evidence(&machine, as_v2), &machine.roots())).contains(&"report.signature"));
    }
}

#[test]
fn malformed_evidence_is_refused() {
    let machine = Machine::new();
    let good = evidence(&machine, Fields::new().v1(&machine, [1, 2, 3, 4])).to_json();
    let with = |pointer: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        Evidence::from_json(&changed)
    };
    assert!(Evidence::from_json(&good).is_ok());
    assert!(Evidence::from_json(&Value::Null).is_err());
    for field in ["attestation_report", "cert_chain", "serial_number"] {
        let mut less = good.clone();
        less.as_object_mut().unwrap().remove(field);
        assert!(Evidence::from_json(&less).is_err(), "{field}");
    }
    for (pointer, value) in [
        ("/attestation_report/data", json!(vec![0; 4095])),
        ("/attestation_report/data", json!(vec![0; 4097])),
        ("/attestation_report/data", json!(vec![256; 4096])),
        ("/attestation_report/magic", json!([0])),
        ("/attestation_report/flags", json!(-1)),
        ("/attestation_report/flags", json!(1)),
        ("/serial_number", json!(vec![0; 64])),
        ("/serial_number", json!(vec![65; 63])),
        ("/serial_number", json!("KPA64911240507")),
        ("/cc_eventlog", json!(7)),
        ("/cc_eventlog", json!("?")),
        ("/cc_eventlog", json!("A".repeat(4 * 1024 * 1024))),
        ("/cert_chain/hsk_cek", json!([])),
        ("/cert_chain/hsk_cek/cek", Value::Null),
        ("/cert_chain/hsk_cek/hsk/body/uid_size", json!(255)),
        ("/cert_chain/hsk_cek/hsk/body/preamble/ver", json!(2)),
        ("/cert_chain/hsk_cek/hsk/_reserved/5", json!(1)),
        ("/cert_chain/pek/body/ver", json!(2)),
        ("/cert_chain/pek/body/data/pubkey/key/g", json!(2)),
        ("/cert_chain/pek/body/data/pubkey/key/x/32", json!(1)),
        ("/cert_chain/pek/body/data/uid_size", json!(255)),
        ("/cert_chain/pek/body/data/user_id/0", json!(0xe4)),
        ("/cert_chain/pek/body/data/user_id/0", json!(10)),
        ("/cert_chain/pek/sigs/1/_reserved/0", json!(1)),
        ("/cert_chain/pek/sigs", json!([])),
    ] {
        assert!(with(pointer, value).is_err(), "{pointer}");
    }
    // A traversal in the serial number goes nowhere.
    let mut path = b"../../etc/x".to_vec();
    path.resize(64, 0);
    assert!(with("/serial_number", json!(path)).is_err());
}

#[test]
fn cut_off_structures_are_refused() {
    let machine = Machine::new();
    let report = Fields::new().v2(&machine);
    for length in 0..Report::SIZE {
        let cut = &report.to_bytes()[..length];
        assert!(Report::parse(&[0; 16], 0, cut).is_err());
        assert!(Report::parse(b"ATTESTATION_EXT\0", 1, cut).is_err());
    }
    for length in 0..2084 {
        assert!(ChipCertificate::parse(&machine.cek_certificate.to_bytes()[..length]).is_err());
        let root = machine.root.to_bytes();
        assert!(CaCertificate::parse(&root[..length.min(831)]).is_err());
    }
}

proptest! {
    #[test]
    fn parsers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4200), flags in 0..3_u32) {
        let _ = Report::parse(&[0; 16], flags, &bytes);
        let _ = Report::parse(b"ATTESTATION_EXT\0", flags, &bytes);
        let _ = CaCertificate::parse(&bytes);
        let _ = ChipCertificate::parse(&bytes);
        let _ = ChipId::from_field(&bytes);
    }

    #[test]
    fn hostile_certificates_never_panic(at in 0..2084_usize, value: u8, other in 0..2084_usize) {
        let machine = Machine::new();
        let mut bytes = machine.pek_certificate.to_bytes().to_vec();
        bytes[at] = value;
        bytes[other] ^= value;
        if let Ok(pek) = ChipCertificate::parse(&bytes) {
            let mut evidence = evidence(&machine, Fields::new().v2(&machine));
            evidence.pek = pek;
            let _ = judge(&evidence, &machine.roots());
        }
    }
}
