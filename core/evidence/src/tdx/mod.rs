//! Intel TDX: quotes of trust domains, and the event log that leads to their registers.
//!
//! Binding: REPORTDATA (64 bytes) holds the challenge's report data, zero-padded; MRCONFIGID (48 bytes), which the host
//! sets at launch and the TD cannot change, holds the digest of the initdata, truncated or zero-padded.
//!
//! Sources: those of [`crate::dcap`]; Intel TDX module base specification (TD attributes); JSON as CoCo's attesters send
//! and its policies expect it.

mod claims;
mod evidence;
#[cfg(test)]
mod tests;
mod verify;

pub use claims::{claims, unverified};
pub(crate) use evidence::decode;
pub use evidence::{Evidence, needs};
pub(crate) use verify::report_data;
pub use verify::{verify, verify_offline, verify_quote};
