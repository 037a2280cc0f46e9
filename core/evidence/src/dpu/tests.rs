//! Devices of our own: there is no real evidence to be had.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cocoon_stage::Code;
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SerialNumber, SigningKey as _, date_time_ymd,
};
use serde_json::{Value, json};

use super::*;
use crate::x509::Certificate;
use crate::{Error, Expectation, Verdict};

/// 2026-01-01, when the alias certificate becomes valid.
const BOOT: u64 = 1_767_225_600;
const NONCE: [u8; 48] = [7; 48];

/// A `DiceTcbInfo` with version 1.2, svn 3, two SHA-384 FWIDs, and these flags.
fn tcb_info(flags: Option<u8>) -> Vec<u8> {
    let mut fields = vec![0x82, 3, b'1', b'.', b'2', 0x83, 1, 3];
    let oid = [6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
    let fwid = |byte| [&[0x30, 61][..], &oid, &[4, 48], &[byte; 48]].concat();
    fields.extend([&[0xa6, 126][..], &fwid(0xaa), &fwid(0xbb)].concat());
    if let Some(flags) = flags {
        fields.extend([0x87, 2, 4, flags]);
    }
    [&[0x30, 0x81, u8::try_from(fields.len()).unwrap()][..], &fields].concat()
}

struct Device {
    root: Certificate,
    json: Value,
    alias_key: KeyPair,
}

/// What may differ from a proper device.
struct Plan {
    device_is_ca: bool,
    root_path_length: BasicConstraints,
    curve: &'static rcgen::SignatureAlgorithm,
    tcb_info: Option<Vec<u8>>,
    foreign_alias: bool,
    expired_device: bool,
}

impl Plan {
    fn proper() -> Self {
        Plan {
            device_is_ca: true,
            root_path_length: BasicConstraints::Unconstrained,
            curve: &PKCS_ECDSA_P384_SHA384,
            tcb_info: Some(tcb_info(None)),
            foreign_alias: false,
            expired_device: false,
        }
    }

    fn device(self) -> Device {
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let params = |name: &str, is_ca| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = is_ca;
            params.not_before = date_time_ymd(2025, 1, 1);
            params.not_after = date_time_ymd(2035, 1, 1);
            params
        };
        let root_key = key();
        let root_params = params("Test DPU Root", IsCa::Ca(self.root_path_length));
        let root = root_params.self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(root_params, root_key);

        let mut device_params = params(
            "bluefield3",
            match self.device_is_ca {
                true => IsCa::Ca(BasicConstraints::Constrained(0)),
                false => IsCa::ExplicitNoCa,
            },
        );
        device_params.serial_number = Some(SerialNumber::from_slice(&[0x0a, 0xbc]));
        if self.expired_device {
            device_params.not_after = date_time_ymd(2025, 6, 1);
        }
        let extension = |content| CustomExtension::from_oid_content(&[2, 23, 133, 5, 4, 1], content);
        device_params.custom_extensions.extend(self.tcb_info.map(extension));
        let device_key = KeyPair::generate_for(self.curve).unwrap();
        let device = device_params.signed_by(&device_key, &root_issuer).unwrap();
        let device_issuer = Issuer::new(device_params, if self.foreign_alias { key() } else { device_key });

        let mut alias_params = params("alias", IsCa::NoCa);
        alias_params.not_before = date_time_ymd(2026, 1, 1);
        let alias_key = key();
        let alias = alias_params.signed_by(&alias_key, &device_issuer).unwrap();
        let json = json!({
            "version": 1,
            "devices": [{
                "architecture": "bluefield3",
                "alias_cert": STANDARD.encode(alias.der()),
                "device_id_cert": STANDARD.encode(device.der()),
                "report_data_signature": "",
            }],
        });
        Device { root: Certificate::parse(root.der()).unwrap(), json, alias_key }
    }
}

impl Device {
    fn trust(&self) -> Trust {
        Trust { roots: vec![self.root.clone()], max_certificate_age_seconds: 3600 }
    }

    fn evidence(&self, signature: Vec<u8>) -> Evidence {
        Evidence { report_data_signature: signature, ..Evidence::from_json(&self.json).unwrap() }
    }

    /// r and s, as the attester signs: padded to 64 bytes.
    fn signed(&self) -> Evidence {
        let mut message = [0; 64];
        message[..48].copy_from_slice(&NONCE);
        self.evidence(self.fixed(&message))
    }

    fn fixed(&self, message: &[u8]) -> Vec<u8> {
        let der = self.alias_key.serialize_der();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &der).unwrap();
        key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }
}

fn expect(report_data: Option<&[u8]>, now_unix: u64) -> Expectation<'_> {
    Expectation { report_data, init_data_digest: None, now_unix }
}

fn failed(verdict: &Verdict) -> Vec<(&'static str, Code)> {
    verdict.checks.iter().filter_map(|c| c.code.map(|code| (c.name, code))).collect()
}

fn names(device: &Device) -> Vec<&'static str> {
    let verdict = verify(&device.signed(), &device.trust(), &expect(Some(&NONCE), BOOT + 60));
    assert_eq!(verdict.claims.is_null(), !verdict.ok());
    failed(&verdict).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_proper_device_verifies_and_is_claimed() {
    let device = Plan::proper().device();
    let verdict = verify(&device.signed(), &device.trust(), &expect(Some(&NONCE), BOOT + 60));
    assert_eq!(failed(&verdict), []);
    let layer = |i: usize, byte: &str| {
        json!({
            "certificate": "device-id", "name": format!("layer_{i}"), "fwid": byte.repeat(48),
            "hash_algorithm": "2.16.840.1.101.3.4.2.2", "vendor": null, "model": null, "version": "1.2", "svn": 3,
            "layer": null, "index": null, "vendor_info": null, "type": null,
        })
    };
    let both = [[0xaa; 48], [0xbb; 48]].concat();
    let accumulated = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA384, &both);
    let expected = json!({
        "device_serial": "abc",
        "device_class": "bluefield3",
        "firmware_layers_count": 2,
        "accumulated_fwid": hex::encode(accumulated),
        "alias_timestamp": BOOT,
        "layers": [layer(0, "aa"), layer(1, "bb")],
        "session_nonce": "07".repeat(48),
    });
    assert_eq!(verdict.claims, expected);
    let evidence = device.signed();
    let again = Evidence::from_json(&evidence.to_json()).unwrap();
    assert_eq!(again.to_json(), evidence.to_json());
}

#[test]
fn both_forms_of_signature_and_of_message_are_taken() {
    let device = Plan::proper().device();
    let judge = |signature: Vec<u8>| {
        failed(&verify(&device.evidence(signature), &device.trust(), &expect(Some(&NONCE), BOOT)))
    };
    let padded = [&NONCE[..], &[0; 16]].concat();
    assert_eq!(judge(device.fixed(&NONCE)), []);
    assert_eq!(judge(device.fixed(&padded)), []);
    assert_eq!(judge(device.alias_key.sign(&NONCE).unwrap()), []);
    assert_eq!(judge(device.alias_key.sign(&padded).unwrap()), []);
    let mismatch = [("report-data.signature", Code::AttestReportDataMismatch)];
    assert_eq!(judge(device.fixed(&NONCE[1..])), mismatch);
    assert_eq!(judge(Vec::new()), mismatch);
    let good = device.fixed(&padded);
    for bit in 0..good.len() * 8 {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(judge(flipped), mismatch, "bit {bit}");
    }
    for length in 0..good.len() {
        assert_eq!(judge(good[..length].to_vec()), mismatch, "{length} bytes");
    }
}

#[test]
fn without_report_data_there_is_no_proof() {
    let device = Plan::proper().device();
    let mismatch = [("report-data.signature", Code::AttestReportDataMismatch)];
    for data in [None, Some(&[][..]), Some(&[7; 47]), Some(&[0; 48]), Some(&[7; 65])] {
        assert_eq!(failed(&verify(&device.signed(), &device.trust(), &expect(data, BOOT))), mismatch);
    }
    let expectation = Expectation { init_data_digest: Some(&[1; 32]), ..expect(Some(&NONCE), BOOT) };
    let verdict = verify(&device.signed(), &device.trust(), &expectation);
    assert_eq!(failed(&verdict), [("report-data.init-data", Code::AttestInitdataMismatch)]);
}

#[test]
fn every_link_of_the_chain_is_checked() {
    let device = Plan::proper().device();
    assert!(names(&device).is_empty());
    let other = Plan::proper().device();
    let judge = |roots: Vec<Certificate>| {
        let trust = Trust { roots, max_certificate_age_seconds: 3600 };
        failed(&verify(&device.signed(), &trust, &expect(Some(&NONCE), BOOT)))
    };
    let untrusted = [("device-id.chain", Code::AttestChainUntrusted)];
    assert_eq!(judge(Vec::new()), untrusted);
    assert_eq!(judge(vec![other.root.clone()]), untrusted, "same name, another key");
    assert_eq!(judge(vec![other.root, device.root.clone()]), []);

    assert_eq!(names(&Plan { foreign_alias: true, ..Plan::proper() }.device()), ["alias.chain"]);
    assert_eq!(names(&Plan { device_is_ca: false, ..Plan::proper() }.device()), ["alias.chain"]);
    let short = Plan { root_path_length: BasicConstraints::Constrained(0), ..Plan::proper() };
    assert_eq!(names(&short.device()), ["device-id.chain"]);
    let weak = Plan { curve: &PKCS_ECDSA_P256_SHA256, ..Plan::proper() };
    assert_eq!(names(&weak.device()), ["device-id.key"]);
    let old = Plan { expired_device: true, ..Plan::proper() };
    assert_eq!(names(&old.device()), ["device-id.validity"]);
}

#[test]
fn ages_are_checked() {
    let device = Plan::proper().device();
    let judge = |now| failed(&verify(&device.signed(), &device.trust(), &expect(Some(&NONCE), now)));
    let expired = |names: &[&'static str]| -> Vec<_> {
        names.iter().map(|name| (*name, Code::AttestCertificateExpired)).collect()
    };
    assert_eq!(judge(BOOT + 3600), []);
    assert_eq!(judge(BOOT + 3601), expired(&["alias.age"]));
    assert_eq!(judge(BOOT - 1), expired(&["alias.validity", "alias.age"]));
    let all = ["device-id.validity", "alias.validity", "alias.age", "root.validity"];
    assert_eq!(judge(u64::MAX), expired(&all));
    assert_eq!(judge(0), expired(&all));
}

#[test]
fn firmware_must_be_measured_and_the_device_in_its_normal_state() {
    assert_eq!(names(&Plan { tcb_info: None, ..Plan::proper() }.device()), ["tcb-info.measurements"]);
    let bare = Plan { tcb_info: Some(vec![0x30, 0]), ..Plan::proper() };
    assert_eq!(names(&bare.device()), ["tcb-info.measurements"]);
    for (flags, name) in [(0x80, "not_configured"), (0x40, "not_secure"), (0x20, "recovery"), (0x10, "debug")]
    {
        let device = Plan { tcb_info: Some(tcb_info(Some(flags))), ..Plan::proper() }.device();
        let verdict = verify(&device.signed(), &device.trust(), &expect(Some(&NONCE), BOOT));
        assert_eq!(failed(&verdict), [("tcb-info.flags", Code::AttestDebugEnabled)]);
        assert!(verdict.checks.iter().any(|c| c.got == name));
    }
    assert!(names(&Plan { tcb_info: Some(tcb_info(Some(0))), ..Plan::proper() }.device()).is_empty());
}

#[test]
fn tcb_info_is_read_strictly() {
    let parse = |der: &[u8]| TcbInfo::parse(der);
    let good = tcb_info(Some(0x10));
    let info = parse(&good).unwrap();
    assert_eq!((info.svn, info.flags, info.fwids.len()), (Some(3), 8, 2));
    for length in 0..good.len() {
        assert!(parse(&good[..length]).is_err());
    }
    assert!(parse(&[&good[..], &[0]].concat()).is_err());
    let field = |bytes: &[u8]| parse(&[&[0x30, u8::try_from(bytes.len()).unwrap()][..], bytes].concat());
    assert_eq!(field(&[0x83, 9, 0, 255, 255, 255, 255, 255, 255, 255, 255]).unwrap().svn, Some(u64::MAX));
    assert_eq!(field(&[0x83, 1, 0]).unwrap().svn, Some(0));
    assert_eq!(field(&[0x87, 5, 0, 0, 0, 0, 1]).unwrap().flags, 1 << 31);
    assert!(field(&[0x87, 5, 0, 0, 0, 0, 1]).unwrap().flag_names().is_empty());
    assert_eq!(field(&[0x87, 2, 3, 8]).unwrap().flag_names(), ["unknown"]);
    assert!(
        field(&[0x87, 2, 4, 0x10, 0x8a, 2, 4, 0]).unwrap().flag_names() == ["debug"],
        "a mask hides nothing"
    );
    let bad: [&[u8]; 15] = [
        &[0x83, 0],
        &[0x83, 1, 0x80],
        &[0x83, 2, 0, 1],
        &[0x83, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x84, 1, 1, 0x83, 1, 1],
        &[0x83, 1, 1, 0x83, 1, 1],
        &[0x80, 1, 10],
        &[0x80, 1, 0xff],
        &[0x87, 1, 1],
        &[0x87, 2, 8, 0],
        &[0x87, 2, 4, 1],
        &[0x87, 6, 0, 0, 0, 0, 0, 0],
        &[0x8b, 1, 0],
        &[0xa6, 2, 0x30, 0],
        &[2, 1, 1],
    ];
    for bytes in bad {
        assert!(matches!(field(bytes), Err(Error::Malformed { .. })), "{bytes:02x?}");
    }
    let many = [&[0x30, 70][..], &[0xa6, 68], &[0x30, 0].repeat(34)].concat();
    assert!(parse(&many).is_err());
}

#[test]
fn malformed_evidence_is_refused() {
    let device = Plan::proper().device();
    let with = |pointer: &str, value: Value| {
        let mut changed = device.json.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        Evidence::from_json(&changed)
    };
    assert!(Evidence::from_json(&device.json).is_ok());
    assert!(Evidence::from_json(&Value::Null).is_err());
    assert!(matches!(with("/version", json!(2)), Err(Error::Unsupported { .. })));
    assert!(with("/version", json!("1")).is_err());
    assert!(with("/devices", json!([])).is_err());
    let one = device.json["devices"][0].clone();
    assert!(with("/devices", json!([one, one])).is_err(), "one device, not two");
    assert!(matches!(with("/devices/0/architecture", json!("bluefield4")), Err(Error::Unsupported { .. })));
    for field in ["alias_cert", "device_id_cert", "report_data_signature"] {
        let pointer = format!("/devices/0/{field}");
        for value in [json!(null), json!("?"), json!("A".repeat(64 * 1024))] {
            assert!(with(&pointer, value).is_err(), "{field}");
        }
    }
    assert!(with("/devices/0/alias_cert", json!("AAAA")).is_err());
    let broken = Plan { tcb_info: Some(vec![1, 2, 3]), ..Plan::proper() }.device();
    assert!(matches!(Evidence::from_json(&broken.json), Err(Error::Malformed { .. })));
}

#[test]
fn flipped_bits_of_certificates_are_found() {
    let device = Plan::proper().device();
    let trust = device.trust();
    let signature = STANDARD.encode(&device.signed().report_data_signature);
    for field in ["alias_cert", "device_id_cert"] {
        let good = STANDARD.decode(device.json["devices"][0][field].as_str().unwrap()).unwrap();
        for at in 0..good.len() {
            let mut flipped = good.clone();
            flipped[at] ^= 1 << (at % 8);
            let mut json = device.json.clone();
            json["devices"][0][field] = json!(STANDARD.encode(&flipped));
            json["devices"][0]["report_data_signature"] = json!(signature);
            let Ok(evidence) = Evidence::from_json(&json) else { continue };
            assert!(!verify(&evidence, &trust, &expect(Some(&NONCE), BOOT)).ok(), "{field} byte {at}");
        }
    }
}

proptest! {
    #[test]
    fn parsers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..160_usize, value: u8) {
        let _ = TcbInfo::parse(&bytes);
        let mut changed = tcb_info(Some(0x10));
        if let Some(byte) = changed.get_mut(at) {
            *byte = value;
        }
        let _ = TcbInfo::parse(&changed);
        let text = STANDARD.encode(&bytes);
        let device = json!({ "architecture": "bluefield3", "alias_cert": text, "device_id_cert": text,
            "report_data_signature": text });
        let _ = Evidence::from_json(&json!({ "version": 1, "devices": [device] }));
    }
}
