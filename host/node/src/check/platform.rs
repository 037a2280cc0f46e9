//! Whether this machine has what each installed class protects its pods with.

use std::path::Path;

use cocoon_runtime::Protection;

use super::Installed;
use crate::Check;
use crate::tee::{self, Tees};

pub(crate) fn checks(root: &Path, installed: &[Installed]) -> Vec<Check> {
    let tees = Tees::of(root);
    installed
        .iter()
        .filter_map(|i| Some(class(i.class.name, i.config.as_ref().ok()?.protection, tees, root)))
        .collect()
}

fn class(name: &'static str, protection: Protection, tees: Tees, root: &Path) -> Check {
    let nobody = "the whole path works, but this host can read and change the workloads: for trying out, not for secrets";
    let unusable = "pods of this class fail with BOOT-PLATFORM-UNAVAILABLE";
    let (snp_firmware, tdx_firmware) = (tee::ovmf_snp(root).is_some(), tee::ovmf_tdx(root).is_some());
    let without = |tee: &str, package: &str, means: &str| {
        let mend = format!("apt-get install --no-install-recommends {package}");
        Check::missing(name, format!("{tee}, but no firmware for its guests"), means).mend(mend)
    };
    let fallen =
        "pods of this class fall back to the simulated TEE, which protects from nobody: Trustee refuses them";
    match protection {
        Protection::Snp if tees.snp && !snp_firmware => {
            without("AMD SEV-SNP", "ovmf-amdsev", "pods of this class fail with BOOT-QEMU-MISSING")
        }
        Protection::Tdx if tees.tdx && !tdx_firmware => {
            without("Intel TDX", "ovmf-inteltdx", "pods of this class fail with BOOT-QEMU-MISSING")
        }
        Protection::Auto if tees.snp && !snp_firmware => without("AMD SEV-SNP", "ovmf-amdsev", fallen),
        Protection::Auto if tees.tdx && !tdx_firmware => without("Intel TDX", "ovmf-inteltdx", fallen),
        Protection::Snp if tees.snp => Check::ok(name, "AMD SEV-SNP", "pods are protected by this TEE"),
        Protection::Tdx if tees.tdx => Check::ok(name, "Intel TDX", "pods are protected by this TEE"),
        Protection::Snp => Check::missing(name, "no AMD SEV-SNP here", unusable)
            .mend("see the check AMD SEV-SNP; or use another class"),
        Protection::Tdx => Check::missing(name, "no Intel TDX here", unusable)
            .mend("see the check Intel TDX; or use another class"),
        Protection::Tpm if tees.tpm => {
            let means = "measured boot is shown to Trustee, but by a TPM that this host plays and could fake";
            Check::warn(name, "a TPM of this host (swtpm, OVMF)", means)
        }
        Protection::Tpm => {
            let lacks = match (tee::swtpm(root), tee::ovmf(root)) {
                (None, None) => "neither swtpm nor OVMF",
                (None, Some(_)) => "no swtpm",
                _ => "no OVMF",
            };
            Check::missing(name, lacks, unusable)
                .mend("apt-get install --no-install-recommends swtpm swtpm-tools ovmf")
        }
        Protection::Auto if tees.snp => {
            Check::ok(name, "AMD SEV-SNP (chosen by itself)", "pods are protected by this TEE")
        }
        Protection::Auto if tees.tdx => {
            Check::ok(name, "Intel TDX (chosen by itself)", "pods are protected by this TEE")
        }
        Protection::Auto => Check::warn(name, "simulated (there is no TEE to choose)", nobody),
        Protection::Sim => Check::warn(name, "simulated", nobody),
        Protection::Se | Protection::Cca => Check::warn(
            name,
            format!("{protection:?}"),
            "whether this machine has it is not known to this check",
        ),
    }
}

/// Which control groups there are: the shim's and QEMU's go into the pod's.
pub(crate) fn cgroups(root: &Path) -> Check {
    let name = "cgroups";
    let base = root.join("sys/fs/cgroup");
    if base.join("cgroup.controllers").exists() {
        return Check::ok(name, "version 2", "pods' VMs are limited and counted");
    }
    if base.join("memory").is_dir() || base.join("cpu").is_dir() {
        return Check::ok(
            name,
            "version 1",
            "pods' VMs are limited and counted; kubelet 1.31 and newer wants version 2",
        );
    }
    Check::warn(name, "none mounted", "pods' VMs are neither limited nor counted")
        .mend("mount -t cgroup2 cgroup2 /sys/fs/cgroup")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    #[test]
    fn a_class_without_its_tee_is_unusable_and_a_simulated_one_is_never_fine() {
        let root = tempfile::tempdir().unwrap();
        let none = Tees::default();
        let status = |protection, tees| class("c", protection, tees, root.path()).status;
        assert_eq!(status(Protection::Snp, none), Status::Missing);
        assert_eq!(status(Protection::Tdx, none), Status::Missing);
        assert_eq!(status(Protection::Tpm, none), Status::Missing);
        assert_eq!(status(Protection::Auto, none), Status::Warn);
        assert_eq!(status(Protection::Sim, Tees { snp: true, ..none }), Status::Warn);
        let (snp, tdx) = (Tees { snp: true, ..none }, Tees { tdx: true, ..none });
        assert_eq!(
            (status(Protection::Snp, snp), status(Protection::Auto, tdx)),
            (Status::Missing, Status::Missing)
        );
        std::fs::create_dir_all(root.path().join("usr/share/ovmf")).unwrap();
        std::fs::write(root.path().join("usr/share/ovmf/OVMF.amdsev.fd"), "").unwrap();
        std::fs::write(root.path().join("usr/share/ovmf/OVMF.inteltdx.fd"), "").unwrap();
        assert_eq!((status(Protection::Snp, snp), status(Protection::Auto, tdx)), (Status::Ok, Status::Ok));
    }

    #[test]
    fn control_groups_of_either_version_are_known() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(cgroups(root.path()).status, Status::Warn);
        std::fs::create_dir_all(root.path().join("sys/fs/cgroup/memory")).unwrap();
        assert!(cgroups(root.path()).found.ends_with('1'));
        std::fs::write(root.path().join("sys/fs/cgroup/cgroup.controllers"), "").unwrap();
        assert!(cgroups(root.path()).found.ends_with('2'));
    }
}
