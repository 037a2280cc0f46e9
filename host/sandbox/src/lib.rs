//! One pod VM: boot it, talk to it, stop it. Used by `cocoon run` and by the shim.
//!
//! Contract: runs on the untrusted node and holds no secret. What it tells the guest is what any host may tell it;
//! what the guest answers is untrusted text for people. Nothing of a pod outlives its [`Pod`]: dropping it kills
//! QEMU and removes the runtime folder.

mod adversary;
mod boot;
mod container;
mod events;
mod guest;
mod image;
mod machine;
mod run_dir;
mod scratch;
mod sim;

pub use adversary::Adversary;
pub use boot::{Pod, PodSpec, TeePlatform, user_networking};
pub use cocoon_vmm::{Disk, NetArg};
pub use container::{Container, Stdio};
pub use events::Observed;
pub use guest::GuestStream;
pub use image::GuestFiles;
pub use machine::{Acceleration, accelerator, sev_snp, snp_firmware, tdx, tdx_firmware};
