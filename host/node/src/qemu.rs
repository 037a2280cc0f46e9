//! QEMU: there, new enough, with what Cocoon uses compiled in.

use std::path::Path;

use cocoon_vmm::{Qemu, Version};

use crate::Check;

const INSTALL: &str = "apt-get install --no-install-recommends qemu-system-x86";

/// The oldest QEMU with `vhost-user-vsock-pci` and shared memfd backends as Cocoon uses them.
const OLDEST: Version = Version { major: 7, minor: 0, micro: 0 };
/// The first with `sev-snp-guest`.
const WITH_SNP: Version = Version { major: 9, minor: 1, micro: 0 };
/// The first with `tdx-guest`.
const WITH_TDX: Version = Version { major: 10, minor: 1, micro: 0 };

pub(crate) async fn checks(qemu: Option<&Qemu>) -> Vec<Check> {
    let name = "QEMU";
    let Some(qemu) = qemu else {
        return vec![Check::missing(name, "no qemu-system-x86_64", "no pod VM can be started").mend(INSTALL)];
    };
    let version = match qemu.version().await {
        Ok(version) => version,
        Err(error) => {
            return vec![Check::missing(name, error.to_string(), "no pod VM can be started").mend(INSTALL)];
        }
    };
    vec![judge(version, qemu.path()), features(qemu).await]
}

fn judge(version: Version, path: &Path) -> Check {
    let name = "QEMU";
    let found = format!("{version}, {}", path.display());
    if version < OLDEST {
        let means = format!("too old: {OLDEST} is the oldest that is known to work");
        return Check::missing(name, found, means).mend(INSTALL);
    }
    let tees = match (version >= WITH_SNP, version >= WITH_TDX) {
        (_, true) => "can start SNP and TDX guests on hosts that have them",
        (true, false) => "can start SNP guests; TDX needs 10.1",
        (false, false) => "simulated platform only; SNP needs 9.1, TDX 10.1",
    };
    Check::ok(name, format!("{found} ({tees})"), "runs the pod VM")
}

async fn features(qemu: &Qemu) -> Check {
    let name = "QEMU features";
    let answers = [
        ("memory-backend-memfd", qemu.has_object("memory-backend-memfd").await),
        ("netdev user", qemu.has_netdev("user").await),
        ("virtio-blk-pci", qemu.has_device("virtio-blk-pci").await),
        ("virtio-net-pci", qemu.has_device("virtio-net-pci").await),
        ("vhost-user-vsock-pci", qemu.has_device("vhost-user-vsock-pci").await),
    ];
    let lacking: Vec<&str> =
        answers.iter().filter(|(_, has)| !matches!(has, Ok(true))).map(|(n, _)| *n).collect();
    if lacking.is_empty() {
        let all: Vec<&str> = answers.iter().map(|(n, _)| *n).collect();
        return Check::ok(name, all.join(", "), "all that a pod VM is made of");
    }
    Check::missing(name, format!("not compiled in: {}", lacking.join(", ")), "pod VMs cannot be started")
        .mend(INSTALL)
}

pub(crate) async fn vsock(root: &Path, qemu: Option<&Qemu>) -> Check {
    let name = "vsock";
    let in_process = match qemu {
        Some(qemu) => matches!(qemu.has_device("vhost-user-vsock-pci").await, Ok(true)),
        None => false,
    };
    judge_vsock(name, in_process, root.join("dev/vhost-vsock").exists())
}

fn judge_vsock(name: &'static str, in_process: bool, kernel: bool) -> Check {
    let means = "host and guest can talk";
    match (in_process, kernel) {
        (true, true) => Check::ok(name, "in-process device; /dev/vhost-vsock is there too", means),
        (true, false) => Check::ok(name, "in-process device (no /dev/vhost-vsock; not needed)", means),
        (false, true) => {
            Check::warn(name, "/dev/vhost-vsock only", "one guest's ports collide with another's")
                .mend(INSTALL)
        }
        (false, false) => Check::missing(
            name,
            "neither vhost-user-vsock in QEMU nor /dev/vhost-vsock",
            "host and guest cannot talk, so nothing can be run",
        )
        .mend(format!("{INSTALL}; or modprobe vhost_vsock")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    #[test]
    fn versions_are_judged() {
        let judge = |major, minor| judge(Version { major, minor, micro: 0 }, Path::new("/q"));
        assert_eq!(judge(5, 2).status, Status::Missing);
        assert!(judge(7, 2).found.contains("simulated platform only"));
        assert!(judge(9, 1).found.contains("TDX needs 10.1"));
        assert!(judge(10, 1).found.contains("SNP and TDX"));
    }

    #[tokio::test]
    async fn no_qemu_means_no_vm_and_no_vsock() {
        let root = tempfile::tempdir().unwrap();
        let checks = checks(None).await;
        assert_eq!(checks[0].status, Status::Missing);
        assert!(checks[0].mend.as_deref().is_some_and(|m| m.contains("qemu-system-x86")));
        assert_eq!(vsock(root.path(), None).await.status, Status::Missing);
        assert_eq!(judge_vsock("vsock", true, false).status, Status::Ok);
    }

    #[tokio::test]
    async fn a_qemu_that_does_not_run_is_missing() {
        let qemu = Qemu::at("/nonexistent/qemu".into());
        assert_eq!(super::checks(Some(&qemu)).await[0].status, Status::Missing);
    }
}
