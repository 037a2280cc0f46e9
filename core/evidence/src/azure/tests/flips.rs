//! No bit of real evidence can be changed.

use serde_json::{Value, json};

use super::super::hcl::HclReport;
use super::super::snp::{Evidence, verify_cached};
use super::{JUNE_2025, json_vector};
use crate::Expectation;
use crate::collateral::Collateral;
use crate::snp::{ChainCache, Roots, Rules};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;

const NONCE: &[u8] = b"challenge";

fn accepted(value: &Value, cache: &ChainCache) -> bool {
    let expectation = Expectation { report_data: Some(NONCE), init_data_digest: None, now_unix: JUNE_2025 };
    let (roots, rules) = (Roots::default(), Rules::default());
    Evidence::from_json(value)
        .is_ok_and(|e| verify_cached(&e, &roots, &rules, &Collateral::none(), &expectation, cache).ok())
}

/// Flips those bits of the report that `chosen` names by byte and bit.
fn flip_report(chosen: impl Fn(usize, usize) -> bool) {
    let Some(mut value) = json_vector("az-snp-vtpm/evidence-v1.json") else { return };
    let cache = ChainCache::new(1);
    assert!(accepted(&value, &cache));
    let report = URL_SAFE.decode(value["hcl_report"].as_str().unwrap()).unwrap();
    for at in 0..report.len() {
        for bit in (0..8).filter(|bit| chosen(at, *bit)) {
            let mut report = report.clone();
            report[at] ^= 1 << bit;
            // Most fail to parse; the others are verified.
            if HclReport::parse(&report).is_ok() {
                value["hcl_report"] = json!(URL_SAFE.encode(report));
                assert!(!accepted(&value, &cache), "byte {at:#x} bit {bit}");
            }
        }
    }
}

#[test]
fn no_byte_of_the_report_can_be_changed() {
    // Of the signed parts one bit of every byte, which one alternates; of what nobody signs, every bit.
    flip_report(|at, bit| !(0x20..0x4c0).contains(&at) && at < 0x4d4 || bit == at % 8);
}

#[test]
#[ignore = "takes half a minute: every bit of what the test above samples"]
fn no_bit_of_the_report_can_be_flipped() {
    flip_report(|_, _| true);
}

#[test]
fn no_bit_of_the_quote_can_be_flipped() {
    let Some(value) = json_vector("az-snp-vtpm/evidence-v1.json") else { return };
    let cache = ChainCache::new(1);
    let quote = &value["tpm_quote"];
    let mut paths = vec!["/tpm_quote/message".to_owned(), "/tpm_quote/signature".to_owned()];
    paths.extend((0..quote["pcrs"].as_array().unwrap().len()).map(|n| format!("/tpm_quote/pcrs/{n}")));
    for path in paths {
        let bytes = hex::decode(value.pointer(&path).unwrap().as_str().unwrap()).unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                let mut value = value.clone();
                *value.pointer_mut(&path).unwrap() = json!(hex::encode(bytes));
                assert!(!accepted(&value, &cache), "{path} byte {at} bit {bit}");
            }
        }
    }
}
