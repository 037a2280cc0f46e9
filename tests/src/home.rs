//! A user of the `cocoon` program with folders of their own.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Pid;
use tempfile::TempDir;

use crate::{Job, Outcome, cocoon_program, guest_image, missing};

/// Programs without which no pod VM can be run from an image made here.
const NEEDED: &[&str] = &["busybox", "docker-registry", "qemu-system-x86_64", "setpriv", "skopeo", "umoci"];

/// How long a command that boots nothing may take.
const SHORT: Duration = Duration::from_secs(60);

/// Private data, runtime and temporary folders, gone when this is dropped. Its commands see no other variable of
/// this process's environment than `PATH`.
pub struct Home {
    folder: TempDir,
    program: PathBuf,
    image: PathBuf,
}

impl Home {
    /// A new home; `None`, and the reason printed, where this machine or this call of the tests lacks something.
    ///
    /// # Errors
    /// Where the folders cannot be made.
    pub fn open() -> Result<Option<Self>> {
        if let Some(tool) = missing(NEEDED) {
            println!("skipped: {tool} is not installed");
            return Ok(None);
        }
        let (Some(program), Some(image)) = (cocoon_program(), guest_image()) else {
            println!("skipped: COCOON_BIN and COCOON_GUEST_IMAGE do not name what to test (make test does)");
            return Ok(None);
        };
        // Short names: the path of a unix socket holds 107 bytes.
        let folder = tempfile::Builder::new().prefix("ct").tempdir()?;
        for name in ["d", "r", "t"] {
            fs::create_dir(folder.path().join(name))?;
        }
        fs::write(folder.path().join("auth.json"), "{}")?;
        Ok(Some(Home { folder, program: fs::canonicalize(program)?, image: fs::canonicalize(image)? }))
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("d")
    }

    /// The folder in which each run makes its own runtime folder.
    pub fn run_folder(&self) -> PathBuf {
        self.folder.path().join("r")
    }

    /// A path for the user's own files: outside of the data, runtime and temporary folders.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The guest image that runs of this home boot.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// `cocoon` with these arguments, not started. It dies with the thread that starts it.
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.program)
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("TMPDIR", self.folder.path().join("t"))
            .env("COCOON_DATA_DIR", self.data())
            .env("COCOON_GUEST_IMAGE", &self.image)
            .env("XDG_RUNTIME_DIR", self.run_folder())
            .env("REGISTRY_AUTH_FILE", self.folder.path().join("auth.json"))
            .stdin(Stdio::null());
        command
    }

    /// Runs a command that boots no VM to its end.
    ///
    /// # Errors
    /// Where it cannot be started or takes longer than a minute.
    pub fn cocoon<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Outcome> {
        Job::start(self.command(args))?.finish(SHORT)
    }

    /// [`Home::cocoon`] for commands that must succeed; gives their standard output.
    ///
    /// # Errors
    /// Where it does not succeed: with its standard error.
    pub fn succeed<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<String> {
        let outcome = self.cocoon(args)?;
        match outcome.status {
            Some(0) => Ok(outcome.text()),
            status => bail!("status {status:?}: {}", outcome.stderr),
        }
    }

    /// `cocoon run --accel tcg` with these arguments, not started.
    pub fn run_command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.command(["run", "--accel", "tcg"]);
        command.args(args);
        command
    }

    /// Runs `cocoon run --accel tcg …` to its end. Waits for a turn: few VMs run at once.
    ///
    /// # Errors
    /// Where it cannot be started or takes longer than five minutes.
    pub fn run_vm<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Outcome> {
        Job::start_vm(self.run_command(args))?.finish(crate::VM_LIMIT)
    }

    /// The QEMU processes that work in the runtime folder.
    pub fn vms(&self) -> Vec<Pid> {
        let mark = self.run_folder().into_os_string().into_encoded_bytes();
        processes().into_iter().filter(|(_, line)| contains(line, &mark)).map(|(pid, _)| pid).collect()
    }

    /// The files without a name that a process holds open, as paths that open them while it lives.
    ///
    /// # Errors
    /// Where the process is gone.
    pub fn unnamed_files(pid: Pid) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero()))?.flatten() {
            let unnamed = fs::metadata(entry.path())
                .is_ok_and(|m| m.is_file() && std::os::unix::fs::MetadataExt::nlink(&m) == 0);
            // Not memory that merely has a descriptor.
            let memory =
                fs::read_link(entry.path()).is_ok_and(|l| l.to_string_lossy().starts_with("/memfd:"));
            if unnamed && !memory {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    /// Waits until there is a VM; gives its process.
    ///
    /// # Errors
    /// Where there is none within the limit.
    pub fn wait_for_vm(&self, limit: Duration) -> Result<Pid> {
        let mut found = None;
        let appears = || {
            found = self.vms().first().copied();
            found.is_some()
        };
        wait_until(limit, appears);
        found.context("no QEMU appeared")
    }

    /// Says what runs leave behind, if it is still there after `limit`: processes, mounts, runtime and temporary
    /// files, registered workloads.
    ///
    /// # Errors
    /// Where this cannot be found out.
    pub fn left(&self, limit: Duration) -> Result<Vec<String>> {
        wait_until(limit, || self.remains().is_empty());
        let mut left = self.remains();
        let workloads = self.succeed(["workload", "list"])?;
        if workloads.trim() != "[]" {
            left.push(format!("registered workloads: {workloads}"));
        }
        Ok(left)
    }

    fn remains(&self) -> Vec<String> {
        let mut left: Vec<String> = self.vms().iter().map(|pid| format!("process {pid:?}")).collect();
        for folder in [self.run_folder(), self.folder.path().join("t")] {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path().display().to_string()));
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let here = self.folder.path().display().to_string();
        left.extend(mounts.lines().filter(|l| l.contains(&here)).map(str::to_owned));
        left
    }

    /// The files under the data, runtime and temporary folders that hold this text, as it is, as base64 or as
    /// hexadecimal digits.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn files_with(&self, text: &str) -> Result<Vec<PathBuf>> {
        use base64::Engine;
        let base64 = base64::engine::general_purpose::STANDARD_NO_PAD.encode(text);
        let forms = [text.to_owned(), base64, hex::encode(text)];
        let mut found = Vec::new();
        let mut folders = vec![self.data(), self.run_folder(), self.folder.path().join("t")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let (path, kind) = entry.map(|e| (e.path(), e.file_type()))?;
                let kind = kind?;
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() {
                    let bytes = fs::read(&path)?;
                    if forms.iter().any(|form| contains(&bytes, form.as_bytes())) {
                        found.push(path);
                    }
                }
            }
        }
        Ok(found)
    }
}

/// Looks every 20 ms whether it is so, until it is or the limit is over; whether it is.
pub fn wait_until(limit: Duration, mut so: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if so() {
            return true;
        }
        if began.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty() && haystack.windows(needle.len()).any(|w| w == needle)
}

/// QEMU processes with their command lines; those that ended meanwhile are passed over.
fn processes() -> Vec<(Pid, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse().ok()).and_then(Pid::from_raw) else { continue };
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.starts_with("qemu")
            && let Ok(line) = fs::read(entry.path().join("cmdline"))
        {
            found.push((pid, line));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_or_leaked_is_found() {
        let Some(home) = Home::open().unwrap() else { return };
        assert!(home.remains().is_empty());
        fs::create_dir(home.run_folder().join("cocoon-1")).unwrap();
        assert_eq!(home.remains().len(), 1);
        fs::write(home.run_folder().join("cocoon-1/x"), "..aHVudGVyMg..").unwrap();
        fs::write(home.data().join("y"), "a hunter2").unwrap();
        fs::write(home.data().join("z"), "68756e74657232").unwrap();
        fs::write(home.file("the-owners-own"), "hunter2").unwrap();
        assert_eq!(home.files_with("hunter2").unwrap().len(), 3);
        assert!(home.files_with("hunter3").unwrap().is_empty());
    }

    #[test]
    fn waiting_ends() {
        assert!(!wait_until(Duration::from_millis(30), || false));
        assert!(wait_until(Duration::ZERO, || true));
    }
}
