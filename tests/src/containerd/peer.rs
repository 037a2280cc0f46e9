//! containerd's versions, as Debian's releases carry them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A version of containerd that tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Debian 12's.
    V1_6,
    /// Debian 13's.
    V1_7,
    /// Debian unstable's.
    V2,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Version; 3] = [Version::V1_6, Version::V1_7, Version::V2];

    /// Its name in the folder that `scripts/peers.sh` fills, and the start of what it says of itself.
    pub fn name(self) -> &'static str {
        match self {
            Version::V1_6 => "1.6",
            Version::V1_7 => "1.7",
            Version::V2 => "2",
        }
    }

    /// The folder with its programs; `None`, and the reason printed, where it is absent.
    pub fn find(self) -> Option<PathBuf> {
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .unwrap_or_default();
        let unpacked = cache.join("cocoon/peers").join(format!("containerd-{}", self.name())).join("usr/bin");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::iter::once(unpacked).chain(std::env::split_paths(&path)).find(|dir| self.is_in(dir));
        if found.is_none() {
            println!("skipped: containerd {} is not here (scripts/peers.sh brings it)", self.name());
        }
        found
    }

    /// Whether the folder's containerd says that it is of this version.
    fn is_in(self, folder: &Path) -> bool {
        let Ok(output) = Command::new(folder.join("containerd")).arg("--version").output() else {
            return false;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // "containerd github.com/containerd/containerd 1.7.24~ds1 …"; with a "v" where upstream built it.
        let version = text.split_whitespace().nth(2).unwrap_or_default().trim_start_matches('v');
        version.strip_prefix(self.name()).is_some_and(|rest| rest.starts_with('.'))
    }
}
