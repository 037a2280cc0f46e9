//! A container's cgroup (unified hierarchy): limits that the host may set, and figures that it may read.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use containerd_shim_protos::cgroups_v2::metrics::{CPUStat, MemoryEvents, MemoryStat, Metrics, PidsStat};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;

use super::oom::Changes;
use crate::Error;

/// Limits as the OCI runtime-spec's `LinuxResources` has them; what is not here is ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Resources {
    memory: Option<Memory>,
    cpu: Option<Cpu>,
    pids: Option<Pids>,
    unified: Option<Unified>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Memory {
    limit: Option<i64>,
    /// Of memory and swap together.
    swap: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Cpu {
    shares: Option<u64>,
    quota: Option<i64>,
    period: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Pids {
    limit: Option<i64>,
}

/// Files of the unified hierarchy by name: of them one that kubelet sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Unified {
    /// Whether all of a container goes when one of its processes is killed for memory: `0` or `1`.
    #[serde(rename = "memory.oom.group")]
    oom_group: Option<String>,
}

/// Longest `LinuxResources` document, in bytes.
const MAX_RESOURCES: usize = 64 * 1024;

impl Resources {
    /// Reads the JSON document of an update request.
    ///
    /// # Errors
    /// [`Error::Refused`] for what is not one.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        if json.len() > MAX_RESOURCES {
            return Err(Error::Refused("the resources document is larger than 64 KiB".into()));
        }
        serde_json::from_slice(json).map_err(|e| Error::Refused(format!("resources are malformed: {e}")))
    }

    /// The files to write and their contents.
    fn settings(&self) -> Vec<(&'static str, String)> {
        let limit = |n: i64| if n < 0 { "max".to_owned() } else { n.to_string() };
        let mut settings = Vec::new();
        if let Some(memory) = &self.memory {
            if let Some(n) = memory.limit {
                settings.push(("memory.max", limit(n)));
            }
            match (memory.swap, memory.limit) {
                (Some(both), _) if both < 0 => settings.push((SWAP, "max".to_owned())),
                (Some(both), Some(n)) if n > 0 => {
                    settings.push((SWAP, both.saturating_sub(n).max(0).to_string()))
                }
                // Without a limit of memory alone there is no telling what is left for swap.
                _ => {}
            }
        }
        let oom_group = self.unified.as_ref().and_then(|u| u.oom_group.as_deref());
        if let Some(value @ ("0" | "1")) = oom_group {
            settings.push(("memory.oom.group", value.to_owned()));
        }
        if let Some(n) = self.pids.as_ref().and_then(|p| p.limit) {
            // 0 means "no limit" in the runtime-spec.
            settings.push(("pids.max", if n == 0 { "max".to_owned() } else { limit(n) }));
        }
        if let Some(cpu) = &self.cpu {
            if cpu.quota.is_some() || cpu.period.is_some() {
                let quota = cpu.quota.filter(|q| *q > 0).map_or("max".to_owned(), |q| q.to_string());
                settings.push(("cpu.max", format!("{quota} {}", cpu.period.unwrap_or(100_000))));
            }
            if let Some(shares) = cpu.shares.filter(|s| *s > 0) {
                // 2..=262144 shares are 1..=10000 weight; the conversion of the runtime-spec's cgroup v2 text.
                let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
                settings.push(("cpu.weight", weight.to_string()));
            }
        }
        settings
    }
}

/// The file of a limit of swap space; not there where the kernel has none.
const SWAP: &str = "memory.swap.max";

/// A container's cgroup; removed when dropped, by which time its processes must be gone.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    handle: File,
}

impl Cgroup {
    /// Makes a cgroup below `root`.
    ///
    /// # Errors
    /// [`Error::Container`].
    pub(crate) fn create(root: &Path, name: &str) -> Result<Self, Error> {
        // Container names may hold dots; a prefix keeps them apart from the hierarchy's own files.
        let path = root.join(format!("container-{name}"));
        fs::create_dir(&path).map_err(Error::container("make a cgroup"))?;
        let handle = File::open(&path).map_err(Error::container("open the cgroup"))?;
        Ok(Cgroup { path, handle })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// Sets limits.
    ///
    /// # Errors
    /// [`Error::Resources`] where the kernel refuses one.
    pub(crate) fn set(&self, resources: &Resources) -> Result<(), Error> {
        for (file, value) in resources.settings() {
            let written = match fs::write(self.path.join(file), &value) {
                Err(e) if e.kind() == io::ErrorKind::NotFound && file == SWAP => Ok(()),
                done => done,
            };
            written.map_err(|e| Error::Resources(format!("set {file} to {value}: {e}")))?;
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Kills all its processes, those that are being made included.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn kill(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.kill"), "1")
    }

    /// Sends a signal to all its processes.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn signal(&self, number: u32) -> io::Result<()> {
        let number = i32::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
        let raw = |pid: u32| i32::try_from(pid).ok().and_then(Pid::from_raw);
        let open = |pid: u32| pidfd_open(raw(pid)?, PidfdFlags::empty()).ok().map(|fd| (pid, fd));
        let opened: Vec<_> = self.pids().into_iter().filter_map(open).collect();
        // An id may have become another process's between the list and its opening; not so if it is in the list still.
        let still = self.pids();
        for (_, pidfd) in opened.iter().filter(|(pid, _)| still.contains(pid)) {
            match crate::syscalls::pidfd_signal(pidfd.as_fd(), number) {
                Err(e) if e.raw_os_error() != Some(libc::ESRCH) => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits until no process is left in it.
    pub(crate) async fn emptied(&self) {
        self.while_it_says("populated 1").await;
    }

    /// Has its processes stand still, and waits until all do; or go on. One that stands still can be killed.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) async fn freeze(&self, still: bool) -> io::Result<()> {
        fs::write(self.path.join("cgroup.freeze"), if still { "1" } else { "0" })?;
        if still {
            self.while_it_says("frozen 0").await;
        }
        Ok(())
    }

    /// Whether its processes are to stand still.
    pub(crate) fn is_frozen(&self) -> bool {
        fs::read_to_string(self.path.join("cgroup.freeze")).is_ok_and(|text| text.trim() == "1")
    }

    /// Waits as long as this is among what the kernel says of it.
    async fn while_it_says(&self, line: &str) {
        let file = self.path.join("cgroup.events");
        let says = || fs::read_to_string(&file).is_ok_and(|t| t.lines().any(|l| l == line));
        let Ok(changes) = Changes::of(&file) else { return };
        while says() && changes.next().await.is_ok() {}
    }

    /// The container's processes, by their ids in the guest.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|l| l.parse().ok()).collect()
    }

    /// Figures in containerd's form.
    pub(crate) fn metrics(&self) -> Metrics {
        let read = |file: &str| fs::read_to_string(self.path.join(file)).unwrap_or_default();
        let one = |file: &str| number(read(file).trim());
        let mut metrics = Metrics::new();
        let pids = PidsStat { current: one("pids.current"), limit: one("pids.max"), ..PidsStat::default() };
        metrics.pids = Some(pids).into();
        metrics.cpu = Some(cpu_stat(&read("cpu.stat"))).into();
        let mut memory = memory_stat(&read("memory.stat"));
        memory.usage = one("memory.current");
        memory.usage_limit = one("memory.max");
        memory.max_usage = one("memory.peak");
        metrics.memory = Some(memory).into();
        metrics.memory_events = Some(memory_events(&read("memory.events"))).into();
        metrics
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir(&self.path) {
            tracing::warn!("cgroup not removed: {e}");
        }
    }
}

/// A figure; `max` is the largest number, as containerd has it.
fn number(text: &str) -> u64 {
    if text == "max" { u64::MAX } else { text.parse().unwrap_or(0) }
}

fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| line.split_once(' ')).map(|(key, value)| (key, number(value)))
}

fn cpu_stat(text: &str) -> CPUStat {
    let mut stat = CPUStat::new();
    for (key, value) in pairs(text) {
        match key {
            "usage_usec" => stat.usage_usec = value,
            "user_usec" => stat.user_usec = value,
            "system_usec" => stat.system_usec = value,
            "nr_periods" => stat.nr_periods = value,
            "nr_throttled" => stat.nr_throttled = value,
            "throttled_usec" => stat.throttled_usec = value,
            _ => {}
        }
    }
    stat
}

fn memory_stat(text: &str) -> MemoryStat {
    let mut stat = MemoryStat::new();
    for (key, value) in pairs(text) {
        match key {
            "anon" => stat.anon = value,
            "file" => stat.file = value,
            "kernel_stack" => stat.kernel_stack = value,
            "slab" => stat.slab = value,
            "sock" => stat.sock = value,
            "shmem" => stat.shmem = value,
            "file_mapped" => stat.file_mapped = value,
            "file_dirty" => stat.file_dirty = value,
            "inactive_anon" => stat.inactive_anon = value,
            "active_anon" => stat.active_anon = value,
            "inactive_file" => stat.inactive_file = value,
            "active_file" => stat.active_file = value,
            "unevictable" => stat.unevictable = value,
            "slab_reclaimable" => stat.slab_reclaimable = value,
            "slab_unreclaimable" => stat.slab_unreclaimable = value,
            "pgfault" => stat.pgfault = value,
            "pgmajfault" => stat.pgmajfault = value,
            _ => {}
        }
    }
    stat
}

fn memory_events(text: &str) -> MemoryEvents {
    let mut events = MemoryEvents::new();
    for (key, value) in pairs(text) {
        match key {
            "low" => events.low = value,
            "high" => events.high = value,
            "max" => events.max = value,
            "oom" => events.oom = value,
            "oom_kill" => events.oom_kill = value,
            _ => {}
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_become_cgroup_files() {
        let json =
            br#"{"memory":{"limit":1048576,"swap":-1},"cpu":{"shares":1024,"quota":50000,"period":100000},
            "pids":{"limit":-1},"unified":{"x":"y"},"devices":[]}"#;
        let settings = Resources::parse(json).unwrap().settings();
        assert_eq!(
            settings,
            [
                ("memory.max", "1048576".to_owned()),
                ("memory.swap.max", "max".to_owned()),
                ("pids.max", "max".to_owned()),
                ("cpu.max", "50000 100000".to_owned()),
                ("cpu.weight", "39".to_owned()),
            ]
        );
        assert!(Resources::parse(b"{}").unwrap().settings().is_empty());
        let unlimited =
            Resources::parse(br#"{"cpu":{"quota":-1},"memory":{"limit":-1}}"#).unwrap().settings();
        assert_eq!(unlimited, [("memory.max", "max".to_owned()), ("cpu.max", "max 100000".to_owned())]);
    }

    #[test]
    fn malformed_resources_are_refused() {
        for bad in [&b"{"[..], b"[]x", br#"{"memory":{"limit":"all"}}"#, br#"{"cpu":{"shares":-3}}"#] {
            assert!(Resources::parse(bad).is_err());
        }
        assert!(Resources::parse(&vec![b' '; MAX_RESOURCES + 1]).is_err());
    }

    #[test]
    fn figures_are_read_leniently() {
        let stat = cpu_stat("usage_usec 12\nuser_usec 7\nbroken\nnew_thing 5\nsystem_usec x\n");
        assert_eq!((stat.usage_usec, stat.user_usec, stat.system_usec), (12, 7, 0));
        assert_eq!(memory_stat("anon 5\nfile max\n").file, u64::MAX);
    }
}
