//! Verdicts: the real quote, and what makes a quote worthless.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_stage::Code;
use serde_json::{Value, json};

use super::super::{Enrolled, Evidence, Trust, verify};
use super::soft::{AK, Key, Platform, public_area};
use super::{JUNE_2025, failed, vector};
use crate::tpm::hashed;
use crate::x509::Hash;
use crate::{Expectation, Verdict};

fn judge(value: &Value, trust: &Trust, report_data: Option<&[u8]>, init_data: Option<&[u8]>) -> Verdict {
    let evidence = Evidence::from_json(value).unwrap();
    let expectation = Expectation { report_data, init_data_digest: init_data, now_unix: JUNE_2025 };
    verify(&evidence, trust, &expectation)
}

fn trusting(value: &Value) -> Trust {
    let spki = STANDARD.decode(value["ak_public"].as_str().unwrap()).unwrap();
    Trust { enrolled: vec![Enrolled::Spki(spki)], ..Trust::default() }
}

#[test]
fn the_real_quote_verifies_for_who_knows_its_key() {
    let Some(value) = vector("tpm/tpm_evidence.json") else { return };
    let verdict = judge(&value, &trusting(&value), None, None);
    assert!(verdict.ok(), "{:#?}", verdict.checks);
    let claims = &verdict.claims;
    assert_eq!(claims["ak_public"], value["ak_public"]);
    assert_eq!(claims["ak_trusted"], true);
    assert!(claims["report_data"].as_str().unwrap().starts_with("a04182b506"));
    for (n, pcr) in value["tpm_quote"]["pcrs"].as_array().unwrap().iter().enumerate() {
        assert_eq!(claims[format!("pcr{n:02}")], *pcr);
    }
    assert_eq!(claims["init_data"], value["tpm_quote"]["pcrs"][8]);
    assert_eq!((&claims["reset_count"], &claims["restart_count"]), (&json!(2), &json!(0)));
    assert_eq!(Evidence::from_json(&value).unwrap().to_json(), value);
    // Its qualifying data has 64 bytes: it was not made for a challenge of ours.
    assert_eq!(failed(&judge(&value, &trusting(&value), Some(&[0x41]), None)), ["tpm.report-data"]);
}

#[test]
fn no_bit_of_the_real_quote_can_be_flipped() {
    let Some(value) = vector("tpm/tpm_evidence.json") else { return };
    let trust = trusting(&value);
    let accepted = |value: &Value| {
        let expectation = Expectation { report_data: None, init_data_digest: None, now_unix: JUNE_2025 };
        Evidence::from_json(value).is_ok_and(|e| verify(&e, &trust, &expectation).ok())
    };
    assert!(accepted(&value));
    for path in ["/tpm_quote/message", "/tpm_quote/signature", "/ak_public"] {
        let bytes = STANDARD.decode(value.pointer(path).unwrap().as_str().unwrap()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut value = value.clone();
            *value.pointer_mut(path).unwrap() = json!(STANDARD.encode(bytes));
            assert!(!accepted(&value), "{path} bit {bit}");
        }
    }
    for n in 0..24 {
        for bit in 0..256 {
            let mut value = value.clone();
            let mut bytes = hex::decode(value["tpm_quote"]["pcrs"][n].as_str().unwrap()).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            value["tpm_quote"]["pcrs"][n] = json!(hex::encode(bytes));
            assert!(!accepted(&value), "pcr {n} bit {bit}");
        }
    }
}

#[test]
fn a_key_is_not_trusted_because_it_came_along() {
    let key = Key::rsa();
    let value = Platform::new(&[5; 32]).evidence(&key);
    let nonce: Option<&[u8]> = Some(&[5; 32]);
    let verdict = judge(&value, &Trust::default(), nonce, None);
    assert_eq!(failed(&verdict), ["ak.trust"]);
    assert_eq!(verdict.failure().unwrap().code, Code::AttestKeyUntrusted);
    assert!(verdict.claims.is_null());
    // Nor because its public area came along.
    let mut described = value.clone();
    described["ak_tpm_public"] = json!(STANDARD.encode(public_area(&key.public(), AK)));
    assert_eq!(failed(&judge(&described, &Trust::default(), nonce, None)), ["ak.trust"]);

    let sha256: [u8; 32] = hashed(Hash::Sha256, &[&key.spki()]).try_into().unwrap();
    let known = [
        Trust { enrolled: vec![Enrolled::Sha256([0; 32]), Enrolled::Sha256(sha256)], ..Trust::default() },
        Trust { enrolled: vec![Enrolled::Spki(key.spki())], ..Trust::default() },
        Trust { named: vec!["x".into(), STANDARD.encode(key.spki())], ..Trust::default() },
    ];
    for trust in known {
        let verdict = judge(&described, &trust, nonce, None);
        assert!(verdict.ok(), "{:#?}", verdict.checks);
        assert_eq!(verdict.claims["ak_trusted"], true);
        assert_eq!(verdict.claims["report_data"], hex::encode([5; 32]));
        let other = Platform::new(&[5; 32]).evidence(&Key::rsa());
        assert_eq!(failed(&judge(&other, &trust, nonce, None)), ["ak.trust"]);
    }
    let nothing =
        Trust { enrolled: vec![Enrolled::Spki(vec![])], named: vec![String::new()], ..Trust::default() };
    assert_eq!(failed(&judge(&value, &nothing, nonce, None)), ["ak.trust"]);
}

#[test]
fn a_key_left_to_the_policy_is_marked() {
    let value = Platform::new(&[5; 32]).evidence(&Key::p256());
    let trust = Trust { policy_decides: true, ..Trust::default() };
    let verdict = judge(&value, &trust, Some(&[5; 32]), None);
    assert!(verdict.ok());
    assert_eq!(verdict.claims["ak_trusted"], false);
    assert!(verdict.checks[0].got.contains("left to the policy: trusted_aks"));
    // It leaves only the key to the policy.
    assert_eq!(failed(&judge(&value, &trust, Some(&[6; 32]), None)), ["tpm.report-data"]);
}

#[test]
fn every_signature_scheme_of_a_tpm_verifies() {
    for key in [Key::rsa(), Key::p256(), Key::p384()] {
        let hashes = match &key {
            Key::Rsa(_) => vec![Hash::Sha256, Hash::Sha384, Hash::Sha512],
            Key::Ec(_, hash) => vec![*hash],
        };
        for hash in hashes {
            for pss in [false, true] {
                let value = Platform::new(&[5; 32]).signed(&key, hash, pss);
                let verdict = judge(&value, &trusting(&value), Some(&[5; 32]), None);
                assert!(verdict.ok(), "{hash:?} {pss} {:#?}", verdict.checks);
            }
        }
    }
}

#[test]
fn a_public_area_of_another_or_unfit_key_is_refused() {
    let key = Key::rsa();
    let value = Platform::new(&[5; 32]).evidence(&key);
    let unrestricted = public_area(&key.public(), AK & !(1 << 16));
    for area in [public_area(&Key::rsa().public(), AK), unrestricted] {
        let mut value = value.clone();
        value["ak_tpm_public"] = json!(STANDARD.encode(area));
        assert_eq!(failed(&judge(&value, &trusting(&value), Some(&[5; 32]), None)), ["ak.attributes"]);
    }
}

#[test]
fn registers_are_what_the_quote_selects() {
    let key = Key::p256();
    let quoted = |platform: &Platform| {
        let value = platform.evidence(&key);
        failed(&judge(&value, &trusting(&value), Some(&[5; 32]), None))
    };
    let with = |selection: Vec<(u16, Vec<usize>)>, count: usize| {
        let mut platform = Platform::new(&[5; 32]);
        platform.selection = selection;
        platform.pcrs.truncate(count);
        quoted(&platform)
    };
    let all: Vec<usize> = (0..24).collect();
    assert_eq!(with(vec![(0x000b, all.clone())], 24), Vec::<&str>::new());
    assert_eq!(with(vec![(0x000b, (0..12).collect())], 12), Vec::<&str>::new());
    // The twelfth value is of the resettable register 16, and would have been taken for register 11.
    let sixteen: Vec<usize> = (0..11).chain([16]).collect();
    let refused = [
        (vec![(0x000b, sixteen)], 12),
        (vec![(0x000b, (1..13).collect())], 12),
        (vec![(0x000b, (0..23).collect())], 24),
        (vec![(0x000b, all.clone())], 23),
        (vec![(0x000b, vec![])], 24),
        (vec![(0x0004, all.clone())], 24),
        (vec![(0x000c, all.clone())], 24),
        (vec![], 24),
        (vec![(0x000b, all.clone()), (0x0004, vec![])], 24),
        (vec![(0x000b, (0..12).collect()), (0x000b, (12..24).collect())], 24),
    ];
    for (selection, count) in refused {
        assert_eq!(with(selection.clone(), count), ["tpm.pcr-selection"], "{selection:?}");
    }
}

#[test]
fn the_bank_of_sha_384_is_taken_where_the_evidence_says_so() {
    let key = Key::p384();
    let mut platform = Platform::new(&[5; 32]);
    platform.bank = Hash::Sha384;
    platform.pcrs = vec![vec![0; 48]; 24];
    let digest = [7; 48];
    platform.pcrs[8] = hashed(Hash::Sha384, &[&[0; 48], &digest]);
    platform.selection = vec![(0x000c, (0..24).collect())];
    let value = platform.evidence(&key);
    let verdict = judge(&value, &trusting(&value), Some(&[5; 32]), None);
    assert!(verdict.ok(), "{:#?}", verdict.checks);
    // Guests extend the SHA-256 bank alone: what is in another's register 8, software put there later.
    let bound = judge(&value, &trusting(&value), Some(&[5; 32]), Some(&digest));
    assert_eq!(failed(&bound), ["tpm.init-data"]);
    assert_eq!(verdict.claims["pcr_bank"], "sha384");
    assert_eq!(Evidence::from_json(&value).unwrap().to_json(), value);
    let mut other = value.clone();
    other["tpm_quote"]["bank"] = json!("sha256");
    assert!(Evidence::from_json(&other).is_err());
    other["tpm_quote"]["bank"] = json!("sha1");
    assert!(Evidence::from_json(&other).is_err());
}

#[test]
fn a_challenge_is_truncated_or_padded_to_32_bytes() {
    let key = Key::p256();
    let digest: Vec<u8> = (1..=48).collect();
    let judged = |extra: &[u8], expected: &[u8]| {
        let value = Platform::new(extra).evidence(&key);
        failed(&judge(&value, &trusting(&value), Some(expected), None))
    };
    assert!(judged(&digest[..32], &digest).is_empty());
    assert!(judged(&[&[7; 8][..], &[0; 24]].concat(), &[7; 8]).is_empty());
    for (extra, expected) in [
        (&digest[..31], digest.as_slice()),
        (&digest, &digest),
        (&digest[1..33], &digest),
        (&[0; 32], &[]),
        (&[], &[]),
        (&[7; 8], &[7; 8]),
    ] {
        assert_eq!(judged(extra, expected), ["tpm.report-data"]);
    }
}

#[test]
fn initdata_stands_in_register_8_alone() {
    let key = Key::p256();
    let digest = [3; 32];
    let mut platform = Platform::new(&[5; 32]);
    platform.pcrs[8] = hashed(Hash::Sha256, &[&[0; 32], &digest]);
    let value = platform.evidence(&key);
    let judged =
        |value: &Value, digest: &[u8]| failed(&judge(value, &trusting(value), Some(&[5; 32]), Some(digest)));
    assert!(judged(&value, &digest).is_empty());
    for other in [&[4; 32][..], &[3; 31], &[3; 48], &[3; 64], &[]] {
        assert_eq!(judged(&value, other), ["tpm.init-data"]);
    }
    // Extended once more; in another register; not presented at all.
    platform.pcrs[8] = hashed(Hash::Sha256, &[&platform.pcrs[8], &[1; 32]]);
    assert_eq!(judged(&platform.evidence(&key), &digest), ["tpm.init-data"]);
    platform.pcrs[9] = hashed(Hash::Sha256, &[&[0; 32], &digest]);
    assert_eq!(judged(&platform.evidence(&key), &digest), ["tpm.init-data"]);
    platform.pcrs.truncate(8);
    platform.selection = vec![(0x000b, (0..8).collect())];
    assert_eq!(judged(&platform.evidence(&key), &digest), ["tpm.init-data"]);
}

#[test]
fn malformed_evidence_is_refused() {
    let value = Platform::new(&[5; 32]).evidence(&Key::p256());
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut value = value.clone();
        change(&mut value);
        assert!(Evidence::from_json(&value).is_err(), "{value}");
    };
    refused(&|v| *v = json!(null));
    for member in ["ak_public", "tpm_quote"] {
        refused(&|v| drop(v.as_object_mut().unwrap().remove(member)));
        refused(&|v| v[member] = json!(null));
        refused(&|v| v[member] = json!("%"));
    }
    for member in ["message", "signature", "pcrs"] {
        refused(&|v| drop(v["tpm_quote"].as_object_mut().unwrap().remove(member)));
        refused(&|v| v["tpm_quote"][member] = json!("AAAA"));
        refused(&|v| v["tpm_quote"][member] = json!("A".repeat(1 << 20)));
        refused(&|v| v["tpm_quote"][member] = json!([7]));
    }
    refused(&|v| v["tpm_quote"]["pcrs"] = json!([]));
    refused(&|v| v["tpm_quote"]["pcrs"] = json!(vec!["00".repeat(32); 25]));
    refused(&|v| v["tpm_quote"]["pcrs"] = json!(vec!["00"; 1 << 16]));
    refused(&|v| v["ak_tpm_public"] = json!("AAAA"));
    refused(&|v| v["ek_certificate"] = json!("AAAA"));
    refused(&|v| v["ek_certificate"] = json!(vec!["AAAA"; 9]));
    refused(&|v| v["event_log"] = json!(7));
    refused(&|v| v["event_log"] = json!("AAAA"));
}
