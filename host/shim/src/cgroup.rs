//! The pod's control groups: this process and QEMU belong into them, so that what the pod takes counts as the pod's.
//!
//! Best effort: a node where that is not allowed runs its pods all the same, and their figures come from `/proc`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// The controllers of version 1 that count or bound something of a pod.
const CONTROLLERS: [&str; 8] = ["cpu", "cpuacct", "memory", "pids", "blkio", "cpuset", "devices", "freezer"];

/// Between two looks at a group that is not empty yet.
const PAUSE: Duration = Duration::from_millis(50);

/// The control groups of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroups {
    /// The pod's folders: of version 2 one, of version 1 one for each controller.
    folders: Vec<PathBuf>,
    /// Where the hierarchies begin.
    root: PathBuf,
    /// Whether it is the unified hierarchy.
    unified: bool,
}

impl Cgroups {
    /// Those of a specification's `cgroupsPath`: a path, or `SLICE:PREFIX:NAME` as systemd has them. `None` for neither.
    pub fn of(cgroups_path: &str) -> Option<Cgroups> {
        Cgroups::at(Path::new(ROOT), cgroups_path)
    }

    fn at(root: &Path, cgroups_path: &str) -> Option<Cgroups> {
        let relative = relative(cgroups_path)?;
        let unified = root.join("cgroup.controllers").exists();
        let folders = if unified {
            vec![root.join(&relative)]
        } else {
            let mounted =
                CONTROLLERS.iter().map(|c| root.join(c)).filter(|c| c.join("cgroup.procs").exists());
            mounted.map(|controller| controller.join(&relative)).collect()
        };
        Some(Cgroups { folders, root: root.to_owned(), unified })
    }

    /// Moves this process, and with it those that it is going to start, into the groups; makes them where needed.
    pub fn enter(&self) {
        let pid = std::process::id().to_string();
        for folder in &self.folders {
            let entered = std::fs::create_dir_all(folder)
                .and_then(|()| inherit(&self.root, folder))
                .and_then(|()| std::fs::write(folder.join("cgroup.procs"), &pid));
            if let Err(error) = entered {
                tracing::info!(folder = %folder.display(), %error, "not in the pod's control group");
            }
        }
    }

    /// Moves this process out again and removes the groups, where nobody else is in them.
    pub fn leave(&self) {
        let pid = std::process::id().to_string();
        for folder in &self.folders {
            let top = folder.strip_prefix(&self.root).ok().and_then(|f| f.components().next());
            let top = match top {
                Some(controller) if !self.unified => self.root.join(controller),
                _ => self.root.clone(),
            };
            let _ = std::fs::write(top.join("cgroup.procs"), &pid);
        }
        self.remove();
    }

    /// Removes the groups, where nobody is in them.
    pub fn remove(&self) {
        for folder in &self.folders {
            let _ = std::fs::remove_dir(folder);
        }
    }

    /// Removes the groups, and waits for those who are still leaving them: a process that was killed is in its group until the
    /// kernel has taken it apart, and it tells nobody of that.
    pub fn remove_within(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let busy = |folder: &&PathBuf| {
            std::fs::remove_dir(folder).is_err_and(|e| e.kind() == io::ErrorKind::ResourceBusy)
        };
        let mut left: Vec<&PathBuf> = self.folders.iter().filter(busy).collect();
        while !left.is_empty() && Instant::now() < until {
            std::thread::sleep(PAUSE);
            left.retain(busy);
        }
    }

    /// Whether it is the unified hierarchy.
    pub fn is_unified(&self) -> bool {
        self.unified
    }

    /// A file of one of the groups, as text.
    pub fn text(&self, controller: &str, file: &str) -> Option<String> {
        let folder = if self.unified {
            self.folders.first()
        } else {
            let top = self.root.join(controller);
            self.folders.iter().find(|f| f.starts_with(&top))
        };
        std::fs::read_to_string(folder?.join(file)).ok()
    }

    /// A number in a file of one of the groups.
    pub fn number(&self, controller: &str, file: &str) -> Option<u64> {
        self.text(controller, file)?.trim().parse().ok()
    }

    /// Whether this process is in the group of that controller.
    pub fn holds_us(&self, controller: &str) -> bool {
        let pid = std::process::id().to_string();
        self.text(controller, "cgroup.procs").is_some_and(|pids| pids.lines().any(|line| line == pid))
    }
}

/// A cpuset of version 1 takes nobody before it has CPUs and memory nodes of its own: those of the group above.
fn inherit(root: &Path, folder: &Path) -> io::Result<()> {
    let cpuset = root.join("cpuset");
    let Ok(below) = folder.strip_prefix(&cpuset) else { return Ok(()) };
    let mut at = cpuset;
    for name in below {
        let next = at.join(name);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if std::fs::read_to_string(next.join(file))?.trim().is_empty() {
                std::fs::write(next.join(file), std::fs::read_to_string(at.join(file))?)?;
            }
        }
        at = next;
    }
    Ok(())
}

/// The path below the hierarchies' beginnings.
fn relative(cgroups_path: &str) -> Option<PathBuf> {
    let parts: Vec<&str> = cgroups_path.split(':').collect();
    let path = match parts.as_slice() {
        [slice, prefix, name] => {
            let scope =
                if name.ends_with(".slice") { (*name).to_owned() } else { format!("{prefix}-{name}.scope") };
            expanded(slice)?.join(scope)
        }
        [path] => PathBuf::from(path.trim_start_matches('/')),
        _ => return None,
    };
    let plain = path.components().all(|c| matches!(c, std::path::Component::Normal(_)));
    (plain && !path.as_os_str().is_empty()).then_some(path)
}

/// `a-b.slice` is in `a.slice` (systemd.slice(5)).
fn expanded(slice: &str) -> Option<PathBuf> {
    let name = slice.strip_suffix(".slice")?;
    let (mut path, mut so_far) = (PathBuf::new(), String::new());
    for part in name.split('-').filter(|p| !p.is_empty()) {
        if !so_far.is_empty() {
            so_far.push('-');
        }
        so_far.push_str(part);
        path.push(format!("{so_far}.slice"));
    }
    Some(path)
}

/// Says how gladly the kernel is to kill a process where memory is short. Lowering needs rights that we may not have.
pub fn set_oom_score(pid: u32, score: i32) {
    let score = score.clamp(-1000, 1000);
    if let Err(error) = std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()) {
        tracing::debug!(pid, score, %error, "the kernel's choice where memory is short stays as it is");
    }
}

/// That of a process.
pub fn oom_score(pid: u32) -> Option<i32> {
    std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_both_drivers() {
        let path = |text| relative(text).map(|p| p.display().to_string());
        assert_eq!(path("/kubepods/pod1/c1").as_deref(), Some("kubepods/pod1/c1"));
        let systemd = "kubepods-burstable-pod1.slice:cri-containerd:c1";
        let expected =
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-c1.scope";
        assert_eq!(path(systemd).as_deref(), Some(expected));
        for bad in ["", "/", "/a/../../b", "a:b", "x:y:z", "../a"] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_version_has_its_folders() {
        let root = tempfile::tempdir().unwrap();
        for controller in ["memory", "cpuset"] {
            std::fs::create_dir(root.path().join(controller)).unwrap();
            std::fs::write(root.path().join(controller).join("cgroup.procs"), "").unwrap();
        }
        let one = Cgroups::at(root.path(), "/p/c").unwrap();
        assert_eq!(one.folders, [root.path().join("memory/p/c"), root.path().join("cpuset/p/c")]);
        std::fs::write(root.path().join("cgroup.controllers"), "memory").unwrap();
        let two = Cgroups::at(root.path(), "/p/c").unwrap();
        assert_eq!(two.folders, [root.path().join("p/c")]);
        // Not the kernel's: a process number is written and read back all the same.
        two.enter();
        assert!(two.holds_us("memory"));
        std::fs::remove_file(root.path().join("p/c/cgroup.procs")).unwrap();
        two.leave();
        assert!(!root.path().join("p/c").exists());
    }
    #[test]
    fn a_group_that_is_left_soon_is_removed() {
        let root = Path::new(ROOT);
        let place = format!("cocoon-test-{}", std::process::id());
        let Some(groups) = Cgroups::at(root, &place) else { return println!("skipped: no control groups") };
        if groups.folders.iter().any(|folder| std::fs::create_dir(folder).is_err()) {
            groups.remove();
            return println!("skipped: control groups cannot be made here");
        }
        let mut child = std::process::Command::new("sleep").arg("0.3").spawn().unwrap();
        for folder in &groups.folders {
            let _ = inherit(root, folder);
            std::fs::write(folder.join("cgroup.procs"), child.id().to_string()).unwrap();
        }
        let reaper = std::thread::spawn(move || child.wait());
        groups.remove_within(Duration::from_secs(10));
        assert!(groups.folders.iter().all(|folder| !folder.exists()));
        reaper.join().unwrap().unwrap();
    }
}
