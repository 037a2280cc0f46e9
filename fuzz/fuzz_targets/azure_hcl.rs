//! The report of Azure's paravisor: comes from the guest, and is parsed before anything vouches for it.
#![no_main]

use cocoon_evidence::azure::{HclReport, RuntimeData};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(report) = HclReport::parse(bytes) {
        assert_eq!(report.to_bytes(), bytes);
        let _ = RuntimeData::parse(report.data());
    }
    let _ = RuntimeData::parse(bytes);
});
