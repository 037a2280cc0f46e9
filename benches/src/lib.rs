//! Shared by the benches: medians, children that are watched for their first byte, and images to pull.
//!
//! Contract: measurements only. A bench prints figures and ratios and asserts none of them; it fails only where what
//! it measures does not work.

pub mod bare;
pub mod content;
pub mod push;

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The middle of the values.
pub fn median(values: &[Duration]) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// `min / median / max` in milliseconds.
pub fn spread(values: &[Duration]) -> String {
    let (min, max) = (values.iter().min(), values.iter().max());
    let ms = |d: Option<&Duration>| d.map_or(0, Duration::as_millis);
    format!("{} / {} / {} ms (min / median / max)", ms(min), median(values).as_millis(), ms(max))
}

/// The machine's load averages of 1, 5 and 15 minutes, and how many processors it has: what else ran beside a bench.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let averages: Vec<&str> = text.split_whitespace().take(3).collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("load average {} on {cores} cores", averages.join(" "))
}

/// Where benches put images: `COCOON_BENCH_DIR`, else the folder for temporary files.
pub fn place() -> PathBuf {
    std::env::var_os("COCOON_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

/// A child that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a child said, and when.
pub struct FirstOutput {
    /// From its start until the mark.
    pub after: Duration,
    /// Everything on its standard error.
    pub errors: String,
}

/// Starts the command and gives the time until `mark` appears on its standard output; then waits for its end.
///
/// # Errors
/// Where it cannot be started or ends without the mark.
pub fn time_to_output(command: &mut Command, mark: &[u8]) -> Result<Duration> {
    first_output(command, mark).map(|first| first.after)
}

/// As [`time_to_output`], with what the command wrote to its standard error.
///
/// # Errors
/// Where it cannot be started or ends without the mark.
pub fn first_output(command: &mut Command, mark: &[u8]) -> Result<FirstOutput> {
    let began = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = Killed(child.with_context(|| format!("{command:?}"))?);
    let mut output = child.0.stdout.take().context("no standard output")?;
    let mut errors = child.0.stderr.take().context("no standard error")?;
    let words = std::thread::spawn(move || {
        let mut words = Vec::new();
        // What was said until it broke off is what is wanted.
        let _ = errors.read_to_end(&mut words);
        String::from_utf8_lossy(&words).into_owned()
    });
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    let after = loop {
        let n = output.read(&mut buffer)?;
        if n == 0 {
            let words = words.join().unwrap_or_default();
            bail!("{command:?} ended without {:?}: {words}", String::from_utf8_lossy(mark));
        }
        seen.extend_from_slice(buffer.get(..n).unwrap_or_default());
        if seen.windows(mark.len()).any(|w| w == mark) {
            break began.elapsed();
        }
    };
    std::io::copy(&mut output, &mut std::io::sink())?;
    child.0.wait()?;
    Ok(FirstOutput { after, errors: words.join().unwrap_or_default() })
}
