//! Signed tree heads and the bytes they sign.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::merkle::Hash;
use crate::{Error, HeadSigner};

/// Keeps a head's signature from ever being one over anything else.
const DOMAIN: &[u8] = b"cocoon-audit-head-v1\0";

/// A signed tree head: the log `log_id` had exactly `size` entries with this root at `at_unix`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    /// The log's id: 32 hex digits, random, fixed when the log was created.
    pub log_id: String,
    /// Number of entries.
    pub size: u64,
    /// Root hash of the tree, 64 hex digits.
    pub root_hex: String,
    /// When it was signed, seconds since 1970.
    pub at_unix: u64,
    /// [`crate::PublicKey::key_id`] of the signer.
    pub key_id: String,
    /// Signature over [`SignedHead::signed_bytes`], base64 (RFC 4648 §4).
    pub signature_b64: String,
}

impl SignedHead {
    /// Signs a head.
    pub(crate) fn sign(
        signer: &dyn HeadSigner,
        log_id: &[u8; 16],
        size: u64,
        root: &Hash,
        at_unix: u64,
    ) -> Result<Self, Error> {
        let mut head = SignedHead {
            log_id: hex::encode(log_id),
            size,
            root_hex: root.to_string(),
            at_unix,
            key_id: signer.key_id(),
            signature_b64: String::new(),
        };
        head.signature_b64 = STANDARD.encode(signer.sign(&head.signed_bytes()?)?);
        Ok(head)
    }

    /// What the signature is over: `cocoon-audit-head-v1` NUL, log id (16 bytes), size and time (8 bytes each, big
    /// endian), key id (32 bytes), root (32 bytes).
    ///
    /// # Errors
    /// [`Error::ProofInvalid`] if a field is malformed.
    pub fn signed_bytes(&self) -> Result<Vec<u8>, Error> {
        let malformed = |_| Error::ProofInvalid("the head's log or key id is malformed");
        let (mut log_id, mut key_id) = ([0; 16], [0; 32]);
        hex::decode_to_slice(&self.log_id, &mut log_id).map_err(malformed)?;
        hex::decode_to_slice(&self.key_id, &mut key_id).map_err(malformed)?;
        let mut bytes = DOMAIN.to_vec();
        bytes.extend_from_slice(&log_id);
        bytes.extend_from_slice(&self.size.to_be_bytes());
        bytes.extend_from_slice(&self.at_unix.to_be_bytes());
        bytes.extend_from_slice(&key_id);
        bytes.extend_from_slice(&self.root()?.0);
        Ok(bytes)
    }

    /// The root.
    ///
    /// # Errors
    /// [`Error::ProofInvalid`] if it is not 64 hex digits.
    pub fn root(&self) -> Result<Hash, Error> {
        self.root_hex.parse().map_err(|()| Error::ProofInvalid("the head's root is malformed"))
    }

    /// The signature's bytes.
    pub(crate) fn signature(&self) -> Result<Vec<u8>, Error> {
        let malformed = Error::ProofInvalid("the head's signature is malformed");
        if self.signature_b64.len() > 256 {
            return Err(malformed);
        }
        STANDARD.decode(&self.signature_b64).map_err(|_| malformed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::offline::verify_head;
    use crate::{LogKey, PublicKey};

    fn signed() -> (PublicKey, SignedHead) {
        let key = LogKey::generate().unwrap();
        let head = SignedHead::sign(&key, &[7; 16], 5, &Hash::of_nothing(), 99).unwrap();
        (key.public_key(), head)
    }

    #[test]
    fn every_field_is_signed() {
        let (key, head) = signed();
        assert_eq!(verify_head(&key, &head).unwrap(), Hash::of_nothing());
        let refused = |change: &dyn Fn(&mut SignedHead)| {
            let mut forged = head.clone();
            change(&mut forged);
            verify_head(&key, &forged).unwrap_err()
        };
        assert!(matches!(refused(&|h| h.log_id = hex::encode([8; 16])), Error::ProofInvalid(_)));
        assert!(matches!(refused(&|h| h.size = 6), Error::ProofInvalid(_)));
        assert!(matches!(refused(&|h| h.root_hex = Hash([1; 32]).to_string()), Error::ProofInvalid(_)));
        assert!(matches!(refused(&|h| h.at_unix = 98), Error::ProofInvalid(_)));
        assert!(matches!(refused(&|h| h.signature_b64.clear()), Error::ProofInvalid(_)));
        assert!(matches!(refused(&|h| h.key_id = "00".repeat(32)), Error::KeyReplaced { size: 5, .. }));
        let (other, _) = signed();
        assert!(matches!(verify_head(&other, &head), Err(Error::KeyReplaced { size: 5, .. })));
    }

    proptest! {
        #[test]
        fn hostile_heads_never_panic(texts in prop::collection::vec(any::<String>(), 4), size in any::<u64>()) {
            let (key, _) = signed();
            let head = SignedHead {
                log_id: texts[0].clone(), size, root_hex: texts[1].clone(), at_unix: size,
                key_id: key.key_id(), signature_b64: texts[3].clone(),
            };
            prop_assert!(verify_head(&key, &head).is_err());
        }
    }
}
