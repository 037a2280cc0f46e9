//! A layer being made: a locked file that is gone when its maker is.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::locks::try_lock;
use crate::{Error, folder};

/// The file; removed when dropped, unless it was given its name.
#[derive(Debug)]
pub(crate) struct Temp {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl Temp {
    /// Makes one in the folder.
    pub(crate) fn create(within: &Path) -> Result<Temp, Error> {
        // A sweep may take it before it is locked; then another is made.
        for _ in 0..16 {
            let path = within.join(folder::unique()?);
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
            let file = file.map_err(Error::io(&path))?;
            let temp = Temp { path, file, kept: false };
            let locked = try_lock(&temp.file, FlockOperation::NonBlockingLockExclusive);
            let there = locked.and_then(|locked| Ok(locked && folder::names(&temp.path, &temp.file)?));
            if there.map_err(Error::io(&temp.path))? {
                return Ok(temp);
            }
        }
        Err(Error::Unfit { path: within.into(), reason: "files vanish from it" })
    }

    /// The file, open for reading and writing.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Its present path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the content durable and gives the file its name, with the name durable too. Returns the file open for
    /// reading, with a shared lock that was never let go.
    pub(crate) fn publish(mut self, path: &Path) -> Result<File, Error> {
        let fail = Error::io(&self.path);
        let read = self
            .file
            .set_permissions(Permissions::from_mode(0o400))
            .and_then(|()| self.file.sync_all())
            .and_then(|()| try_lock(&self.file, FlockOperation::NonBlockingLockShared))
            .and_then(|_| folder::open(&self.path))
            .and_then(|read| {
                try_lock(&read, FlockOperation::NonBlockingLockShared).map(|locked| (read, locked))
            });
        let read = match read.map_err(fail)? {
            (read, true) => read,
            (_, false) => return Err(Error::Interrupted),
        };
        std::fs::rename(&self.path, path).map_err(Error::io(path))?;
        self.kept = true;
        folder::sync(path.parent().unwrap_or(path))?;
        Ok(read)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
