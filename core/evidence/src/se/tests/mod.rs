//! Own round trips (no real evidence is at hand), and hostile answers to challenges.

mod formats;
mod host_keys;
mod pki;
mod ultravisor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_stage::Code;
use serde_json::Value;

use super::*;
use crate::{Expectation, Verdict};
use pki::{DAY, NOW, PKI, p521};
use ultravisor::Ultravisor;

const LIFETIME: u64 = 300;
const REPORT_DATA: [u8; 64] = [7; 64];

/// An image's header with one key slot.
fn header_bytes(seed: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(b"IBMSecEx");
    bytes.extend_from_slice(&0x100u32.to_be_bytes());
    bytes.extend_from_slice(&0x280u32.to_be_bytes());
    bytes.extend_from_slice(&[9; 12]);
    bytes.extend_from_slice(&[0; 4]);
    for number in [1u64, 128, 77, 0xe0] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(&[3; 160]);
    for digest in [1, 2, 3] {
        bytes.extend_from_slice(&[seed + digest; 64]);
    }
    bytes.extend_from_slice(&[8; 80 + 128]);
    bytes.extend_from_slice(&[seed + 4; 16]);
    bytes
}

fn header(seed: u8) -> Header {
    Header::parse(&header_bytes(seed)).unwrap()
}

fn config() -> Config {
    Config {
        host_keys: vec![PKI.other_host_key(), PKI.host_key()],
        header: header(0),
        sealing_key: SealingKey::new(&[1; 32]).unwrap(),
        context: b"a verifier".to_vec(),
        lifetime: LIFETIME,
    }
}

fn machine() -> Ultravisor {
    Ultravisor::new(&PKI.host, header(0).tags)
}

fn expecting(now_unix: u64) -> Expectation<'static> {
    Expectation { report_data: Some(&REPORT_DATA), init_data_digest: None, now_unix }
}

fn judge(evidence: &Value, config: &Config) -> Verdict {
    verify(&Evidence::from_json(evidence).unwrap(), config, &expecting(NOW + 10))
}

fn failed(verdict: &Verdict) -> Vec<&'static str> {
    assert_eq!(verdict.claims.is_null(), !verdict.ok());
    verdict.checks.iter().filter(|c| c.code.is_some()).map(|c| c.name).collect()
}

/// A challenge and an honest answer.
fn answered(config: &Config) -> Value {
    machine().attest(&challenge(config, NOW).unwrap(), &REPORT_DATA).unwrap()
}

#[test]
fn an_honest_answer_verifies() {
    let config = config();
    let evidence = answered(&config);
    let verdict = judge(&evidence, &config);
    assert_eq!(failed(&verdict), Vec::<&str>::new());
    assert!(verdict.ok() && !verdict.simulated);
    let host = hex::encode(PKI.host_key().hash());
    let claims = &verdict.claims;
    assert_eq!(claims["cuid"], "05".repeat(16));
    assert_eq!(claims["report_data"], "07".repeat(64));
    assert_eq!(claims["version"], 256);
    assert_eq!(claims["image_phkh"], host);
    assert_eq!(claims["attestation_phkh"], host);
    assert_eq!(claims["tag"], "04".repeat(16));
    assert_eq!(claims["page_list_digest"], "01".repeat(64));
    assert_eq!(claims["plaintext_control_flags"], "00000000000000e0");
    // Each of the configured machines can answer.
    let other = Ultravisor::new(&PKI.other_host, header(0).tags);
    let evidence = other.attest(&challenge(&config, NOW).unwrap(), &REPORT_DATA).unwrap();
    assert!(judge(&evidence, &config).ok());
    // A SHA-384 digest comes zero-padded.
    let padded = [&[7; 48][..], &[0; 16]].concat();
    let evidence = machine().attest(&challenge(&config, NOW).unwrap(), &padded).unwrap();
    let evidence = Evidence::from_json(&evidence).unwrap();
    let expectation = Expectation { report_data: Some(&[7; 48]), ..expecting(NOW) };
    assert!(verify(&evidence, &config, &expectation).ok());
}

#[test]
fn a_challenge_has_the_members_that_guests_read() {
    let config = config();
    let (text, again) = (challenge(&config, NOW).unwrap(), challenge(&config, NOW).unwrap());
    let members: Vec<String> =
        serde_json::from_str::<Value>(&text).unwrap().as_object().unwrap().keys().cloned().collect();
    let expected = [
        "request_blob",
        "measurement_size",
        "additional_size",
        "encr_measurement_key",
        "encr_request_nonce",
        "image_hdr_tags",
    ];
    assert_eq!(members, expected);
    let bytes = |text: &str, member: &str| {
        STANDARD.decode(serde_json::from_str::<Value>(text).unwrap()[member].as_str().unwrap()).unwrap()
    };
    assert_eq!(bytes(&text, "request_blob").len(), 48 + 16 + 160 + 2 * 80 + 80 + 16);
    assert_eq!(bytes(&text, "image_hdr_tags"), header(0).tags.to_bytes());
    for member in ["request_blob", "encr_measurement_key", "encr_request_nonce"] {
        assert_ne!(bytes(&text, member), bytes(&again, member), "{member} is fresh");
    }
    // Nothing of the secret is in the open.
    let opened = machine().open(&bytes(&text, "request_blob")).unwrap();
    for member in ["request_blob", "encr_measurement_key", "encr_request_nonce"] {
        let open = bytes(&text, member);
        assert!(!open.windows(16).any(|w| w == &opened.measurement_key[..16] || w == opened.nonce));
    }
}

#[test]
fn only_the_machines_meant_can_open_a_request_and_only_unaltered() {
    let config = Config { host_keys: vec![PKI.host_key()], ..config() };
    let text = challenge(&config, NOW).unwrap();
    let stranger = Ultravisor::new(&p521(), header(0).tags);
    assert!(stranger.attest(&text, &REPORT_DATA).is_none());
    assert!(Ultravisor::new(&PKI.other_host, header(0).tags).attest(&text, &REPORT_DATA).is_none());
    let value: Value = serde_json::from_str(&text).unwrap();
    let blob = STANDARD.decode(value["request_blob"].as_str().unwrap()).unwrap();
    assert!(machine().open(&blob).is_some());
    // Within IV, customer key, slots, ciphertext and tag.
    for at in [16, 27, 64 + 20, 64 + 80 + 30, 224, 224 + 40, 224 + 79, 304, blob.len() - 17, blob.len() - 1] {
        let mut altered = blob.clone();
        altered[at] ^= 1;
        assert!(machine().open(&altered).is_none(), "byte {at}");
    }
}

#[test]
fn every_bit_of_an_answer_counts() {
    let config = config();
    let evidence = answered(&config);
    for (member, text) in evidence.as_object().unwrap() {
        let bytes = STANDARD.decode(text.as_str().unwrap()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            let mut evidence = evidence.clone();
            evidence[member] = STANDARD.encode(altered).into();
            let verdict = judge(&evidence, &config);
            let expected = match member.as_str() {
                "image_hdr_tags" => "image.header-tags",
                "encr_measurement_key" | "encr_request_nonce" => "challenge.state",
                _ => "measurement.hmac",
            };
            assert!(failed(&verdict).contains(&expected), "bit {bit} of {member}: {verdict:?}");
        }
    }
}

#[test]
fn lengths_and_members_are_exact() {
    let config = config();
    let evidence = answered(&config);
    for (member, text) in evidence.as_object().unwrap() {
        let bytes = STANDARD.decode(text.as_str().unwrap()).unwrap();
        let refused = |value: Value| {
            let mut evidence = evidence.clone();
            evidence[member] = value;
            Evidence::from_json(&evidence).map_or(true, |evidence| {
                let verdict = verify(&evidence, &config, &expecting(NOW));
                !verdict.ok() && verdict.failure().is_some()
            })
        };
        for length in 0..bytes.len() {
            assert!(refused(STANDARD.encode(&bytes[..length]).into()), "{member} of {length}");
        }
        assert!(refused(STANDARD.encode([&bytes[..], &[0]].concat()).into()));
        assert!(refused(STANDARD.encode(vec![0; 1 << 16]).into()));
        assert!(refused(Value::Null) && refused(7.into()) && refused("%".into()));
        assert!(refused(bytes.clone().into()), "{member} as an array");
        let mut without = evidence.clone();
        without.as_object_mut().unwrap().remove(member);
        assert!(Evidence::from_json(&without).is_err());
    }
    for other in [Value::Null, Value::from("text"), serde_json::json!([])] {
        assert!(Evidence::from_json(&other).is_err());
    }
    let parsed = Evidence::from_json(&evidence).unwrap();
    assert_eq!(parsed.to_json(), evidence);
}

#[test]
fn a_state_that_is_not_ours_is_refused_without_a_reason() {
    let config = config();
    let evidence = answered(&config);
    let other_key = Config { sealing_key: SealingKey::new(&[2; 32]).unwrap(), ..self::config() };
    let other_context = Config { context: b"another verifier".to_vec(), ..self::config() };
    let mut mixed = evidence.clone();
    mixed["encr_request_nonce"] = answered(&config)["encr_request_nonce"].clone();
    let mut swapped = evidence.clone();
    swapped["encr_measurement_key"] = evidence["encr_request_nonce"].clone();
    swapped["encr_request_nonce"] = evidence["encr_measurement_key"].clone();
    let mut empty = evidence.clone();
    empty["encr_measurement_key"] = "".into();
    empty["encr_request_nonce"] = "".into();
    let mut version = evidence.clone();
    let mut sealed = STANDARD.decode(evidence["encr_measurement_key"].as_str().unwrap()).unwrap();
    sealed[0] = 2;
    version["encr_measurement_key"] = STANDARD.encode(sealed).into();
    let parsed = Evidence::from_json(&evidence).unwrap();

    // Whatever is wrong with it: the same checks, the same words.
    let verdicts = [
        judge(&evidence, &other_key),
        judge(&evidence, &other_context),
        judge(&mixed, &config),
        judge(&swapped, &config),
        judge(&empty, &config),
        judge(&version, &config),
        verify(&parsed, &config, &expecting(NOW + LIFETIME + 1)),
        verify(&parsed, &config, &expecting(NOW - 31)),
        verify(&parsed, &config, &expecting(NOW - 40)),
    ];
    for verdict in &verdicts {
        assert_eq!(verdict, &verdicts[0]);
        assert_eq!(verdict.failure().unwrap().code, Code::AttestNonceReplayed);
        assert_eq!(failed(verdict), ["challenge.state", "measurement.hmac", "image.header-tags"]);
    }
    assert!(verify(&parsed, &config, &expecting(NOW + LIFETIME)).ok());
    assert!(verify(&parsed, &config, &expecting(NOW - 30)).ok());
}

#[test]
fn clocks_at_their_ends_overflow_nothing() {
    let config = Config { lifetime: u64::MAX, ..config() };
    let parsed = Evidence::from_json(&answered(&config)).unwrap();
    for now_unix in [0, 1, u64::MAX] {
        let verdict = verify(&parsed, &config, &expecting(now_unix));
        assert!(!verdict.ok(), "no host key is valid then");
    }
}

#[test]
fn an_answer_to_another_challenge_is_refused() {
    let config = config();
    let (first, second) = (answered(&config), answered(&config));
    let mut mixed = first.clone();
    for member in ["encr_measurement_key", "encr_request_nonce"] {
        mixed[member] = second[member].clone();
    }
    assert_eq!(failed(&judge(&mixed, &config)), ["measurement.hmac"]);
}

#[test]
fn another_image_is_refused_whoever_lies_about_it() {
    let config = config();
    // Another image was booted, and the guest returns the challenge's tags, or those of the image.
    let other = Ultravisor::new(&PKI.host, header(40).tags);
    let mut evidence = other.attest(&challenge(&config, NOW).unwrap(), &REPORT_DATA).unwrap();
    assert_eq!(failed(&judge(&evidence, &config)), ["measurement.hmac"]);
    evidence["image_hdr_tags"] = STANDARD.encode(header(40).tags.to_bytes()).into();
    assert_eq!(failed(&judge(&evidence, &config)), ["measurement.hmac", "image.header-tags"]);
    // The image was changed in the configuration after the challenge.
    let changed = Config { header: header(40), ..self::config() };
    let evidence = answered(&config);
    let verdict = judge(&evidence, &changed);
    assert_eq!(failed(&verdict), ["image.header-tags"]);
    assert_eq!(verdict.failure().unwrap().code, Code::AttestMeasurementUnknown);
    // And the guest says it was the new one.
    let mut lying = evidence;
    lying["image_hdr_tags"] = STANDARD.encode(header(40).tags.to_bytes()).into();
    assert_eq!(failed(&judge(&lying, &changed)), ["image.header-tags"]);
}

#[test]
fn a_key_that_the_client_chose_is_worth_nothing() {
    // Who knows the format, but not the sealing key, seals a measurement key of his own.
    let config = config();
    let forger = Config {
        sealing_key: SealingKey::new(&[66; 32]).unwrap(),
        host_keys: vec![PKI.host_key()],
        ..self::config()
    };
    let evidence = answered(&forger);
    assert!(judge(&evidence, &forger).ok(), "by his own lights it is fine");
    assert_eq!(judge(&evidence, &config).failure().unwrap().code, Code::AttestNonceReplayed);
}

#[test]
fn report_data_is_exact() {
    let config = config();
    let challenge = challenge(&config, NOW).unwrap();
    let longer = [&REPORT_DATA[..], &[0]].concat();
    for user_data in [&[8; 64][..], &[7; 63], &[], &longer] {
        let evidence = machine().attest(&challenge, user_data).unwrap();
        let verdict = judge(&evidence, &config);
        assert_eq!(failed(&verdict), ["measurement.user-data"]);
        assert_eq!(verdict.failure().unwrap().code, Code::AttestReportDataMismatch);
    }
    let evidence = Evidence::from_json(&answered(&config)).unwrap();
    let with = |report_data| verify(&evidence, &config, &Expectation { report_data, ..expecting(NOW) });
    assert!(with(None).ok() && with(Some(&REPORT_DATA)).ok());
    assert!(!with(Some(&[])).ok() && !with(Some(&longer)).ok() && !with(Some(&[7; 63])).ok());
}

#[test]
fn init_data_is_never_said_to_be_bound() {
    let config = config();
    let evidence = Evidence::from_json(&answered(&config)).unwrap();
    for digest in [&[][..], &[0; 32], &[7; 64]] {
        let expectation = Expectation { init_data_digest: Some(digest), ..expecting(NOW) };
        let verdict = verify(&evidence, &config, &expectation);
        assert_eq!(failed(&verdict), ["measurement.init-data"]);
        assert_eq!(verdict.failure().unwrap().code, Code::AttestInitdataMismatch);
    }
}

#[test]
fn a_host_key_that_is_no_longer_trusted_is_refused() {
    let config = config();
    let evidence = answered(&config);
    let without = Config { host_keys: vec![PKI.other_host_key()], ..self::config() };
    let verdict = judge(&evidence, &without);
    assert_eq!(failed(&verdict), ["attestation.host-key"]);
    assert_eq!(verdict.failure().unwrap().code, Code::AttestKeyUntrusted);
    // 2026-01-02: the revocation lists are due, so no host key is valid and no challenge is made.
    let later = NOW + 215 * DAY;
    assert_eq!(challenge(&config, later).unwrap_err().code, Code::AttestCertificateExpired);
    let none = Config { host_keys: Vec::new(), ..self::config() };
    assert_eq!(challenge(&none, NOW).unwrap_err().code, Code::AttestCertificateExpired);
    let many = Config { host_keys: vec![PKI.host_key(); 256], ..self::config() };
    assert_eq!(challenge(&many, NOW).unwrap_err().code, Code::Internal);
}

#[test]
fn secrets_are_not_printed() {
    assert_eq!(format!("{:?}", SealingKey::new(&[0xab; 32]).unwrap()), "SealingKey");
}
