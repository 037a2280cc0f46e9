//! NVIDIA GPUs and NVSwitches: SPDM measurements signed by the device, its certificates, and NVIDIA's reference manifests.
//!
//! Sources: DMTF DSP0274 1.1 (GET_MEASUREMENTS, MEASUREMENTS), TCG DICE Attestation Architecture 1.1 (certificate
//! extensions), NVIDIA's nvtrust and Attestation SDK (opaque data, manifest ids, comparison). The JSON forms are those that
//! CoCo's attesters and verifiers exchange, and those of NVIDIA's remote attestation service ([`nras`]).
//!
//! What a verdict says: the report was signed, for this challenge, by a device whose key NVIDIA's device root endorses, and
//! its measured firmware is what the certificate was issued for. With manifests, also that its measurements are those
//! NVIDIA published for that driver and firmware; without them `measres` is `not-compared` and nothing is known of what the
//! device runs, so a policy must ask for `success`.
//!
//! - Report data: its first 32 bytes, padded with zeros, are the nonce of the SPDM request, which the device signs.
//! - Initdata: devices carry none. The expectation's digest is not looked at; the CPU's TEE binds it.
//! - Revocation: NVIDIA answers OCSP and publishes lists for its chains; neither is looked at here. Its remote service does.
//! - Reports of a real Hopper GPU, Blackwell GPU and LS10 NVSwitch verify. Reports with NVIDIA's later opaque data format
//!   (Rubin) are refused as not supported.

mod certificate;
mod claims;
mod collateral;
mod evidence;
mod group;
pub mod nras;
mod opaque;
mod rim;
mod spdm;
#[cfg(test)]
mod tests;
mod verify;

pub use claims::unverified;
pub use collateral::{Trust, needs};
pub use evidence::{Architecture, DeviceEvidence, Evidence};
pub use opaque::Opaque;
pub use spdm::{Measurement, Report};
pub use verify::{Device, verify};
