//! Real evidence of Azure guests, and hostile changes of it.

use serde_json::Value;

use crate::Verdict;
use crate::testing::vector;

mod flips;
mod hcl;
mod simulated;
mod snp;
mod tdx;

/// 2025-06-01: within every vector's validity.
const JUNE_2025: u64 = 1_748_736_000;

fn json_vector(name: &str) -> Option<Value> {
    vector(name).map(|text| serde_json::from_slice(&text).unwrap())
}

fn failed(verdict: &Verdict) -> Vec<&'static str> {
    verdict.checks.iter().filter(|c| c.code.is_some()).map(|c| c.name).collect()
}
