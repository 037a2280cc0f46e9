//! A layer being made: a file without a name, so that nothing is left of it however its maker ends.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, OFlags, linkat};

use crate::locks::try_lock;
use crate::{Error, folder};

/// The file. Where the file system makes none without a name it has one, is locked, and goes when dropped.
#[derive(Debug)]
pub(crate) struct Temp {
    within: PathBuf,
    /// Where it has a name.
    name: Option<PathBuf>,
    file: File,
}

impl Temp {
    /// Makes one in the folder.
    pub(crate) fn create(within: &Path) -> Result<Temp, Error> {
        match unnamed(within) {
            Ok(file) => Ok(Temp { within: within.into(), name: None, file }),
            Err(_) => Temp::named(within),
        }
    }

    fn named(within: &Path) -> Result<Temp, Error> {
        let (path, file) = locked(within, "")?;
        Ok(Temp { within: within.into(), name: Some(path), file })
    }

    /// The file, open for reading and writing.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Where it is, for errors.
    pub(crate) fn path(&self) -> &Path {
        self.name.as_deref().unwrap_or(&self.within)
    }

    /// Makes the content durable and read-only. It may take long.
    pub(crate) fn seal(self) -> Result<Sealed, Error> {
        let sealed = self
            .file
            .set_permissions(Permissions::from_mode(0o400))
            .and_then(|()| self.file.sync_all())
            .and_then(|()| try_lock(&self.file, FlockOperation::NonBlockingLockShared))
            .and_then(|_| match &self.name {
                Some(path) => folder::open(path),
                None => File::open(in_proc(&self.file)),
            })
            .and_then(|read| {
                try_lock(&read, FlockOperation::NonBlockingLockShared).map(|locked| (read, locked))
            });
        match sealed.map_err(Error::io(self.path()))? {
            (read, true) => Ok(Sealed { temp: self, read }),
            (_, false) => Err(Error::Interrupted),
        }
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if let Some(path) = &self.name {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A [`Temp`] whose content is on the medium.
#[derive(Debug)]
pub(crate) struct Sealed {
    temp: Temp,
    read: File,
}

impl Sealed {
    /// Gives the file its name, durable too, in place of whatever has it. Returns the file open for reading, with a
    /// shared lock that was never let go.
    pub(crate) fn publish(mut self, path: &Path) -> Result<File, Error> {
        let from = match self.temp.name.clone() {
            Some(name) => name,
            None => {
                // A link replaces nothing, so it is made beside and moved; the lock keeps it from being swept.
                let name = self.temp.within.join(folder::unique()?);
                linkat(CWD, in_proc(&self.temp.file), CWD, &name, AtFlags::SYMLINK_FOLLOW)
                    .map_err(|e| Error::io(&name)(e.into()))?;
                self.temp.name = Some(name.clone());
                name
            }
        };
        std::fs::rename(&from, path).map_err(Error::io(path))?;
        self.temp.name = None;
        folder::sync(path.parent().unwrap_or(path))?;
        Ok(self.read)
    }
}

/// A new file under a name of its own, locked so that no sweep takes it.
pub(crate) fn locked(within: &Path, prefix: &str) -> Result<(PathBuf, File), Error> {
    // A sweep may take it before it is locked; then another is made.
    for _ in 0..16 {
        let path = within.join(format!("{prefix}{}", folder::unique()?));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(Error::io(&path))?;
        let there = try_lock(&file, FlockOperation::NonBlockingLockExclusive)
            .and_then(|locked| Ok(locked && folder::names(&path, &file)?));
        match there {
            Ok(true) => return Ok((path, file)),
            Ok(false) => {}
            Err(e) => {
                let _ = std::fs::remove_file(&path);
                return Err(Error::io(&path)(e));
            }
        }
    }
    Err(Error::Unfit { path: within.into(), reason: "files vanish from it" })
}

/// A file without a name, that can be given one.
fn unnamed(within: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE.bits().cast_signed();
    let file = OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flags).open(within)?;
    // Without /proc there is no way to name it later.
    File::open(in_proc(&file))?;
    Ok(file)
}

fn in_proc(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_has_no_name_until_it_is_published() {
        let dir = tempfile::tempdir().unwrap();
        for named in [false, true] {
            let within = dir.path().join(if named { "named" } else { "unnamed" });
            std::fs::create_dir(&within).unwrap();
            let make = || if named { Temp::named(&within) } else { Temp::create(&within) }.unwrap();
            let target = dir.path().join("layer");
            std::fs::write(&target, "damaged").unwrap();
            let temp = make();
            if !named && unnamed(&within).is_ok() {
                assert_eq!(within.read_dir().unwrap().count(), 0);
            }
            temp.file().write_all(b"good").unwrap();
            let read = temp.seal().unwrap().publish(&target).unwrap();
            assert_eq!(std::fs::read(&target).unwrap(), b"good");
            let other = File::open(&target).unwrap();
            assert!(!try_lock(&other, FlockOperation::NonBlockingLockExclusive).unwrap(), "it is leased");
            drop(read);
            assert!(try_lock(&other, FlockOperation::NonBlockingLockExclusive).unwrap());
            // One that comes to nothing leaves nothing.
            drop(make().seal().unwrap());
            drop(make());
            assert_eq!(within.read_dir().unwrap().count(), 0);
            std::fs::remove_file(&target).unwrap();
        }
    }
}
