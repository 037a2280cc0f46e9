//! The figures of a pod's sandbox: what its VM takes of this host, in the form of this host's control groups.

use std::path::Path;

use containerd_shim_protos::cgroups::metrics as v1;
use containerd_shim_protos::cgroups_v2::metrics as v2;
use protobuf::Message;
use protobuf::well_known_types::any::Any;

use crate::cgroup::Cgroups;

/// Kernel ticks a second, of `/proc/PID/stat`: a constant of Linux's interface.
const TICKS: u64 = 100;
const PAGE: u64 = 4096;

/// What is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Figures {
    cpu_ns: u64,
    user_ns: u64,
    system_ns: u64,
    memory: u64,
    /// Pages of files that could be given up.
    inactive_file: u64,
    memory_limit: u64,
    pids: u64,
}

/// The figures as containerd's `Metrics`, version 1 or 2.
pub fn pod(cgroups: Option<&Cgroups>, pids: &[u32]) -> Any {
    let unified =
        cgroups.map_or_else(|| Path::new("/sys/fs/cgroup/cgroup.controllers").exists(), Cgroups::is_unified);
    let counted = cgroups.filter(|c| c.holds_us("memory")).and_then(|c| of_cgroups(c, unified));
    let figures = counted.unwrap_or_else(|| of_processes(pids));
    let (type_url, value) = if unified {
        ("io.containerd.cgroups.v2.Metrics", version_2(&figures).write_to_bytes())
    } else {
        ("io.containerd.cgroups.v1.Metrics", version_1(&figures).write_to_bytes())
    };
    Any { type_url: type_url.into(), value: value.unwrap_or_default(), ..Any::default() }
}

fn of_cgroups(cgroups: &Cgroups, unified: bool) -> Option<Figures> {
    let named = |text: &str, name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|v| v.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    if unified {
        let cpu = cgroups.text("", "cpu.stat")?;
        let memory = cgroups.text("", "memory.stat").unwrap_or_default();
        return Some(Figures {
            cpu_ns: named(&cpu, "usage_usec").saturating_mul(1000),
            user_ns: named(&cpu, "user_usec").saturating_mul(1000),
            system_ns: named(&cpu, "system_usec").saturating_mul(1000),
            memory: cgroups.number("", "memory.current")?,
            inactive_file: named(&memory, "inactive_file"),
            memory_limit: cgroups.number("", "memory.max").unwrap_or(u64::MAX),
            pids: cgroups.number("", "pids.current").unwrap_or(0),
        });
    }
    let memory = cgroups.text("memory", "memory.stat").unwrap_or_default();
    let shares = cgroups.text("cpuacct", "cpuacct.stat").unwrap_or_default();
    let ticks = |name| named(&shares, name).saturating_mul(1_000_000_000 / TICKS);
    Some(Figures {
        cpu_ns: cgroups.number("cpuacct", "cpuacct.usage")?,
        user_ns: ticks("user"),
        system_ns: ticks("system"),
        memory: cgroups.number("memory", "memory.usage_in_bytes")?,
        inactive_file: named(&memory, "total_inactive_file"),
        memory_limit: cgroups.number("memory", "memory.limit_in_bytes").unwrap_or(u64::MAX),
        pids: cgroups.number("pids", "pids.current").unwrap_or(0),
    })
}

/// The sum over processes, from `/proc` (proc_pid_stat(5)).
fn of_processes(pids: &[u32]) -> Figures {
    let mut sum = Figures { memory_limit: u64::MAX, ..Figures::default() };
    for pid in pids {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The name, in parentheses, may hold anything.
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // Field 3 is the first here.
        let field = |n: usize| fields.get(n - 3).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        let nanoseconds = |ticks: u64| ticks.saturating_mul(1_000_000_000 / TICKS);
        sum.user_ns += nanoseconds(field(14));
        sum.system_ns += nanoseconds(field(15));
        sum.pids += field(20);
        sum.memory += field(24).saturating_mul(PAGE);
    }
    sum.cpu_ns = sum.user_ns + sum.system_ns;
    sum
}

fn version_1(figures: &Figures) -> v1::Metrics {
    let usage = v1::CPUUsage {
        total: figures.cpu_ns,
        user: figures.user_ns,
        kernel: figures.system_ns,
        ..v1::CPUUsage::default()
    };
    let memory =
        v1::MemoryEntry { usage: figures.memory, limit: figures.memory_limit, ..v1::MemoryEntry::default() };
    v1::Metrics {
        cpu: Some(v1::CPUStat { usage: Some(usage).into(), ..v1::CPUStat::default() }).into(),
        memory: Some(v1::MemoryStat {
            usage: Some(memory).into(),
            total_inactive_file: figures.inactive_file,
            ..v1::MemoryStat::default()
        })
        .into(),
        pids: Some(v1::PidsStat { current: figures.pids, ..v1::PidsStat::default() }).into(),
        ..v1::Metrics::default()
    }
}

fn version_2(figures: &Figures) -> v2::Metrics {
    v2::Metrics {
        pids: Some(v2::PidsStat { current: figures.pids, ..v2::PidsStat::default() }).into(),
        cpu: Some(v2::CPUStat {
            usage_usec: figures.cpu_ns / 1000,
            user_usec: figures.user_ns / 1000,
            system_usec: figures.system_ns / 1000,
            ..v2::CPUStat::default()
        })
        .into(),
        memory: Some(v2::MemoryStat {
            usage: figures.memory,
            usage_limit: figures.memory_limit,
            inactive_file: figures.inactive_file,
            ..v2::MemoryStat::default()
        })
        .into(),
        ..v2::Metrics::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_summed_up_where_there_is_no_group() {
        let us = std::process::id();
        let (one, two) = (of_processes(&[us]), of_processes(&[us, us]));
        assert!(one.memory > 1 << 20 && two.memory >= one.memory * 3 / 2 && one.pids >= 1);
        assert_eq!(of_processes(&[0, u32::MAX]).memory, 0);
        let any = pod(None, &[us]);
        let memory = if any.type_url.contains("v2") {
            v2::Metrics::parse_from_bytes(&any.value).unwrap().memory.usage
        } else {
            v1::Metrics::parse_from_bytes(&any.value).unwrap().memory.usage.usage
        };
        assert!(memory > 1 << 20);
    }
}
