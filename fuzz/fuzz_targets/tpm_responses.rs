//! What a guest's TPM answers: the host may stand in its place. The input is a row of responses, each after its 16-bit length.
#![no_main]

use std::io;

use cocoon_attest::tpm::{Channel, Tpm};
use libfuzzer_sys::fuzz_target;

struct Says<'a>(&'a [u8]);

impl Channel for Says<'_> {
    fn transact(&mut self, _: &[u8]) -> io::Result<Vec<u8>> {
        let (head, rest) = self.0.split_at_checked(2).ok_or(io::ErrorKind::UnexpectedEof)?;
        let length = usize::from(u16::from_be_bytes([head[0], head[1]])).min(rest.len());
        let (response, rest) = rest.split_at(length);
        self.0 = rest;
        Ok(response.to_vec())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (work, bytes) = bytes.split_at_checked(1).unwrap_or_default();
    let mut tpm = Tpm::new(Says(bytes));
    match work.first().map(|n| n % 4) {
        Some(0) => {
            if let Ok(values) = tpm.registers() {
                assert_eq!(values.len(), 24);
            }
        }
        Some(1) => {
            if let Ok(content) = tpm.nv(0x01c0_0002) {
                assert!(content.len() <= 8192);
            }
        }
        Some(2) => {
            let Ok(key) = tpm.attestation_key() else { return };
            let _ = tpm.quote(&key, &[7; 32]);
        }
        _ => {
            let (Ok(ak), Ok(ek)) = (tpm.attestation_key(), tpm.endorsement_key()) else { return };
            let _ = tpm.activate(&ak, &ek, &[0, 1, 2], &[0, 1, 3], &[1; 16]);
        }
    }
});
