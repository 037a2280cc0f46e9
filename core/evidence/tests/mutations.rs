//! Flips bits of every positive vector and sees each altered piece refused, through the library's one door.
//!
//! By default one bit of every byte; with `COCOON_MUTATIONS=all` every bit. What may be flipped unnoticed is listed here,
//! with the reason: nothing covers it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test ends where its vectors are not what they were"
)]

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_evidence::collateral::Collateral;
use cocoon_evidence::{Evidence, Expectation, Trust, Verifier, cca, dcap, snp};
use cocoon_protocol::Tee;
use serde_json::{Value, json};

/// 2025-06-25: within the validity of every vector here.
const NOW: u64 = 1_750_809_600;

fn vector(name: &str) -> Option<Vec<u8>> {
    let base = std::env::var_os("COCOON_VECTORS").map(PathBuf::from);
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors"));
    let path = base.unwrap_or_else(default).join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        println!("skipped: no vector {name}");
    }
    bytes
}

fn json_vector(name: &str) -> Option<Value> {
    vector(name).map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

/// One vector: how evidence is made of its bytes, and which bytes nothing covers.
struct Run<'a> {
    name: &'a str,
    bytes: Vec<u8>,
    make: &'a dyn Fn(&[u8]) -> Option<Evidence>,
    collateral: Collateral,
    report_data: &'a [u8],
    free: &'a [(Range<usize>, &'a str)],
}

impl Run<'_> {
    fn verifies(&self, verifier: &Verifier, bytes: &[u8]) -> bool {
        let Some(evidence) = (self.make)(bytes) else { return false };
        let expectation =
            Expectation { report_data: Some(self.report_data), init_data_digest: None, now_unix: NOW };
        let verdicts = verifier.verify(&evidence, &self.collateral, &expectation, &[]);
        verdicts.is_ok_and(|all| !all.is_empty() && all.iter().all(|v| v.verdict.ok()))
    }

    fn go(&self, verifier: &Verifier) {
        assert!(self.verifies(verifier, &self.bytes), "{}: the vector itself", self.name);
        let all = std::env::var("COCOON_MUTATIONS").is_ok_and(|v| v == "all");
        let mut flips = 0;
        let mut unnoticed = Vec::new();
        let mut altered = self.bytes.clone();
        for at in 0..self.bytes.len() {
            for bit in 0..8 {
                if !all && bit != at % 8 {
                    continue;
                }
                altered[at] ^= 1 << bit;
                flips += 1;
                let known = self.free.iter().any(|(range, _)| range.contains(&at));
                if self.verifies(verifier, &altered) && !known {
                    unnoticed.push(format!("{at:#x}.{bit}"));
                }
                altered[at] ^= 1 << bit;
            }
        }
        println!("{}: {flips} flips, {} unnoticed", self.name, unnoticed.len());
        for (range, why) in self.free {
            println!("  bytes {:#x} to {:#x}: {why}", range.start, range.end);
        }
        assert_eq!(unnoticed, Vec::<String>::new(), "{}", self.name);
        // A part of it is none of it. Zeros behind a quote are padding, of which any number will do.
        let end_of_content = self.bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        for end in (0..end_of_content).step_by(7) {
            assert!(!self.verifies(verifier, &self.bytes[..end]), "{} cut at {end:#x}", self.name);
        }
    }
}

#[test]
fn snp() {
    let Some(text) = vector("snp/genoa-v3-evidence.json") else { return };
    let original = snp::Evidence::parse(&text).unwrap();
    let chain = original.cert_chain.clone();
    let report_data = original.report.report_data;
    let verifier = Verifier::new(Trust::default());
    let run = Run {
        name: "SNP report",
        bytes: original.report.to_bytes().to_vec(),
        make: &|bytes| {
            let report = snp::Report::parse(bytes).ok()?;
            Some(Evidence::Snp(Box::new(snp::Evidence { report, cert_chain: chain.clone() })))
        },
        collateral: Collateral::none(),
        report_data: &report_data,
        free: &[],
    };
    run.go(&verifier);
    let report = original.report.clone();
    let vcek = original.cert_chain.iter().find(|c| c.cert_type == "VCEK").unwrap();
    let run = Run {
        name: "SNP, its VCEK",
        bytes: vcek.data.clone(),
        make: &|bytes| {
            let entry = snp::CertEntry { cert_type: "VCEK".into(), data: bytes.to_vec() };
            Some(Evidence::Snp(Box::new(snp::Evidence { report: report.clone(), cert_chain: vec![entry] })))
        },
        free: &[],
        ..run
    };
    run.go(&verifier);
}

#[test]
fn tdx_and_sgx() {
    for (tee, quote, collateral) in [
        (Tee::Tdx, "tdx/tdx_quote", "tdx/tdx_quote_collateral.json"),
        (Tee::Sgx, "sgx/sgx_quote", "sgx/sgx_quote_collateral.json"),
    ] {
        let (Some(bytes), Some(json)) = (vector(quote), json_vector(collateral)) else { continue };
        let parsed = dcap::Quote::parse(&bytes).unwrap();
        let report_data = *parsed.report_data();
        let run = Run {
            name: quote,
            make: &|bytes| Evidence::from_json(tee, &json!({ "quote": STANDARD.encode(bytes) })).ok(),
            collateral: dcap::quote_collateral(&json, &parsed).unwrap(),
            report_data: &report_data,
            free: &free_of(&bytes),
            bytes,
        };
        run.go(&Verifier::new(Trust::default()));
    }
}

/// The byte behind the certificates' text, which no signature covers: a zero, where white space is as good.
fn free_of(bytes: &[u8]) -> [(Range<usize>, &'static str); 1] {
    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    [(end..end + 1, "ends the text of the certificates; nothing covers it")]
}

#[test]
fn cca() {
    let all = (
        vector("cca/cca-example-token.cbor"),
        json_vector("cca/tastore.json"),
        json_vector("cca/rvstore.json"),
    );
    let (Some(bytes), Some(anchors), Some(references)) = all else { return };
    let store = cca::Store::from_json(&anchors, &references).unwrap();
    let report_data = cca::Evidence::parse(bytes.clone()).unwrap().realm().challenge;
    let run = Run {
        name: "CCA token",
        make: &|bytes| cca::Evidence::parse(bytes.to_vec()).ok().map(|e| Evidence::Cca(Box::new(e))),
        collateral: Collateral::none(),
        report_data: &report_data,
        free: &[],
        bytes,
    };
    run.go(&Verifier::new(Trust { cca: Arc::new(store), ..Trust::default() }));
}

#[test]
fn azure_snp() {
    let Some(evidence) = json_vector("az-snp-vtpm/evidence-v2.json") else { return };
    let verifier = Verifier::new(Trust::default());
    let report_data = azure_nonce(&evidence);
    for member in ["/tpm_quote/message", "/tpm_quote/signature", "/tpm_quote/pcrs/11", "/tpm_quote/pcrs/23"] {
        let text = evidence.pointer(member).unwrap().as_str().unwrap();
        let run = Run {
            name: member,
            bytes: hex::decode(text).unwrap(),
            make: &|bytes| {
                let mut altered = evidence.clone();
                *altered.pointer_mut(member).unwrap() = json!(hex::encode(bytes));
                Evidence::from_json(Tee::AzSnpVtpm, &altered).ok()
            },
            collateral: Collateral::none(),
            report_data: &report_data,
            free: &[],
        };
        run.go(&verifier);
    }
}

/// What the vector's quote was made for: its qualifying data.
fn azure_nonce(evidence: &Value) -> Vec<u8> {
    let Ok(Evidence::AzureSnp(parsed)) = Evidence::from_json(Tee::AzSnpVtpm, evidence) else {
        panic!("the vector")
    };
    parsed.quoted().quote().extra_data.clone()
}
