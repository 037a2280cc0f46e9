//! NVIDIA BlueField-3 DPU: evidence of a DICE chain.
//!
//! Sources: TCG DICE Attestation Architecture 1.1 (certificates, `DiceTcbInfo`, OID 2.23.133.5.4.1); the JSON of CoCo's
//! `nvidia_dpu` attester. Chain: a root that the caller names (NVIDIA publishes none for these devices to embed), the
//! DeviceID certificate, the alias certificate; all keys of the device are on P-384. The alias key follows from the firmware
//! that was measured, and the DPU's operating system holds it.
//!
//! Report data: there is no report. The alias key signs the report data itself, as it is or zero-padded to 64 bytes (the
//! attester pads it), so evidence proves nothing without: where the caller expects no report data, verification **fails**.
//! Init-data: a device binds none, so evidence that is asked to is refused. Tee class: `nvidia-dpu`.
//!
//! A DICE certificate whose `DiceTcbInfo` is marked critical is refused by [`crate::x509`], which does not know it.

mod claims;
mod evidence;
mod tcb_info;
#[cfg(test)]
mod tests;
mod verify;

pub use claims::unverified;
pub use evidence::Evidence;
pub use tcb_info::{Fwid, TcbInfo};
pub use verify::{Trust, verify};
