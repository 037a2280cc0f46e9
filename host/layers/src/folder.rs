//! The cache's folder: whose it is, and files in it opened without being led elsewhere.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::Error;
use crate::temp::locked;

/// How names of files begin that [`write_small`] is not done with.
pub(crate) const HIDDEN: &str = ".";

/// Makes the folder (0700) where it is not there, and checks that nobody else can change what is in it.
pub(crate) fn private(path: &Path) -> Result<(), Error> {
    if let Err(e) = DirBuilder::new().recursive(true).mode(0o700).create(path)
        && e.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(Error::io(path)(e));
    }
    let found = std::fs::metadata(path).map_err(Error::io(path))?;
    fit(&found, found.is_dir(), "it is not a folder")
        .map_err(|reason| Error::Unfit { path: path.into(), reason })
}

/// [`private`], for a folder in such a folder: it is no link either.
pub(crate) fn inner(path: &Path) -> Result<(), Error> {
    private(path)?;
    let found = std::fs::symlink_metadata(path).map_err(Error::io(path))?;
    match found.is_dir() {
        true => Ok(()),
        false => Err(Error::Unfit { path: path.into(), reason: "it is a link" }),
    }
}

/// Whether only this process's user can change it.
pub(crate) fn fit(found: &Metadata, kind: bool, not_kind: &'static str) -> Result<(), &'static str> {
    if !kind {
        Err(not_kind)
    } else if found.uid() != rustix::process::geteuid().as_raw() {
        Err("it belongs to another user")
    } else if found.mode() & 0o022 != 0 {
        Err("others may write to it")
    } else {
        Ok(())
    }
}

/// Opens a file for reading; not a link, and without waiting at what is no file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Whether the path still names the open file.
pub(crate) fn names(path: &Path, file: &File) -> io::Result<bool> {
    let open = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (open.dev(), open.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Makes names in the folder durable.
pub(crate) fn sync(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|f| f.sync_all()).map_err(Error::io(path))
}

/// Reads a small file of this user's; `None` where it is not there, not such a file or longer than `limit`.
pub(crate) fn read_small(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let file = open(path).ok()?;
    let found = file.metadata().ok()?;
    fit(&found, found.is_file(), "").ok()?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).ok()?;
    (u64::try_from(bytes.len()).ok()? <= limit).then_some(bytes)
}

/// Writes a small file, durable and whole or not at all: through a file beside it whose name begins with a dot.
pub(crate) fn write_small(folder: &Path, name: &str, content: &[u8]) -> Result<(), Error> {
    let path = folder.join(name);
    let (temporary, mut file) = locked(folder, HIDDEN)?;
    let written = file
        .write_all(content)
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&temporary, &path));
    if let Err(e) = written {
        let _ = std::fs::remove_file(&temporary);
        return Err(Error::io(&path)(e));
    }
    sync(folder)
}

/// A name that no other process uses.
pub(crate) fn unique() -> Result<String, Error> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Interrupted)?;
    Ok(hex::encode(bytes))
}
