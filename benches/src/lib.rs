//! Shared by the benches: medians, and children that are watched for their first byte.
//!
//! Contract: measurements only. A bench prints figures and ratios and asserts none of them; it fails only where what
//! it measures does not work.

use std::io::Read;
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

/// A child that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the command and gives the time until `mark` appears on its standard output; then waits for its end.
///
/// # Errors
/// Where it cannot be started or ends without the mark.
pub fn time_to_output(command: &mut Command, mark: &[u8]) -> Result<Duration> {
    let began = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = Killed(child.with_context(|| format!("{command:?}"))?);
    let mut output = child.0.stdout.take().context("no standard output")?;
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    let taken = loop {
        let n = output.read(&mut buffer)?;
        if n == 0 {
            let mut words = String::new();
            if let Some(mut errors) = child.0.stderr.take() {
                errors.read_to_string(&mut words)?;
            }
            bail!("{command:?} ended without {:?}: {words}", String::from_utf8_lossy(mark));
        }
        seen.extend_from_slice(buffer.get(..n).unwrap_or_default());
        if seen.windows(mark.len()).any(|w| w == mark) {
            break began.elapsed();
        }
    };
    std::io::copy(&mut output, &mut std::io::sink())?;
    child.0.wait()?;
    Ok(taken)
}
