//! Placeholder of the shapes that the policy calls.
use crate::NotationEnvelope;
use cocoon_image::{Digest, Error};
use std::collections::BTreeMap;
/// Roots.
pub struct Trust {}
/// What a signature says.
pub struct Claim {
    /// Digest.
    pub digest: Digest,
    /// Media type.
    pub media_type: String,
    /// Size.
    pub size: u64,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}
impl Trust {
    /// New.
    ///
    /// # Errors
    /// Never.
    pub fn new(_roots_pem: &[String], _identities: &[String]) -> Result<Trust, Error> {
        Ok(Trust {})
    }
}
/// Verifies.
///
/// # Errors
/// Always.
pub fn verify(_trust: &Trust, _envelope: &NotationEnvelope, _now_unix: u64) -> Result<Claim, Error> {
    Err(Error::SignatureInvalid("Notation is not built in".to_owned()))
}
