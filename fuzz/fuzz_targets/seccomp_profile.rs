//! System call profiles: JSON of the plan, or in a guest without one of the host, to a program for the kernel.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    if let Ok(program) = cocoon_guest::container::check_profile(&value) {
        // BPF_MAXINSNS; the kernel takes no longer ones, and none that does not end.
        assert!((1..=4096).contains(&program));
    }
});
