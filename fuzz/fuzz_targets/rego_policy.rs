//! Policies in Rego: come from administrators, of tenants too. Whatever one does ends in time, and never panics.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use cocoon_policy::{Compiled, Kind};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_millis(100);

static INPUT: LazyLock<Value> = LazyLock::new(|| {
    json!({"snp": {"measurement": "ab", "policy_debug_allowed": false}, "init_data": "x", "report_data": "y",
        "sample": {"svn": "1"}, "list": [1, 2, 3, {"a": "b"}]})
});

fuzz_target!(|text: &str| {
    let begun = Instant::now();
    if let Ok(policy) = Compiled::with_time_limit(Kind::Attestation, text, LIMIT) {
        let _ = policy.attestation(&INPUT, &|id| Ok(Some(json!([id, "ab", 1]))));
    }
    if let Ok(policy) = Compiled::with_time_limit(Kind::Resource, text, LIMIT) {
        let data = json!({"plugin": "resource", "resource-path": ["default", "key", "1"], "query": {}});
        let _ = policy.resource(&data, &INPUT);
    }
    let taken = begun.elapsed();
    assert!(taken < Duration::from_secs(8), "{taken:?}");
});
