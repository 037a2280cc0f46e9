//! Hygon CSV: attestation reports, their certificates, and what must hold of both.
//!
//! Sources: the structures and constants of Hygon's csv-rs and csv-guest driver; GM/T 0003 and 0004 for signatures and
//! digests. A report fills a page of 4096 bytes. There are two versions:
//!
//! - Version 1 (magic all zero): 0x150 bytes of report, signed are the first 0xb4. All fields are masked with `anonce`, four
//!   bytes that repeat and that **no signature covers**. Who sends a report can therefore change the mask, which changes
//!   every field by the same four-byte pattern: measurement, report data and policy bits together. A policy that
//!   compares the whole measurement is safe from this; one that looks only at policy bits is not. [`Rules::allow_v1`]
//!   refuses version 1 altogether.
//! - Version 2 (magic `ATTESTATION_EXT`, flag 1): 0x490 bytes, signed are the first 0x400, nothing is masked; it has
//!   four runtime measurement registers that the event log is replayed into.
//!
//! Behind the report stand the PEK certificate, the chip's serial number and a MAC. Attesters change these bytes before they
//! send them (they clear what the MAC is over), so the MAC cannot be checked; and nobody signs the serial number. It only
//! leads to HSK and CEK. What names the chip for certain is the CEK, claim `cek_key_digest`.
//!
//! Chain: HRK (Hygon's root, its key is embedded) signs HSK, HSK signs CEK (chip), CEK signs PEK (platform), PEK signs the
//! report. These certificates have no dates, and there are no revocation lists. PEK may also be signed by its owner's OCA;
//! that signature says nothing of Hygon and is not looked at.
//!
//! Report data: 64 bytes, zero-padded. Init-data: CSV binds none, so evidence that is asked to is refused.

mod certificate;
mod chain;
mod chip;
mod claims;
mod collateral;
mod evidence;
mod report;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod verify;
pub(crate) mod wire;

pub(crate) use certificate::Signature;
pub use certificate::{CaCertificate, ChipCertificate};
pub(crate) use chain::{Endorsed, endorse};
pub use chain::{Roots, SIMULATED_MARK, SimulatedRoot};
pub use chip::ChipId;
pub use claims::unverified;
pub use collateral::needs;
pub(crate) use collateral::{issuers, need};
pub use evidence::Evidence;
pub use report::{Extended, Report, Version};
pub use verify::{Rules, verify};
