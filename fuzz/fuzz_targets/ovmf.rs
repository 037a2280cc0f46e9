//! Firmware files: the launch digest of any bytes.
#![no_main]

use cocoon_measure::snp::{EPYC_V4, GUEST_FEATURES, ovmf_launch_digest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = ovmf_launch_digest(bytes, None, 2, EPYC_V4, GUEST_FEATURES);
});
