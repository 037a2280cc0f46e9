//! The attestation result token: a JWT (RFC 7519, ES256) with the claims of an EAT Attestation Result (EAR).
//!
//! Written by the Trustee, checked by whoever releases something for it. A verifier trusts only the keys it was
//! given: the key a token carries in its own header only helps to find the trusted one.

mod ear;
mod signer;
mod strict;
mod verify;

use serde::Deserialize;
use serde_json::Value;

use crate::jwk::TeePublicKey;

pub use ear::{EAR_PROFILE, Ear, Status, Submod, TrustVector};
pub use signer::Signer;
pub use verify::{LEEWAY_SECONDS, MAX_TOKEN, verify};

/// Where a token may carry the guest's public key, in the order they are looked at.
pub const TEE_PUBLIC_KEY_POINTERS: [&str; 5] = [
    "/tdx/attester_runtime_data/tee-pubkey",
    "/tdx/attester_user_data/tee-pubkey",
    "/customized_claims/runtime_data/tee-pubkey",
    "/submods/cpu0/ear.veraison.annotated-evidence/runtime_data_claims/tee-pubkey",
    "/tee-pubkey",
];

/// The guest's public key in the claims of a *verified* token.
///
/// The first of [`TEE_PUBLIC_KEY_POINTERS`] that is there decides; if what is there is not a key, the answer is
/// `None` rather than a key from a place of lower rank.
pub fn tee_public_key(claims: &Value) -> Option<TeePublicKey> {
    let found = TEE_PUBLIC_KEY_POINTERS.iter().find_map(|pointer| claims.pointer(pointer))?;
    TeePublicKey::deserialize(found).ok()
}

#[cfg(test)]
#[path = "token/tests.rs"]
mod tests;
