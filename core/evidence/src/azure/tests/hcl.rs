//! The paravisor's report.

use proptest::prelude::*;
use serde_json::json;

use super::super::hcl::{Hardware, HclReport, RuntimeData};
use super::vector;
use crate::x509::PublicKey;

#[test]
fn real_reports_parse() {
    for (name, hardware, version) in
        [("az-snp-vtpm/hcl-report.bin", Hardware::Snp, 1), ("az-tdx-vtpm/hcl-report.bin", Hardware::Tdx, 2)]
    {
        let Some(bytes) = vector(name) else { return };
        let report = HclReport::parse(&bytes).unwrap();
        assert_eq!((report.hardware(), report.version()), (hardware, version));
        assert_eq!(report.to_bytes(), bytes);
        let at = if hardware == Hardware::Snp { 0x50 } else { 0x80 };
        assert_eq!(report.report()[at..at + 64], report.report_data(), "{name}");
        let data = RuntimeData::parse(report.data()).unwrap();
        assert!(matches!(data.attestation_key, PublicKey::Rsa(_)));
        assert_eq!(data.user_data, [0; 64]);
        assert_eq!(data.configuration["tpm-enabled"], true);
    }
}

#[test]
fn cut_reports_are_refused() {
    let Some(bytes) = vector("az-snp-vtpm/hcl-report.bin") else { return };
    let data = HclReport::parse(&bytes).unwrap().data().len();
    for length in 0..0x4d4 + data {
        assert!(HclReport::parse(&bytes[..length]).is_err(), "{length}");
    }
    // The padding may be of any length, but nothing else.
    assert!(HclReport::parse(&bytes[..0x4d4 + data]).is_ok());
    let longer = [bytes.as_slice(), &[0; 8192]].concat();
    assert!(HclReport::parse(&longer).is_err());
    let mut hidden = bytes.clone();
    *hidden.last_mut().unwrap() = 1;
    assert!(HclReport::parse(&hidden).is_err());
}

#[test]
fn sizes_and_kinds_that_cannot_be_are_refused() {
    let Some(bytes) = vector("az-snp-vtpm/hcl-report.bin") else { return };
    for at in [0x04, 0x08, 0x0c, 0x10, 0x14, 0x4c0, 0x4c4, 0x4c8, 0x4cc, 0x4d0] {
        for value in [5u32, 0x456 + 1, 0x7fff_ffff, u32::MAX] {
            let mut bytes = bytes.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert!(HclReport::parse(&bytes).is_err(), "{at:#x} {value:#x}");
        }
    }
}

#[test]
fn the_attestation_key_must_be_the_one_and_only() {
    let key = json!({"kid": "HCLAkPub", "key_ops": ["sign"], "kty": "RSA", "e": "AQAB", "n": "sAAA"});
    let data = |keys| serde_json::to_vec(&json!({"keys": keys, "user-data": "00ff"})).unwrap();
    let parsed = RuntimeData::parse(&data(json!([key.clone()]))).unwrap();
    assert_eq!(parsed.user_data, [0, 255]);
    let with = |name: &str, value| {
        let mut key = key.clone();
        key[name] = value;
        json!([key])
    };
    for keys in [
        json!([key.clone(), key.clone()]),
        json!([]),
        json!("HCLAkPub"),
        json!(vec![key.clone(); 17]),
        with("kid", json!("HCLEkPub")),
        with("kid", json!("HCLTransferKey")),
        with("key_ops", json!(["encrypt"])),
        with("key_ops", json!(["sign", "encrypt"])),
        with("kty", json!("EC")),
        with("n", json!("=")),
        with("n", json!(7)),
        with("n", json!("A".repeat(4000))),
        with("e", json!(null)),
    ] {
        assert!(RuntimeData::parse(&data(keys.clone())).is_err(), "{keys}");
    }
    for user_data in [json!("0"), json!(0), json!("00".repeat(65))] {
        let data = serde_json::to_vec(&json!({"keys": [key], "user-data": user_data})).unwrap();
        assert!(RuntimeData::parse(&data).is_err());
    }
    let deep = "[".repeat(100_000);
    assert!(RuntimeData::parse(deep.as_bytes()).is_err());
}

proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _ = HclReport::parse(&bytes);
        let _ = RuntimeData::parse(&bytes);
        let mut begun = b"HCLA\x01\0\0\0".to_vec();
        begun.extend(&bytes);
        let _ = HclReport::parse(&begun);
    }
}
