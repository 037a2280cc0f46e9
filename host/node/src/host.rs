//! The host itself: user, kernel, memory, disk.

use std::path::Path;

use crate::Check;

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

pub(crate) fn user() -> Check {
    judge_user(rustix::process::geteuid().is_root(), rustix::process::geteuid().as_raw())
}

fn judge_user(root: bool, uid: u32) -> Check {
    if root {
        return Check::ok("user", "root", "everything is allowed");
    }
    let means = "`cocoon run` works where this user may open /dev/kvm, else by emulation; the demonstration installs \
         packages and needs root";
    Check::warn("user", format!("uid {uid}"), means).mend("run as root, or: usermod -aG kvm USER")
}

pub(crate) fn kernel(root: &Path) -> Check {
    let release = std::fs::read_to_string(root.join("proc/sys/kernel/osrelease")).unwrap_or_default();
    let release = release.trim();
    if release.is_empty() {
        return Check::warn("kernel", "unknown: no /proc", "what this host can do is not known");
    }
    match version(release) {
        // pidfd_open, by which QEMU is stopped.
        Some(v) if v < (5, 3) => Check::missing("kernel", release, "too old: Cocoon needs Linux 5.3")
            .mend("install a current kernel and restart"),
        _ => Check::ok("kernel", release, "new enough"),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

pub(crate) fn memory(root: &Path) -> Check {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    let available = text.lines().find_map(|line| {
        let number = line.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?.trim();
        number.parse::<u64>().ok()?.checked_mul(1024)
    });
    match available {
        Some(bytes) => judge_memory(bytes),
        None => {
            Check::warn("memory", "unknown: no MemAvailable in /proc/meminfo", "a run may not get its memory")
        }
    }
}

fn judge_memory(bytes: u64) -> Check {
    let found = format!("{} MiB available", bytes / MIB);
    let mend = "stop something else, or add memory";
    if bytes < 384 * MIB {
        Check::missing("memory", found, "too little for the smallest pod VM").mend(mend)
    } else if bytes < 2 * GIB {
        Check::warn("memory", found, "enough for one small pod VM; give it a small --memory").mend(mend)
    } else {
        Check::ok("memory", found, "enough for a pod VM")
    }
}

pub(crate) fn space(data_dir: &Path) -> Check {
    // The folder may not exist yet: its nearest ancestor tells.
    let existing = data_dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(existing) {
        Ok(stat) => judge_space(stat.f_bavail.saturating_mul(stat.f_frsize), existing),
        Err(error) => Check::warn("disk", format!("{}: {error}", existing.display()), "space is not known"),
    }
}

fn judge_space(bytes: u64, dir: &Path) -> Check {
    let found = format!("{} MiB free in {}", bytes / MIB, dir.display());
    let mend = format!("free space in {}, or set COCOON_DATA_DIR to a larger file system", dir.display());
    if bytes < 128 * MIB {
        Check::missing("disk", found, "too little for a guest image and Trustee's state").mend(mend)
    } else if bytes < GIB {
        Check::warn("disk", found, "enough to run; building guest images may fail").mend(mend)
    } else {
        Check::ok("disk", found, "enough for guest images and state")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    #[test]
    fn users_without_root_are_told_what_works() {
        assert_eq!(judge_user(true, 0).status, Status::Ok);
        let check = judge_user(false, 1000);
        assert_eq!((check.status, check.found.as_str()), (Status::Warn, "uid 1000"));
    }

    #[test]
    fn kernels_are_judged_by_version_not_by_text() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/sys/kernel")).unwrap();
        let with = |release: &str| {
            std::fs::write(root.path().join("proc/sys/kernel/osrelease"), release).unwrap();
            kernel(root.path()).status
        };
        assert_eq!(with("6.1.0-56-cloud-amd64\n"), Status::Ok);
        assert_eq!(with("5.10.1"), Status::Ok);
        assert_eq!(with("4.19.0-27"), Status::Missing);
        assert_eq!(with("weird"), Status::Ok);
        assert_eq!(with(""), Status::Warn);
    }

    #[test]
    fn memory_is_read_from_meminfo() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(memory(root.path()).status, Status::Warn);
        std::fs::create_dir(root.path().join("proc")).unwrap();
        let with = |kib: &str| {
            let text = format!("MemTotal: 1 kB\nMemAvailable:   {kib} kB\n");
            std::fs::write(root.path().join("proc/meminfo"), text).unwrap();
            memory(root.path()).status
        };
        assert_eq!(with("8000000"), Status::Ok);
        assert_eq!(with("1000000"), Status::Warn);
        assert_eq!(with("1000"), Status::Missing);
        assert_eq!(with("99999999999999999999999"), Status::Warn);
    }

    #[test]
    fn space_is_asked_of_the_nearest_folder_that_exists() {
        let dir = tempfile::tempdir().unwrap();
        let check = space(&dir.path().join("not/yet/there"));
        assert!(check.found.contains(&dir.path().display().to_string()), "{}", check.found);
        assert_eq!(judge_space(10 * MIB, dir.path()).status, Status::Missing);
        assert_eq!(judge_space(500 * MIB, dir.path()).status, Status::Warn);
    }
}
