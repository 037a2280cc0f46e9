//! The advisory lock file by which processes take turns on one state file.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::Error;

/// A held lock; dropping it lets the next one in. The kernel drops it when the process dies.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: File,
}

/// How a lock is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Others may read too.
    Shared,
    /// Nobody else.
    Exclusive,
}

/// Takes the lock at `path` (created 0600 if absent), waiting at most `limit`; then [`Error::Busy`].
pub(crate) fn acquire(path: &Path, kind: Kind, limit: Duration) -> Result<FileLock, Error> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| Error::io(path, e))?;
    let now = match kind {
        Kind::Shared => FlockOperation::NonBlockingLockShared,
        Kind::Exclusive => FlockOperation::NonBlockingLockExclusive,
    };
    match flock(&file, now) {
        Ok(()) => Ok(FileLock { _file: file }),
        Err(Errno::WOULDBLOCK) => wait(path.to_path_buf(), file, kind, limit),
        Err(error) => Err(Error::io(path, error.into())),
    }
}

/// Waits in a helper thread, because `flock` itself knows no time limit. If the limit passes first, the helper
/// drops the lock the moment it gets it, since nobody receives it any more.
fn wait(path: PathBuf, file: File, kind: Kind, limit: Duration) -> Result<FileLock, Error> {
    let (sender, receiver) = mpsc::sync_channel(0);
    let helper_path = path.clone();
    std::thread::Builder::new()
        .name("cocoon-store-lock".into())
        .spawn(move || {
            let operation = match kind {
                Kind::Shared => FlockOperation::LockShared,
                Kind::Exclusive => FlockOperation::LockExclusive,
            };
            let result = loop {
                match flock(&file, operation) {
                    Ok(()) => break Ok(FileLock { _file: file }),
                    Err(Errno::INTR) => continue,
                    Err(error) => break Err(Error::io(&helper_path, error.into())),
                }
            };
            drop(sender.send(result));
        })
        .map_err(|e| Error::io(&path, e))?;
    receiver.recv_timeout(limit).unwrap_or_else(|_| Err(Error::Busy(path.display().to_string())))
}
