//! Locks on files that come and go. Whoever has locked a file looks whether its name still stands for it: the holder
//! before may have removed it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::{Error, folder};

/// Longest pause between two tries to get a lock.
const PAUSE: Duration = Duration::from_millis(50);
/// How long to wait for another's layer without a word.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait for the gate.
const GATE_LIMIT: Duration = Duration::from_secs(30);

/// Locks the open file without waiting; `false` where somebody else's lock stands against it.
pub(crate) fn try_lock(file: &File, how: FlockOperation) -> io::Result<bool> {
    match flock(file, how) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// An exclusive lock by name, for one worker among all processes.
#[derive(Debug)]
pub(crate) struct Flight {
    path: PathBuf,
    file: File,
}

/// The space that a layer being made has, as the length of its [`Flight`]'s file, which is a hole. Ends with the flight.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    file: File,
}

impl Claim {
    pub(crate) fn bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |m| m.len())
    }

    /// The gate must be held.
    pub(crate) fn set(&self, bytes: u64) -> Result<(), Error> {
        self.file.set_len(bytes).map_err(Error::io(&self.path))
    }

    /// Bytes that all others claim. The gate must be held.
    pub(crate) fn others(&self) -> u64 {
        let Some(entries) = self.path.parent().and_then(|p| std::fs::read_dir(p).ok()) else { return 0 };
        let mut sum = 0_u64;
        for path in entries.flatten().map(|e| e.path()) {
            let Ok(file) = folder::open(&path) else { continue };
            let ours = folder::names(&path, &self.file).unwrap_or(false);
            // What nobody has locked, a killed process left.
            if !ours && !try_lock(&file, FlockOperation::NonBlockingLockShared).unwrap_or(true) {
                sum = sum.saturating_add(file.metadata().map_or(0, |m| m.len()));
            }
        }
        sum
    }
}

impl Flight {
    /// Waits for the lock. Dropping the future gives up.
    pub(crate) async fn take(path: PathBuf) -> Result<Flight, Error> {
        let mut pause = Duration::from_millis(2);
        let (began, mut told) = (Instant::now(), false);
        loop {
            if let Some(flight) = Flight::try_take(&path)? {
                return Ok(flight);
            }
            if !told && began.elapsed() > PATIENCE {
                told = true;
                let lock = path.display();
                tracing::warn!(%lock, "waiting for another pod, or another process, that makes the same layer");
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(PAUSE);
        }
    }

    fn try_take(path: &Path) -> Result<Option<Flight>, Error> {
        let file = open(path).map_err(Error::io(path))?;
        let ours = try_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(Error::io(path))?
            && folder::names(path, &file).map_err(Error::io(path))?;
        if ours {
            // As a killed process may have left it.
            file.set_len(0).map_err(Error::io(path))?;
        }
        Ok(ours.then(|| Flight { path: path.to_owned(), file }))
    }

    /// Says how much space its layer has so far. Whoever counts space looks at the lengths of all that are held.
    pub(crate) fn claim(&self) -> Result<Claim, Error> {
        let file = self.file.try_clone().map_err(Error::io(&self.path))?;
        Ok(Claim { path: self.path.clone(), file })
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // Still locked: who waits for it sees that the name has gone, and begins again.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A short exclusive lock on a file that stays. Only a process that was stopped holds it for long.
pub(crate) fn gate(path: &Path) -> Result<File, Error> {
    let file = open(path).map_err(Error::io(path))?;
    let began = Instant::now();
    while !try_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(Error::io(path))? {
        if began.elapsed() > GATE_LIMIT {
            return Err(Error::Unfit { path: path.into(), reason: "another process keeps it locked" });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(file)
}

fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)
}

/// Removes files that nobody holds a lock on: what killed processes left.
pub(crate) fn sweep(folder_path: &Path) {
    sweep_named(folder_path, "");
}

/// [`sweep`], of files whose names begin so.
pub(crate) fn sweep_named(folder_path: &Path, prefix: &str) {
    let Ok(entries) = std::fs::read_dir(folder_path) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
            continue;
        }
        let path = entry.path();
        let Ok(file) = folder::open(&path) else { continue };
        let abandoned = try_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap_or(false)
            && folder::names(&path, &file).unwrap_or(false);
        if abandoned {
            // Best effort: what cannot be removed is tried again next time.
            let _ = std::fs::remove_file(&path);
        }
    }
}
