//! The plan's JSON: bound by the TEE, but handed over by the host before anything is checked.
#![no_main]

use cocoon_plan::Plan;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(plan) = Plan::parse(bytes) {
        let canonical = plan.to_canonical().expect("an accepted plan can be written");
        let again = Plan::parse(&canonical).expect("and read");
        assert_eq!(again.to_canonical().expect("twice"), canonical);
    }
});
