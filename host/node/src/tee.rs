//! The TEEs that this host could start guests in.

use std::path::{Path, PathBuf};

use crate::Check;

const SIMULATED: &str = "workloads run on the simulated platform: the whole path works, but the host can read them; \
     only a Trustee that accepts simulated evidence releases secrets to them";

/// What this machine could protect pods with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tees {
    pub(crate) snp: bool,
    pub(crate) tdx: bool,
    /// A TPM that the host plays: swtpm, and firmware that measures.
    pub(crate) tpm: bool,
    /// Guests at once, where the kernel says.
    pub(crate) snp_guests: Option<u64>,
    pub(crate) tdx_guests: Option<u64>,
}

impl Tees {
    pub(crate) fn of(root: &Path) -> Self {
        let snp = root.join("dev/sev").exists() && parameter(root, "kvm_amd", "sev_snp");
        let tdx = parameter(root, "kvm_intel", "tdx");
        Tees {
            snp,
            tdx,
            tpm: swtpm(root).is_some() && ovmf(root).is_some(),
            snp_guests: capacity(root, "sev_es").filter(|_| snp),
            tdx_guests: capacity(root, "tdx").filter(|_| tdx),
        }
    }
}

/// swtpm's program below `root`.
pub(crate) fn swtpm(root: &Path) -> Option<PathBuf> {
    ["usr/bin/swtpm", "usr/local/bin/swtpm"].iter().map(|p| root.join(p)).find(|p| p.is_file())
}

/// Firmware that measures what it boots into a TPM, where the sandbox looks for it.
pub(crate) fn ovmf(root: &Path) -> Option<PathBuf> {
    first(root, ["usr/share/OVMF/OVMF_CODE_4M.fd", "usr/share/OVMF/OVMF_CODE.fd"])
}

/// Firmware for SNP guests.
pub(crate) fn ovmf_snp(root: &Path) -> Option<PathBuf> {
    first(root, ["usr/share/ovmf/OVMF.amdsev.fd", "usr/share/OVMF/OVMF.amdsev.fd"])
}

/// Firmware for TDX guests.
pub(crate) fn ovmf_tdx(root: &Path) -> Option<PathBuf> {
    first(root, ["usr/share/ovmf/OVMF.inteltdx.fd", "usr/share/OVMF/OVMF.inteltdx.fd"])
}

fn first(root: &Path, places: [&str; 2]) -> Option<PathBuf> {
    places.iter().map(|p| root.join(p)).find(|p| p.is_file())
}

pub(crate) fn checks(root: &Path) -> [Check; 2] {
    [snp(root), tdx(root)]
}

fn snp(root: &Path) -> Check {
    let name = "AMD SEV-SNP";
    let enabled = parameter(root, "kvm_amd", "sev_snp");
    if !root.join("dev/sev").exists() || !enabled {
        let found = match (root.join("sys/module/kvm_amd").exists(), enabled) {
            (false, _) => "no: the kvm_amd module is not loaded",
            (true, false) => "no: kvm_amd's parameter sev_snp is not Y",
            (true, true) => "no: the kernel knows it, but there is no /dev/sev",
        };
        return Check::warn(name, found, SIMULATED).mend(
            "on an AMD EPYC from Milan on: enable SEV-SNP and the RMP table in the firmware setup, kernel 6.11 or newer",
        );
    }
    // Keys for encrypted guests that may run at once; SNP guests count as SEV-ES ones.
    let capacity = capacity(root, "sev_es")
        .map_or(String::new(), |n| format!(", {n} guests at once by the kernel, one by Cocoon"));
    Check::ok(name, format!("/dev/sev, enabled in KVM{capacity}"), "pod VMs are protected by this TEE")
}

fn tdx(root: &Path) -> Check {
    let name = "Intel TDX";
    if !parameter(root, "kvm_intel", "tdx") {
        let found = match root.join("sys/module/kvm_intel").exists() {
            false => "no: the kvm_intel module is not loaded",
            true => "no: kvm_intel's parameter tdx is not Y",
        };
        return Check::warn(name, found, SIMULATED).mend(
            "on an Intel Xeon from Emerald Rapids on: enable TDX in the firmware setup, kernel 6.16 or newer with kvm_intel.tdx=1",
        );
    }
    let capacity = capacity(root, "tdx")
        .map_or(String::new(), |n| format!(", {n} guests at once by the kernel, one by Cocoon"));
    Check::ok(name, format!("enabled in KVM{capacity}"), "pod VMs are protected by this TEE")
}

fn parameter(root: &Path, module: &str, name: &str) -> bool {
    let path = root.join("sys/module").join(module).join("parameters").join(name);
    std::fs::read_to_string(path).is_ok_and(|v| matches!(v.trim(), "Y" | "1"))
}

/// A line of the misc cgroup controller's `misc.capacity`: name, blank, number.
fn capacity(root: &Path, resource: &str) -> Option<u64> {
    let text = ["sys/fs/cgroup/misc.capacity", "sys/fs/cgroup/misc/misc.capacity"]
        .iter()
        .find_map(|path| std::fs::read_to_string(root.join(path)).ok())?;
    text.lines().find_map(|line| line.strip_prefix(resource)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn a_machine_without_tees_is_told_what_simulated_means() {
        let root = tempfile::tempdir().unwrap();
        for check in checks(root.path()) {
            assert_eq!(check.status, Status::Warn);
            assert!(check.means.contains("simulated") && check.mend.is_some());
        }
    }

    #[test]
    fn snp_needs_the_device_and_the_parameter() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "sys/module/kvm_amd/parameters/sev_snp", "Y\n");
        assert_eq!(snp(root.path()).status, Status::Warn);
        put(root.path(), "dev/sev", "");
        put(root.path(), "sys/fs/cgroup/misc.capacity", "sev 410\nsev_es 99\n");
        let check = snp(root.path());
        assert_eq!(check.status, Status::Ok);
        assert!(check.found.contains("99 guests"), "{}", check.found);
        put(root.path(), "sys/module/kvm_amd/parameters/sev_snp", "N\n");
        assert_eq!(snp(root.path()).status, Status::Warn);
    }

    #[test]
    fn tdx_needs_the_parameter() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "sys/module/kvm_intel/parameters/tdx", "Y\n");
        put(root.path(), "sys/fs/cgroup/misc/misc.capacity", "tdx 31\n");
        let check = tdx(root.path());
        assert_eq!(check.status, Status::Ok);
        assert!(check.found.contains("31 guests"));
    }
}
