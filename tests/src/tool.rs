//! The programs that tests use.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a program to its end; gives its standard output.
///
/// # Errors
/// Where it cannot be started or exits non-zero: with its standard error.
pub fn run<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Result<Vec<u8>> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

/// The first of these programs that is not on the PATH. A story test that needs them prints
/// `skipped: … is not installed` and returns.
pub fn missing(programs: &[&'static str]) -> Option<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    programs.iter().copied().find(|name| !there(name))
}

/// The `cocoon` program to test (`COCOON_BIN`; `make test` sets it).
pub fn cocoon_program() -> Option<PathBuf> {
    std::env::var_os("COCOON_BIN").map(PathBuf::from).filter(|p| p.is_file())
}

/// The folder of the guest image to test with (`COCOON_GUEST_IMAGE`; `make test` sets it).
pub fn guest_image() -> Option<PathBuf> {
    std::env::var_os("COCOON_GUEST_IMAGE").map(PathBuf::from).filter(|p| p.join("manifest.json").is_file())
}
