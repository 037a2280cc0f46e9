//! Hostile evidence: cut, altered, with wrong counts, too large, noise.

use proptest::prelude::*;

use super::devices::*;
use super::*;
use crate::Error;

const CHALLENGE: [u8; 32] = [0x42; 32];

#[test]
fn a_report_cut_anywhere_is_refused() {
    let Some((report, _)) = first() else { return };
    for length in 0..report.len() {
        assert!(Report::parse(&report[..length], Architecture::Hopper).is_err(), "{length}");
    }
    for more in [&[0; 17][..], &[1], &[0, 1], &[0; 20_000]] {
        assert!(Report::parse(&[&report, more].concat(), Architecture::Hopper).is_err());
    }
}

/// Every byte of the report is covered: by a field that can only have one value, or by the signature.
#[test]
fn every_altered_byte_is_noticed() {
    let Some((report, evidence)) = first() else { return };
    let device = &evidence.devices[0];
    for at in 0..report.len() {
        let mut altered = report.clone();
        altered[at] ^= 1 << (at % 8);
        let Ok(report) = Report::parse(&altered, Architecture::Hopper) else { continue };
        let mut altered = device.clone();
        altered.report = report;
        assert!(super::super::verify::signature(&altered).code.is_some(), "byte {at}");
    }
}

#[test]
fn altered_evidence_never_verifies() {
    let Some((report, _)) = first() else { return };
    let pem = vector("nvidia/hopper_cert_chain_case1.txt").unwrap();
    // A sample, for each takes all the signatures of the chain. Only what the certificates say: a frame that is not one
    // hides its certificate, and a chain may come without its root.
    let mut at = 0;
    let mut tried = 0;
    for line in pem.split_inclusive(|b| *b == b'\n') {
        for place in (at..at + line.len().saturating_sub(1)).step_by(29).filter(|_| line[0] != b'-') {
            let mut altered = pem.clone();
            altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
            let Ok(evidence) = Evidence::from_json(&wire("HOPPER", &report, &altered)) else { continue };
            assert!(!judge(&evidence, &expecting(None)).ok(), "byte {place}");
            tried += 1;
        }
        at += line.len();
    }
    assert!(tried > 50, "{tried}");
}

type Change = fn(&mut OwnDevice);

fn refused(change: impl FnOnce(&mut OwnDevice)) -> Error {
    let mut device = Vendor::new().device(Architecture::Hopper);
    change(&mut device);
    Report::parse(&device.report(&CHALLENGE), Architecture::Hopper).unwrap_err()
}

#[test]
fn well_signed_nonsense_is_refused() {
    let malformed: [(&str, Change); 14] = [
        ("no measurement", |d| d.measurements.clear()),
        ("an index twice", |d| d.measurements[1].0 = 1),
        ("index 0", |d| d.measurements[0].0 = 0),
        ("index 255", |d| d.measurements[0].0 = 255),
        ("a field twice", |d| d.opaque.push((3, b"1.2".to_vec()))),
        ("no firmware version", |d| d.opaque.retain(|(kind, _)| *kind != 6)),
        ("no driver version", |d| d.opaque.retain(|(kind, _)| *kind != 3)),
        ("no FWID", |d| d.opaque.retain(|(kind, _)| *kind != 20)),
        ("a short FWID", |d| d.set(20, &[1; 47])),
        ("a path as driver version", |d| d.set(3, b"../../x")),
        ("a text after its end", |d| d.set(3, b"1\x002")),
        ("a firmware version of another length", |d| d.set(6, &[1; 7])),
        ("counts of another length", |d| d.set(12, &[1; 7])),
        ("identities of another length", |d| d.set(22, &[1; 7])),
    ];
    for (what, change) in malformed {
        assert!(matches!(refused(change), Error::Malformed { .. }), "{what}");
    }
    for kind in [0, 27, 37, 255, 0x8001] {
        let error = refused(|device| device.opaque.push((kind, vec![1])));
        assert!(matches!(error, Error::Unsupported { what: "NVIDIA opaque field", .. }), "{kind}");
    }
}

#[test]
fn other_messages_are_refused() {
    let report = Vendor::new().device(Architecture::Hopper).report(&CHALLENGE);
    let record = 45;
    // Versions, codes, attributes, operation, slots, counts, lengths, specification.
    for (at, value) in [
        (0, 0x12),
        (1, 0xe1),
        (2, 0),
        (3, 1),
        (36, 1),
        (36, 8),
        (37, 0x10),
        (38, 0x7f),
        (39, 1),
        (40, 1),
        (40, 16),
        (41, 39),
        (41, 41),
        (41, 0),
        (42, 0),
        (44, 1),
        (44, 255),
        (record + 1, 2),
        (record + 2, 50),
        (record + 3, 1),
        (record + 5, 47),
        (record + 6, 255),
    ] {
        let mut altered = report.clone();
        assert_ne!(altered[at], value);
        altered[at] = value;
        assert!(Report::parse(&altered, Architecture::Hopper).is_err(), "byte {at} = {value:#x}");
    }
}

#[test]
fn json_of_another_shape_is_refused() {
    let Some((report, _)) = first() else { return };
    let pem = vector("nvidia/hopper_cert_chain_case1.txt").unwrap();
    let good = wire("HOPPER", &report, &pem);
    let with = |name: &str, value: Value| {
        let mut device = good["device_evidence_list"][0].clone();
        device[name] = value;
        json!({ "device_evidence_list": [device] })
    };
    let device = &good["device_evidence_list"][0];
    assert!(Evidence::from_json(&with("uuid", Value::Null)).is_ok());
    assert!(Evidence::from_json(&with("evidence", json!(STANDARD.encode(&report)))).is_ok());
    for bad in [
        json!(null),
        json!({}),
        json!({ "device_evidence_list": {} }),
        json!({ "device_evidence_list": [] }),
        json!({ "device_evidence_list": vec![device; 65] }),
        json!({ "device_evidence_list": [1] }),
        with("arch", json!(1)),
        with("arch", json!("")),
        with("uuid", json!("x".repeat(65))),
        with("uuid", json!("a\u{1}")),
        with("evidence", json!("!")),
        with("evidence", json!("")),
        with("evidence", json!("00".repeat(16 * 1024 + 1))),
        with("certificate", json!("!")),
        with("certificate", json!("")),
        with("certificate", json!(STANDARD.encode("x".repeat(40_000)))),
        with("certificate", json!(STANDARD.encode(pem.repeat(6)))),
    ] {
        assert!(
            Evidence::from_json(&bad).is_err(),
            "{}",
            bad.to_string().chars().take(80).collect::<String>()
        );
    }
}

#[test]
fn serial_numbers_are_decimal() {
    for (bytes, expected) in [
        (&[][..], "0"),
        (&[0, 0], "0"),
        (&[9], "9"),
        (&[10], "10"),
        (&[1, 0], "256"),
        (&[255; 8], "18446744073709551615"),
    ] {
        assert_eq!(super::super::claims::decimal(bytes), expected);
    }
    assert_eq!(super::super::claims::decimal(&[1; 33]), "01".repeat(33));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parsers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0u16..200) {
        for architecture in [Architecture::Hopper, Architecture::Ls10] {
            let _ = Report::parse(&bytes, architecture);
            let mut report = vec![0x11, 0xe0, 1, 0xff];
            report.extend([7; 33]);
            report[36] = 0;
            report.extend([0x11, 0x60, 0, 0, 1, 55, 0, 0, 1, 1, 51, 0, 1, 48, 0]);
            report.extend([0; 80]);
            report.extend(cut.to_le_bytes());
            report.extend(&bytes);
            let _ = Report::parse(&report, architecture);
        }
        let _ = super::super::certificate::Firmware::parse(&bytes);
        let _ = super::super::certificate::Firmware::parse(&tlv(0x30, &bytes));
        let _ = super::super::nras::Answer::parse(&bytes);
        let _ = super::super::nras::Jwks::parse(&bytes);
    }
}
