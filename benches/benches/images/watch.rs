//! Children, timed and watched for their peak memory.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What a run took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// Wall time.
    pub seconds: f64,
    /// Most resident memory of any process involved, in KiB.
    pub peak_kib: u64,
}

impl Run {
    /// One after the other.
    pub fn then(self, next: Run) -> Run {
        Run { seconds: self.seconds + next.seconds, peak_kib: self.peak_kib.max(next.peak_kib) }
    }
}

/// The peak resident memory of a process (`VmHWM`), in KiB; 0 where it has ended.
pub fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// Runs a command to its end.
///
/// # Errors
/// Where it cannot be started or fails, with what it said.
pub fn run(command: &mut Command) -> Result<Run> {
    let log = tempfile::NamedTempFile::new()?;
    let began = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log.reopen()?)
        .stderr(log.reopen()?)
        .spawn()
        .with_context(|| format!("{command:?}"))?;
    let pid = child.id();
    let mut peak = 0;
    // The counter only rises, so the last look before the end is good enough.
    let status = loop {
        peak = peak.max(peak_kib(pid));
        match child.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let seconds = began.elapsed().as_secs_f64();
    if !status.success() {
        bail!("{command:?} ended with {status}: {}", std::fs::read_to_string(log.path())?.trim());
    }
    Ok(Run { seconds, peak_kib: peak })
}

/// The run of middle length.
pub fn median(runs: &[Run]) -> Option<Run> {
    let mut sorted = runs.to_vec();
    sorted.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    sorted.get(sorted.len() / 2).copied()
}

/// The longest and the shortest time.
pub fn range(runs: &[Run]) -> (f64, f64) {
    let seconds = || runs.iter().map(|r| r.seconds);
    (seconds().fold(0.0, f64::max), seconds().fold(f64::INFINITY, f64::min))
}
