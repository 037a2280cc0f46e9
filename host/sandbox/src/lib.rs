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
mod network;
pub mod platform;
mod run_dir;
mod running;
mod scratch;
mod sim;
mod tpm;

pub use adversary::Adversary;
pub use boot::{Pod, PodSpec, TeePlatform};
pub use cocoon_sandbox_api::sandbox::ConfigureRequest as Setup;
pub use cocoon_vmm::Disk;
pub use container::{Container, Stdio};
pub use events::Observed;
pub use guest::GuestStream;
pub use image::GuestFiles;
pub use machine::accelerator;
pub use network::Network;
pub use tpm::TpmAuthority;
