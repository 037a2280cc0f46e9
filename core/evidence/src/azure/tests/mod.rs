//! Real evidence of Azure guests, and hostile changes of it.

use std::path::PathBuf;

use serde_json::Value;

use crate::Verdict;

mod flips;
mod hcl;
mod simulated;
mod snp;
mod tdx;

/// 2025-06-01: within every vector's validity.
const JUNE_2025: u64 = 1_748_736_000;

/// A test vector, or `None` (and a note) where the vectors are not at hand.
fn vector(name: &str) -> Option<Vec<u8>> {
    let base = std::env::var_os("COCOON_VECTORS").map(PathBuf::from);
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors"));
    let path = base.unwrap_or_else(default).join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        println!("skipped: no vector {}", path.display());
    }
    bytes
}

fn json_vector(name: &str) -> Option<Value> {
    vector(name).map(|text| serde_json::from_slice(&text).unwrap())
}

fn failed(verdict: &Verdict) -> Vec<&'static str> {
    verdict.checks.iter().filter(|c| c.code.is_some()).map(|c| c.name).collect()
}
