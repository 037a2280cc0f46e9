//! Intel SGX: quotes of enclaves.
//!
//! Binding: REPORTDATA (64 bytes) holds the challenge's report data, zero-padded; CONFIGID (64 bytes), which whoever starts
//! the enclave sets and the enclave cannot change, holds the digest of the initdata, truncated or zero-padded. CONFIGID
//! exists only in enclaves with KSS.
//!
//! Sources: those of [`crate::dcap`]; Intel SDM, volume 3D (ATTRIBUTES); JSON as CoCo's attesters send and its policies
//! expect it. Only version 3 of quotes is taken, as upstream does.

mod claims;
mod evidence;
#[cfg(test)]
mod tests;
mod verify;

pub use claims::claims;
pub use evidence::{Evidence, needs};
pub use verify::{verify, verify_offline};
