//! Kernel files as a TPM's firmware measures them: any bytes.
#![no_main]

use cocoon_measure::tpm::{BootFiles, reference_values};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = reference_values(&BootFiles { kernel: bytes, initrd: b"initrd", cmdline: "quiet" });
});
