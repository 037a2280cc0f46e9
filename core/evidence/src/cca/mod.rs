//! Arm CCA: attestation tokens of realms, and what must hold of them.
//!
//! Sources: Arm DEN0137 (Realm Management Monitor specification), A7.2 "Realm attestation"; draft-ffm-rats-cca-token; CBOR is
//! RFC 8949, signatures are COSE_Sign1 (RFC 9052), claims are an EAT (RFC 9711). A token is at most 64 KiB: CBOR tag 399
//! around a map of two byte strings, 44234 (the platform token, signed by the platform's CPAK) and 44241 (the realm token,
//! signed by the realm's RAK).
//!
//! - Trust: Arm publishes no root. Whoever endorses a platform gives its CPAK, and an operator puts it into a [`Store`],
//!   by implementation and instance. A CPAK is never taken from the evidence. The RAK is in the realm token, and trusted
//!   only because the platform token's challenge is its hash.
//! - Report data is the realm's challenge: 64 bytes, zero-padded.
//! - Init-data is the realm's personalization value: 64 bytes that the host chose when it made the realm and nobody can
//!   change later. It must be the digest of the initdata, zero-padded.
//! - A verdict is never `simulated`: a store is the operator's own word, and test keys in it are as good as any others.
//!   There are no certificates here, so no dates are checked and no collateral is needed.

mod builder;
mod cbor;
mod claims;
mod collateral;
mod cose;
mod evidence;
#[cfg(test)]
mod hostile_tests;
mod realm;
mod references;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod tests;
mod token;
mod verify;

pub use builder::TokenBuilder;
pub use claims::claims;
pub use collateral::{PlatformReference, RealmReference, Rules, Store};
pub use cose::Algorithm;
pub use evidence::{Evidence, MAX_TOKEN};
pub use realm::{Realm, RealmProfile};
pub use token::{Lifecycle, Platform, PlatformProfile, SwComponent};
pub use verify::verify;
