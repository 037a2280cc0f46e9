//! A TPM's structures: quotes, signatures and public areas come from the guest.
#![no_main]

use cocoon_evidence::tpm::{Public, Quote, Signature, make_credential};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Quote::parse(bytes);
    let _ = Signature::parse(bytes);
    if let Ok(public) = Public::parse(bytes) {
        assert_eq!(public.to_bytes(), bytes);
        let _ = make_credential(&public, &public.name(), &[7; 32]);
    }
});
