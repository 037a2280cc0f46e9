//! Hygon DCU: attestation reports of accelerators, one per device, and what must hold of them.
//!
//! Source: the structures of Hygon's csv-rs (`api::dcu`). A report has 252 bytes that are signed (`version[4] chip-id[16]
//! user-data[64] measure[32] reserved[128] usage[4] algorithm[4]`, numbers little endian) and a signature `r[72] s[72]`. Unlike
//! CSV's, it is signed by the chip's CEK itself; the chain is HRK, HSK, CEK, report. The chip id is signed. There are no
//! dates and no revocation lists. No field says whether a device may be debugged.
//!
//! Which version numbers there are is written nowhere; all of the report is signed, and the claim tells what it is.
//!
//! Report data: 64 bytes, zero-padded, in every report. Init-data: a device binds none, so evidence that is asked to is
//! refused. Tee class: `dcu`.

mod claims;
mod evidence;
#[cfg(test)]
mod tests;
mod verify;

pub use crate::csv::{Roots, SimulatedRoot};
pub use claims::unverified;
pub use evidence::{Evidence, MAX_REPORTS, Report};
pub use verify::{needs, verify};
