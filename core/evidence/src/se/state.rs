//! What the verifier must know again when a challenge is answered, sealed so that the client can carry it.
//!
//! Sealed form: version (1), GCM nonce (12), ciphertext, tag (16). Plaintext: measurement key (64), request nonce (16), header
//! tags (208), time of issue (8, Unix seconds). Associated data: a label, the challenge's id and the caller's context.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use cocoon_stage::{Code, Failure};
use zeroize::Zeroizing;

use super::header::HeaderTags;
use super::measurement::{MEASUREMENT_SIZE, NONCE_SIZE};
use crate::reader::Reader;

const VERSION: u8 = 1;
const LABEL: &[u8] = b"cocoon secure execution challenge 1\0";
const GCM_NONCE: usize = 12;
const TAG: usize = 16;
const PLAIN: usize = MEASUREMENT_SIZE + NONCE_SIZE + HeaderTags::SIZE + 8;
/// Length of a sealed state.
pub(super) const SEALED_SIZE: usize = 1 + GCM_NONCE + PLAIN + TAG;
/// Length of a challenge's id.
pub(super) const ID_SIZE: usize = 16;
/// Replicas of a verifier need not agree on the second.
const CLOCK_SKEW: u64 = 30;

/// The key under which challenges' states are sealed. All replicas of a verifier share it, nobody else knows it.
///
/// GCM nonces are random: change the key before 2³² challenges.
pub struct SealingKey(LessSafeKey);

impl SealingKey {
    /// A key from 32 secret random bytes.
    ///
    /// # Errors
    /// A failure of the cryptographic library.
    pub fn new(bytes: &[u8; 32]) -> Result<Self, Failure> {
        UnboundKey::new(&AES_256_GCM, bytes).map(|key| SealingKey(LessSafeKey::new(key))).map_err(internal)
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey")
    }
}

/// The cryptographic library gives no reasons.
pub(super) fn internal(_: aws_lc_rs::error::Unspecified) -> Failure {
    Failure::new(Code::Internal, "cryptography failed while a Secure Execution challenge was made")
}

/// Random bytes.
pub(super) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, Failure> {
    let mut bytes = Zeroizing::new([0; N]);
    aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(internal)?;
    Ok(bytes)
}

/// The state of one challenge.
pub(super) struct State {
    pub measurement_key: Zeroizing<[u8; MEASUREMENT_SIZE]>,
    pub nonce: Zeroizing<[u8; NONCE_SIZE]>,
    pub tags: HeaderTags,
    pub issued_unix: u64,
}

impl State {
    /// Seals the state for the challenge of that id.
    pub fn seal(&self, key: &SealingKey, id: &[u8; ID_SIZE], context: &[u8]) -> Result<Vec<u8>, Failure> {
        let gcm_nonce = *random::<GCM_NONCE>()?;
        let mut secret = Zeroizing::new(Vec::with_capacity(PLAIN));
        secret.extend_from_slice(self.measurement_key.as_slice());
        secret.extend_from_slice(self.nonce.as_slice());
        secret.extend_from_slice(&self.tags.to_bytes());
        secret.extend_from_slice(&self.issued_unix.to_be_bytes());
        let nonce = Nonce::assume_unique_for_key(gcm_nonce);
        let aad = Aad::from(associated(id, context));
        let tag = key.0.seal_in_place_separate_tag(nonce, aad, &mut secret).map_err(internal)?;
        Ok([&[VERSION], &gcm_nonce[..], &secret, tag.as_ref()].concat())
    }

    /// Opens a state that was sealed at most `lifetime` seconds ago. Does not tell why not: a forger learns nothing.
    pub fn open(
        sealed: &[u8],
        id: &[u8],
        key: &SealingKey,
        context: &[u8],
        lifetime: u64,
        now_unix: u64,
    ) -> Option<Self> {
        if sealed.len() != SEALED_SIZE || id.len() != ID_SIZE {
            return None;
        }
        let mut reader = Reader::new("sealed state", sealed);
        if reader.u8().ok()? != VERSION {
            return None;
        }
        let nonce = Nonce::assume_unique_for_key(reader.array().ok()?);
        let mut secret = Zeroizing::new(reader.rest().to_vec());
        let plain = key.0.open_in_place(nonce, Aad::from(associated(id, context)), &mut secret).ok()?;
        let mut reader = Reader::new("state", plain);
        let state = State {
            measurement_key: Zeroizing::new(reader.array().ok()?),
            nonce: Zeroizing::new(reader.array().ok()?),
            tags: HeaderTags::parse(reader.take(HeaderTags::SIZE).ok()?).ok()?,
            issued_unix: reader.u64_be().ok()?,
        };
        reader.finish().ok()?;
        let young = now_unix <= state.issued_unix.saturating_add(lifetime);
        let past = state.issued_unix <= now_unix.saturating_add(CLOCK_SKEW);
        (young && past).then_some(state)
    }
}

/// The id has a fixed length, so the parts cannot run into each other.
fn associated(id: &[u8], context: &[u8]) -> Vec<u8> {
    [LABEL, id, context].concat()
}
