//! The Key Broker Service client: handshake (request, challenge, attestation) and resources.
//!
//! Contract: speaks KBS protocol 0.4.0 to the one Trustee it was made for. Everything Trustee, or whoever stands
//! in its place, answers is bounded and checked; a secret leaves here only as zeroizing bytes. It never retries a
//! refusal. Used in the guest and by tools that play one; it makes no evidence itself ([`EvidenceSource`] does).

mod client;
mod error;

pub use client::{EvidenceSource, KbsClient, KeyProver, Session};
pub use error::Error;
