//! Folders and files, opened relative to their parent and never through a link.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::Error;
use crate::MAX_VALUE;

pub(super) struct Folder(OwnedFd);

impl Folder {
    /// The folder that a person named; this one may be a link.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty()).map(Folder).map_err(|e| Error::io(path, e.into()))
    }

    /// A folder inside.
    pub(super) fn folder(&self, name: &str) -> Result<Self, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(self.0.as_fd(), name, flags, Mode::empty()).map(Folder).map_err(|error| match error {
            Errno::NOTDIR | Errno::LOOP => "not a folder (links are not followed)".into(),
            other => other.to_string(),
        })
    }

    /// The names inside, one by one; one that is not UTF-8 comes as the error.
    pub(super) fn each_name(&self, each: &mut dyn FnMut(Result<&str, String>)) -> Result<(), String> {
        for entry in Dir::read_from(self.0.as_fd()).map_err(|e| e.to_string())? {
            let entry = entry.map_err(|e| e.to_string())?;
            let name = entry.file_name().to_bytes();
            match std::str::from_utf8(name) {
                Ok("." | "..") => {}
                Ok(name) => each(Ok(name)),
                Err(_) => each(Err(OsStr::from_bytes(name).to_string_lossy().into_owned())),
            }
        }
        Ok(())
    }

    /// The content of the regular file `name`, at most 16 MiB.
    pub(super) fn read(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        // Without NONBLOCK a named pipe would make us wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(self.0.as_fd(), name, flags, Mode::empty()).map_err(|error| match error {
            Errno::LOOP => "a link; links are not followed".into(),
            Errno::NXIO => "not a regular file".to_owned(),
            other => other.to_string(),
        })?;
        let mut file = File::from(file);
        let metadata = file.metadata().map_err(|e| e.to_string())?;
        if !metadata.is_file() {
            return Err("not a regular file".into());
        }
        let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        if length > MAX_VALUE {
            return Err(format!("{length} bytes; the largest is {MAX_VALUE}"));
        }
        // One byte more than it says, so that the buffer is not moved (and left behind) while it grows.
        let mut content = Zeroizing::new(Vec::with_capacity(length + 1));
        let limit = u64::try_from(length + 1).unwrap_or(u64::MAX);
        (&mut file).take(limit).read_to_end(&mut content).map_err(|e| e.to_string())?;
        if content.len() != length {
            return Err("it changed while it was read".into());
        }
        Ok(content)
    }
}
