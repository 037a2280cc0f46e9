//! A pod's private runtime folder: sockets and the initdata disk. It goes with the pod; where a process was killed
//! before it could remove its own, the next pod removes it.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use cocoon_stage::{Code, Failure, Stage};
use rustix::fs::{FlockOperation, flock};

/// Inside each folder: locked for as long as its pod's process lives.
const LOCK: &str = "lock";

/// The folder, removed when dropped.
pub(crate) struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Makes the folder (0700) and removes those beside it whose process is gone: folders of the same name up to the
    /// last `-`, with a lock that nobody holds.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(parent).map_err(disk)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        sweep(parent, &name);
        // Locked before it has its name, so that no sweep takes it for an abandoned one.
        let unnamed = parent.join(format!(".{name}"));
        DirBuilder::new().mode(0o700).create(&unnamed).map_err(disk)?;
        let made = File::create_new(unnamed.join(LOCK)).and_then(|lock| {
            flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
            std::fs::rename(&unnamed, path)?;
            Ok(lock)
        });
        match made {
            Ok(lock) => Ok(RunDir { path: path.to_owned(), _lock: lock }),
            Err(e) => {
                let _ = std::fs::remove_dir_all(&unnamed);
                Err(disk(e))
            }
        }
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(folder = %self.path.display(), error = %e, "runtime folder stays behind");
        }
    }
}

fn sweep(parent: &Path, name: &str) {
    let Some((prefix, _)) = name.rsplit_once('-') else { return };
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let sibling = entry.file_name().to_string_lossy().into_owned();
        if sibling.rsplit_once('-').is_none_or(|(p, _)| p != prefix) {
            continue;
        }
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Best effort: what is not ours to remove stays.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A failure of the file system under the runtime folder.
pub(crate) fn disk(e: std::io::Error) -> Failure {
    let code = match e.kind() {
        std::io::ErrorKind::StorageFull => Code::BootDiskFull,
        _ => Code::HostUnsupported,
    };
    Failure::new(code, format!("runtime folder: {e}")).at(Stage::Boot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abandoned_folders_are_swept_and_living_ones_are_not() {
        let base = tempfile::tempdir().unwrap();
        let living = RunDir::create(&base.path().join("cocoon-living")).unwrap();
        let dead = base.path().join("cocoon-dead");
        std::fs::create_dir(&dead).unwrap();
        std::fs::write(dead.join(LOCK), "").unwrap();
        let foreign = base.path().join("other-thing");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::write(foreign.join(LOCK), "").unwrap();

        let next = RunDir::create(&base.path().join("cocoon-next")).unwrap();
        assert!(!dead.exists() && living.path().exists() && foreign.exists());
        drop((living, next));
        let left: Vec<_> = std::fs::read_dir(base.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["other-thing"]);
    }

    #[test]
    fn two_pods_cannot_share_a_folder() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("cocoon-x");
        let _first = RunDir::create(&path).unwrap();
        assert_eq!(RunDir::create(&path).err().unwrap().code, Code::HostUnsupported);
        assert!(path.exists());
    }
}
