//! Answers to a challenge in all three versions of the protocol: come from whoever reaches Trustee's port.
#![no_main]

use cocoon_protocol::HashAlgorithm;
use cocoon_protocol::dialect::{Answer, encrypt};
use cocoon_protocol::messages::ProtocolVersion;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for version in [ProtocolVersion::V0_1_1, ProtocolVersion::V0_2_0, ProtocolVersion::V0_4_0] {
        let Ok(answer) = Answer::read(version, bytes) else { continue };
        assert_eq!(answer.nonce.is_some(), version == ProtocolVersion::V0_4_0);
        let bound =
            answer.report_data(version, HashAlgorithm::Sha384, "nonce").expect("what was read is bound");
        assert_eq!(bound.len(), 48);
        // Its key encrypts, or is refused; it is never half used.
        let _ = encrypt(version, &answer.tee_pubkey, b"secret");
    }
});
