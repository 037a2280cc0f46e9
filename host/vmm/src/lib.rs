//! Starts and stops one pod VM with QEMU.
//!
//! Contract: turns a [`VmSpec`] into QEMU's command line ([`command_line`], a pure function with golden files),
//! runs it as a child that dies with this process, and speaks the little QMP that stopping needs. It must never
//! leave a QEMU behind, never let QEMU or the guest grow this process's memory (everything captured is bounded), and
//! never vary what is measured from pod to pod: the kernel command line is constant per platform, and all variation
//! travels in the initdata disk. Disks vary in number; the plan, not the launch measurement, says what must be on them.
//!
//! Trust: host side. Nothing here is trusted by the guest; the guest's console output and QEMU's words are hostile
//! text, shown with control characters removed.

mod capture;
mod command;
mod error;
mod hotplug;
mod inherit;
mod keeper;
mod probe;
mod qemu;
pub mod qmp;
mod spec;
#[cfg(test)]
mod spec_tests;
mod swtpm;
mod vm;

pub use command::command_line;
pub use error::Error;
pub use hotplug::MAX_PORTS;
pub use inherit::Descriptor;
pub use keeper::{Ending, Killer};
pub use probe::{KvmProbe, PROBE_LIMIT, probe_kvm};
pub use qemu::{Qemu, Version};
pub use spec::{
    Accel, Console, Disk, ID_AUTH, ID_BLOCK, MAX_DISKS, MAX_TAPS, Machine, NetArg, Platform, QuoteGeneration,
    RealmHash, SnpIdentity, Tap, VmSpec, VsockArg, host_field,
};
pub use swtpm::{Swtpm, finished};
pub use vm::Vm;

/// Least memory in MiB of a VM whose boot a TPM measures: so much of every such VM lies below 4 GiB, whatever its size, since
/// where that ends is measured.
pub const TPM_MEMORY_MIB: u32 = 256;
