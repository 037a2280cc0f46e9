//! The node: what it has, what each lack means and the command that mends it; and containerd's acquaintance with Cocoon.
//!
//! Contract: [`doctor`] and [`check()`] look and report; they change nothing, install nothing and need no network. They never fail:
//! what they cannot find out is a check that says so. Their child processes are short runs of QEMU, containerd, the shim and
//! tc, which they end themselves. [`install`] has a contract of its own.
//!
//! Trust: host side. A report describes an untrusted machine to a person on it; nothing is released because of it.

mod accel;
mod check;
pub mod containerd;
mod files;
mod host;
pub mod install;
mod labels;
pub mod pods;
mod program;
mod qemu;
mod report;
mod tee;

use std::path::Path;

use cocoon_vmm::Qemu;

pub use check::{Look, NodeReport, check};
pub use labels::Labels;
pub use report::{Check, Report, Status};

/// Looks at this machine. `guest_dir` is where the measured guest image should be (`manifest.json`, `vmlinuz`,
/// `initrd.img`, `firmware.bin`), `data_dir` where Cocoon keeps its state; neither has to exist.
///
/// Takes some seconds where KVM is present but does not work: that is only found by trying.
pub async fn doctor(guest_dir: &Path, data_dir: &Path) -> Report {
    let root = Path::new("/");
    let qemu = Qemu::find().ok();
    let mut checks = vec![host::user(), host::kernel(root)];
    checks.push(accel::kvm(root, qemu.as_ref(), guest_dir).await);
    checks.extend(tee::checks(root));
    checks.extend(qemu::checks(qemu.as_ref()).await);
    checks.push(qemu::vsock(root, qemu.as_ref()).await);
    checks.push(files::guest_image(guest_dir));
    checks.push(files::firmware(root));
    checks.extend(files::programs(&std::env::var_os("PATH").unwrap_or_default()));
    checks.push(host::memory(root));
    checks.push(host::space(data_dir));
    Report { checks }
}
