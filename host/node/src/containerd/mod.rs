//! containerd as it is on this node: its program, its version, and what its configuration comes to.
//!
//! What a configuration file *means* is asked of containerd itself (`containerd --config FILE config dump`), never worked out
//! here: each version merges files by rules of its own.

mod effective;
mod tables;
mod version;

pub mod main_file;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cocoon_stage::{Code, Failure};

use crate::program::{Output, run};

pub use effective::{Effective, Scope};
pub(crate) use tables::text;
pub use tables::{
    CONTAINER_ANNOTATIONS, POD_ANNOTATIONS, RUNTIME_TYPE, Runtime, SNAPSHOTTER, SNAPSHOTTER_SOCKET, Wanted,
    plugin, render, unpacking,
};
pub use version::{Dialect, Version};

/// Where containerd looks for its configuration unless told.
pub const CONFIG: &str = "/etc/containerd/config.toml";
/// The longest that a question to containerd may take.
const LIMIT: Duration = Duration::from_secs(30);

/// containerd's program.
#[derive(Clone, Debug)]
pub struct Containerd {
    program: PathBuf,
    version: Version,
}

impl Containerd {
    /// Finds the program (`given`, else on the PATH and in the usual places) and runs it for its version.
    ///
    /// # Errors
    /// `NODE-CONTAINERD-UNUSABLE`.
    pub fn find(given: Option<&Path>) -> Result<Self, Failure> {
        let unusable = |reason: String| Failure::new(Code::NodeContainerdUnusable, reason);
        let program = match given {
            Some(path) => path.to_path_buf(),
            None => look().ok_or_else(|| unusable("there is no containerd on the PATH".into()))?,
        };
        let output = run(Command::new(&program).arg("--version"), LIMIT)
            .map_err(|e| unusable(format!("{}: {e}", program.display())))?;
        if !output.success {
            return Err(unusable(format!("{} --version: {}", program.display(), output.complaint())));
        }
        let version = Version::parse(&output.stdout).ok_or_else(|| {
            unusable(format!("{} says no version: {}", program.display(), output.stdout.trim()))
        })?;
        Ok(Containerd { program, version })
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its version.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// How this version writes and merges configuration.
    ///
    /// # Errors
    /// `NODE-CONTAINERD-UNUSABLE` for versions before 1.6 and after 2.
    pub fn dialect(&self) -> Result<Dialect, Failure> {
        self.version.dialect().ok_or_else(|| {
            let reason = format!("{} is containerd {}", self.program.display(), self.version);
            Failure::new(Code::NodeContainerdUnusable, reason)
        })
    }

    /// The effective configuration that `config` comes to; where it does not exist, containerd's defaults.
    ///
    /// # Errors
    /// What containerd said against it.
    pub fn effective(&self, config: &Path) -> Result<Effective, String> {
        let mut command = Command::new(&self.program);
        if config.exists() {
            command.arg("--config").arg(config).args(["config", "dump"]);
        } else {
            command.args(["config", "default"]);
        }
        let output = run(&mut command, LIMIT).map_err(|e| format!("{}: {e}", self.program.display()))?;
        if !output.success {
            return Err(output.complaint());
        }
        Effective::parse(&output.stdout)
    }

    /// Asks the containerd that listens on `address` for its version, by the `ctr` beside this program or on the PATH.
    ///
    /// # Errors
    /// What `ctr` said.
    pub fn answers(&self, address: &str) -> Result<(), String> {
        let beside = self.program.with_file_name("ctr");
        let ctr = if beside.is_file() { beside } else { PathBuf::from("ctr") };
        let mut command = Command::new(ctr);
        command.args(["--address", address, "--connect-timeout", "2s", "version"]);
        let output: Output = run(&mut command, Duration::from_secs(10)).map_err(|e| e.to_string())?;
        if output.success { Ok(()) } else { Err(output.complaint()) }
    }
}

fn look() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/bin", "/usr/bin", "/usr/local/sbin", "/usr/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|dir| dir.join("containerd")).find(|p| p.is_file())
}
