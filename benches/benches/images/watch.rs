//! Children, timed and watched for their memory and processor time.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What a run took.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Wall time.
    pub seconds: f64,
    /// Processor time of all processes involved but the registry, user's and system's.
    pub processor: f64,
    /// Most resident memory of any process involved, in KiB.
    pub peak_kib: u64,
    /// Most anonymous memory of any process involved, as far as looks every 5 ms saw it, in KiB: heap and stacks,
    /// those of C libraries included, but no program text.
    pub anonymous_kib: u64,
    /// What it wrote.
    pub output: String,
}

impl Run {
    /// One after the other.
    pub fn then(self, next: Run) -> Run {
        Run {
            seconds: self.seconds + next.seconds,
            processor: self.processor + next.processor,
            peak_kib: self.peak_kib.max(next.peak_kib),
            anonymous_kib: self.anonymous_kib.max(next.anonymous_kib),
            output: next.output,
        }
    }
}

/// A line of a process's `status`, in KiB; 0 where it has ended.
fn status_kib(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix(name));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// The peak resident memory (`VmHWM`) of a process and its anonymous memory (`RssAnon`), in KiB.
pub fn memory_kib(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    (status_kib(&status, "VmHWM:"), status_kib(&status, "RssAnon:"))
}

/// The processor time of a process and of the children that it waited for, in seconds; 0 where it has ended.
pub fn processor(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold anything; what follows the last parenthesis is numbers. Ticks are 10 ms on every Linux.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(4);
    fields.filter_map(|f| f.parse::<f64>().ok()).sum::<f64>() / 100.0
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
    let mut run = Run::default();
    // The peak and the time only rise, so the last look before the end is good enough.
    let status = loop {
        let (peak, anonymous) = memory_kib(pid);
        run.peak_kib = run.peak_kib.max(peak);
        run.anonymous_kib = run.anonymous_kib.max(anonymous);
        run.processor = run.processor.max(processor(pid));
        match child.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    run.seconds = began.elapsed().as_secs_f64();
    run.output = std::fs::read_to_string(log.path())?;
    if !status.success() {
        bail!("{command:?} ended with {status}: {}", run.output.trim());
    }
    Ok(run)
}

/// The run of middle length.
pub fn median(runs: &[Run]) -> Option<&Run> {
    let mut sorted: Vec<&Run> = runs.iter().collect();
    sorted.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    sorted.get(sorted.len() / 2).copied()
}

/// The longest and the shortest time.
pub fn range(runs: &[Run]) -> (f64, f64) {
    let seconds = || runs.iter().map(|r| r.seconds);
    (seconds().fold(0.0, f64::max), seconds().fold(f64::INFINITY, f64::min))
}
