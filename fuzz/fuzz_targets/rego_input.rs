//! What policies are given: claims of evidence and tokens, which are the guest's words.
#![no_main]

use std::sync::LazyLock;

use cocoon_policy::{Compiled, Kind, RESOURCE_SAMPLES, default_policy, resource_sample};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

static APPRAISALS: LazyLock<Vec<Compiled>> = LazyLock::new(|| {
    let texts = ["cpu", "gpu", "switch", "ppcie", "dcu", "nvidia-dpu"].into_iter().filter_map(default_policy);
    texts.map(|text| Compiled::new(Kind::Attestation, text).expect("it ships")).collect()
});
static RELEASES: LazyLock<Vec<(&str, Compiled)>> = LazyLock::new(|| {
    let texts = RESOURCE_SAMPLES.into_iter().filter_map(|name| Some((name, resource_sample(name)?)));
    texts.map(|(name, text)| (name, Compiled::new(Kind::Resource, text).expect("it ships"))).collect()
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(input) = serde_json::from_slice::<Value>(bytes) else { return };
    for policy in APPRAISALS.iter() {
        let _ = policy.attestation(&input, &|id| Ok((id.len() % 2 == 0).then(|| json!(["ab", 1]))));
    }
    let data = json!({"plugin": "resource", "resource-path": ["default", "key", "1"], "query": {"a": input}});
    for (name, policy) in RELEASES.iter() {
        let allowed = policy.resource(&data, &input).unwrap_or(false);
        assert!(!allowed || *name != "deny_all");
    }
});
