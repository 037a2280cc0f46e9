//! Confidential VMs of Azure, which do not show their guest the hardware's report: a paravisor (HCL) inside the VM emulates a
//! TPM, puts its key into the hardware's report and leaves that report in the TPM. Guests prove themselves by the TPM's quote.
//!
//! Trust goes from the vendor's root to the hardware's report, from its REPORTDATA to the paravisor's data, from the key in
//! that data to the quote, and from the quote to the registers and the challenge.
//!
//! Sources: Microsoft's OpenHCL (attestation protocol), TCG TPM 2.0, AMD 56860, Intel TDX DCAP.

mod evidence;
mod hcl;
pub mod snp;
pub mod tdx;
#[cfg(test)]
mod tests;
mod vtpm;

pub use evidence::Version;
pub use hcl::{Hardware, HclReport, RuntimeData};
