//! Does KVM really boot a guest here? Found by trying: the device node's presence says nothing, some hosts' KVM
//! aborts on a register or never leaves the kernel's first instructions.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::keeper::{Copy, Kept};

/// A sensible limit for [`probe_kvm`]: a working KVM prints the kernel's banner well within a second.
pub const PROBE_LIMIT: Duration = Duration::from_secs(4);

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvmProbe {
    /// A guest kernel came to life.
    Works,
    /// It did not.
    Fails {
        /// Why, for a person.
        reason: String,
    },
}

impl KvmProbe {
    /// Whether KVM can be used.
    pub fn works(&self) -> bool {
        *self == KvmProbe::Works
    }
}

/// Boots `kernel` with KVM and without an initrd until it prints its banner, at most for `limit`. Leaves no process
/// behind. The kernel, once up, finds no root and panics; nothing of the host is given to it.
pub async fn probe_kvm(qemu: &Path, kernel: &Path, limit: Duration) -> KvmProbe {
    let fails = |reason: String| KvmProbe::Fails { reason };
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return fails(format!("/dev/kvm: {error}"));
    }
    if let Err(error) = std::fs::File::open(kernel) {
        return fails(format!("no kernel to try it with: {}: {error}", kernel.display()));
    }
    let mut command = Command::new(qemu);
    command
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
        .args(["-machine", "q35,accel=kvm,vmport=off,usb=off,graphics=off,sata=off,smbus=off"])
        .args(["-cpu", "host", "-smp", "1", "-m", "256M"])
        .args(["-chardev", "stdio,id=console0,signal=off", "-serial", "chardev:console0"])
        .args(["-append", "console=ttyS0 panic=-1"])
        .arg("-kernel")
        .arg(kernel);
    let mut child =
        match Kept::start(command, std::process::Stdio::null(), Copy { file: None, limit: 0 }).await {
            Ok(child) => child,
            Err(error) => return fails(format!("{}: {error}", qemu.display())),
        };
    // The guest dies by itself soon after its banner (no root, `panic=-1`), so its end is the event to wait for.
    let ended = tokio::time::timeout(limit, child.wait()).await;
    let booted =
        child.output.text().contains("Linux version ") || child.output.text().contains("Kernel panic");
    if ended.is_err() {
        child.kill();
        let _ = child.wait().await;
    }
    match ended {
        _ if booted => KvmProbe::Works,
        Err(_) => fails(format!("a guest kernel printed nothing within {limit:?}")),
        Ok(Ok(status)) if status.success() => fails("the guest reset before its kernel ran".into()),
        Ok(Ok(status)) => {
            let said = child.errors.text();
            let last = said.lines().last().unwrap_or("it said nothing");
            fails(format!("QEMU ended ({status}): {last}"))
        }
        Ok(Err(error)) => fails(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_kernel_there_is_a_reason_and_no_process() {
        let probe = probe_kvm(Path::new("/nonexistent/qemu"), Path::new("/nonexistent/k"), PROBE_LIMIT).await;
        assert!(matches!(&probe, KvmProbe::Fails { reason } if reason.contains("/")), "{probe:?}");
        assert!(!probe.works());
    }
}
