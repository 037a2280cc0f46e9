//! What a host says of a container, held against a plan: anything may come, and only what is the plan's is accepted.
#![no_main]

use cocoon_plan::{Plan, asked};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8], &[u8])| {
    let (image, spec, plan) = input;
    let digest = format!("sha256:{}", "a".repeat(64));
    let usual = format!(
        r#"{{"version":1,"name":"w","containers":[{{"name":"app","image":{{"reference":"nginx:1","digest":"{digest}"}},
        "args":["/entry"],"cwd":"/","no_new_privileges":true,"seccomp":"runtime-default","logs":true,"restart":"never",
        "stop_signal":15}}],"exact":true}}"#
    );
    let plan = Plan::parse(plan).or_else(|_| Plan::parse(usual.as_bytes())).expect("a plan");
    for container in &plan.containers {
        if asked::check(&plan, container, image, spec).is_ok() {
            let spec: serde_json::Value = serde_json::from_slice(spec).expect("only JSON is accepted");
            assert_eq!(spec["process"]["args"], serde_json::json!(container.args));
        }
    }
});
