//! Signatures over images, and the policies that ask for them.
//!
//! Contract: no network and no clock; time comes in as a value. Signatures are found by others and handed in as bytes,
//! chosen by an untrusted registry. A signature vouches for *a digest* under *a name*; both are checked.

pub mod cosign;
mod found;
mod key;
pub mod notation;
pub mod policy;
mod sealed;
pub mod sigstore;
pub mod simple;
mod strict;

pub use found::{CosignSignature, Found, Needs, NotationEnvelope, Subject};
pub use key::{KeyPair, SigningKey, VerifyingKey};
