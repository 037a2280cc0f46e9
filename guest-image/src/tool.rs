//! Runs the few programs of the host that a build needs (apt-get, dpkg-deb, xz, zstd).

use std::ffi::OsStr;
use std::io;
use std::process::{Command, Stdio};

use crate::Error;

/// What is kept of a failed program's standard error.
const STDERR_TAIL: usize = 600;

/// Runs `tool` without standard input and in the C locale; gives its standard output.
///
/// Errors: [`Error::ToolMissing`] where it is not installed, [`Error::Tool`] where it exits non-zero.
pub(crate) fn run<I, A>(tool: &'static str, args: I) -> Result<Vec<u8>, Error>
where
    I: IntoIterator<Item = A>,
    A: AsRef<OsStr>,
{
    run_in(tool, args, None)
}

/// As [`run`], in the folder `dir`.
pub(crate) fn run_in<I, A>(
    tool: &'static str,
    args: I,
    dir: Option<&std::path::Path>,
) -> Result<Vec<u8>, Error>
where
    I: IntoIterator<Item = A>,
    A: AsRef<OsStr>,
{
    let mut command = Command::new(tool);
    command.args(args).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    if let Some(dir) = dir {
        command.current_dir(dir);
    }
    let output = command.output().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::ToolMissing(tool),
        _ => Error::Tool { tool, status: "could not be started".into(), stderr: e.to_string() },
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.trim();
    let skip = text.char_indices().rev().nth(STDERR_TAIL).map_or(0, |(at, _)| at);
    let stderr = text.get(skip..).unwrap_or_default().replace('\n', "; ");
    Err(Error::Tool { tool, status: output.status.to_string(), stderr })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_the_program_and_its_words() {
        let gone = run("cocoon-no-such-program", [""; 0]);
        assert!(matches!(gone, Err(Error::ToolMissing("cocoon-no-such-program"))));
        let failed = run("sh", ["-c", "echo out of luck >&2; exit 3"]).unwrap_err().to_string();
        assert!(failed.contains("out of luck") && failed.contains('3'), "{failed}");
        let long = run("sh", ["-c", "yes ä | head -c 100000 >&2; exit 1"]).unwrap_err().to_string();
        assert!(long.len() < 3 * STDERR_TAIL);
    }
}
