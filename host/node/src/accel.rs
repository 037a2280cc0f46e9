//! Does KVM boot a guest?

use std::path::{Path, PathBuf};

use cocoon_vmm::{KvmProbe, PROBE_LIMIT, Qemu, probe_kvm};

use crate::Check;

const NAME: &str = "KVM";
const SLOW: &str =
    "pod VMs are emulated: everything works, about ten times slower, and no real TEE can be used";

pub(crate) async fn kvm(root: &Path, qemu: Option<&Qemu>, guest_dir: &Path) -> Check {
    if !root.join("dev/kvm").exists() {
        return Check::warn(NAME, "no /dev/kvm", SLOW)
            .mend("modprobe kvm_amd || modprobe kvm_intel; enable virtualization in the firmware setup");
    }
    let Some(qemu) = qemu else {
        return Check::warn(NAME, "/dev/kvm exists; not tried, since there is no QEMU", SLOW);
    };
    let Some(kernel) = kernel(root, guest_dir) else {
        let found = "/dev/kvm exists; not tried, since there is no kernel to boot";
        return Check::warn(NAME, found, "whether it works shows at the first run")
            .mend("cocoon guest build");
    };
    match probe_kvm(qemu.path(), &kernel, PROBE_LIMIT).await {
        KvmProbe::Works => Check::ok(NAME, "boots a guest", "pod VMs run at full speed"),
        KvmProbe::Fails { reason } => {
            let check =
                Check::warn(NAME, format!("/dev/kvm exists but does not boot a guest: {reason}"), SLOW);
            if reason.contains("Permission denied") {
                return check.mend("usermod -aG kvm USER, then log in again; or run as root");
            }
            check.mend("use a host with full hardware virtualization (in a VM: enable nested virtualization)")
        }
    }
}

/// The guest's own kernel, else one that the host has installed.
fn kernel(root: &Path, guest_dir: &Path) -> Option<PathBuf> {
    let own = guest_dir.join("vmlinuz");
    if own.is_file() {
        return Some(own);
    }
    let entries = std::fs::read_dir(root.join("boot")).ok()?.flatten().map(|e| e.path());
    entries.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz-"))).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    #[tokio::test]
    async fn no_device_is_a_warning_with_a_way_out() {
        let root = tempfile::tempdir().unwrap();
        let check = kvm(root.path(), None, root.path()).await;
        assert_eq!((check.status, check.found.as_str()), (Status::Warn, "no /dev/kvm"));
        assert!(check.mend.is_some());
    }

    #[tokio::test]
    async fn a_device_alone_is_never_fine() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("dev")).unwrap();
        std::fs::write(root.path().join("dev/kvm"), "").unwrap();
        assert_eq!(kvm(root.path(), None, root.path()).await.status, Status::Warn);
        let qemu = Qemu::at("/nonexistent/qemu".into());
        let check = kvm(root.path(), Some(&qemu), root.path()).await;
        assert_eq!(check.mend.as_deref(), Some("cocoon guest build"));
    }
}
