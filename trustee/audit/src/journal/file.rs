//! The journal's file: created, checked, locked, read, and written in place.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::Error;

/// How long another user of the file is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Where a journal's bytes lie.
pub(crate) trait Medium: Send {
    /// Overwrites bytes within the length of the journal.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when all that was written is durable.
    fn sync(&mut self) -> io::Result<()>;
}

impl Medium for File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Opens the file at `path` for this process alone, or creates it (0600); it and what it holds.
pub(crate) fn open(path: &Path, length: u64) -> Result<(File, Vec<u8>), Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = open_private(path, &mut options)?;
    lock(path, &file)?;
    let bytes = read(path, &mut file, length)?;
    Ok((file, bytes))
}

/// What the file at `path` holds; changes nothing.
pub(crate) fn open_to_read(path: &Path, length: u64) -> Result<Vec<u8>, Error> {
    let mut file = open_private(path, OpenOptions::new().read(true))?;
    read(path, &mut file, length)
}

/// Makes the file `length` bytes long. The zeros are written, not just reserved: later writes then change no
/// metadata, so that making them durable writes nothing else, and they can not find the disk full.
pub(crate) fn fill(path: &Path, mut file: &File, length: u64) -> Result<(), Error> {
    let written = (|| {
        let present = file.metadata()?.len();
        if present < length {
            io::Seek::seek(&mut file, io::SeekFrom::Start(present))?;
            let zeros = vec![0; 1 << 16];
            let mut missing = length - present;
            while missing > 0 {
                let part = usize::try_from(missing).unwrap_or(usize::MAX).min(zeros.len());
                file.write_all(zeros.get(..part).unwrap_or(&zeros))?;
                missing -= part as u64;
            }
        }
        file.sync_all()?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    })();
    written.map_err(|error| failure(path, error))
}

/// An IO error as the store would tell it.
pub(crate) fn failure(path: &Path, source: io::Error) -> Error {
    let path = path.display().to_string();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => cocoon_store::Error::Full(path),
        _ => cocoon_store::Error::Io { path, source },
    }
    .into()
}

fn unusable(path: &Path, reason: &'static str) -> Error {
    Error::Journal { path: path.display().to_string(), reason }
}

fn open_private(path: &Path, options: &mut OpenOptions) -> Result<File, Error> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = options.custom_flags(i32::try_from(flags.bits()).unwrap_or(0)).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(code) if code == Errno::LOOP.raw_os_error() => unusable(path, "it is a symbolic link"),
        _ => failure(path, error),
    })?;
    let metadata = file.metadata().map_err(|error| failure(path, error))?;
    if !metadata.is_file() {
        return Err(unusable(path, "it is not a regular file"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(unusable(path, "others may read it; run chmod 600"));
    }
    Ok(file)
}

fn lock(path: &Path, file: &File) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if begun.elapsed() >= LOCK_WAIT => {
                return Err(unusable(path, "another audit log has it open"));
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(failure(path, error.into())),
        }
    }
}

fn read(path: &Path, file: &mut File, length: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    file.take(length + 1).read_to_end(&mut bytes).map_err(|error| failure(path, error))?;
    if bytes.len() as u64 > length {
        return Err(unusable(path, "it is longer than a journal"));
    }
    Ok(bytes)
}
