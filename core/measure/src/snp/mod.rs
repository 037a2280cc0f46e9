//! AMD SEV-SNP launch digests as QEMU and KVM produce them.
//!
//! Sources: AMD 56860 (SNP_LAUNCH_UPDATE, PAGE_INFO), AMD APM volume 2 (VMSA layout, table B-4), edk2 OvmfPkg
//! (ResetVector GUID table and SEV metadata), QEMU target/i386/sev.c (kernel hashes).

mod digest;
mod hashes;
mod id_block;
mod launch;
mod ovmf;
#[cfg(test)]
mod tests;
mod vmsa;

pub use digest::{LaunchDigest, PAGE, PageType};
pub use hashes::{KERNEL_HASHES_LEN, KernelHashes};
pub use id_block::{ID_AUTH, ID_BLOCK, IdAuth, IdBlock};
pub use launch::{cpu_signature, ovmf_launch_digest};
pub use ovmf::{Ovmf, Section, SectionKind};
pub use vmsa::{RESET_VECTOR, Vmsa};

/// CPU signature (family 23, model 1, stepping 2) of QEMU's `EPYC-v4`, the model that CoCo boots with.
pub const EPYC_V4: u32 = 0x0080_0f12;
/// Guest features of a plain SNP guest: only SNP active.
pub const GUEST_FEATURES: u64 = 1;
