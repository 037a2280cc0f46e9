//! The directories that containerd may mount: one for each snapshot that is not committed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::{Accounts, Error};

/// Bytes and inodes of a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Bytes on the medium.
    pub bytes: i64,
    /// Files and directories.
    pub inodes: i64,
}

/// The folders `snapshots` and `trash`.
#[derive(Debug)]
pub(crate) struct Rooms {
    snapshots: PathBuf,
    trash: PathBuf,
}

impl Rooms {
    pub fn new(snapshots: PathBuf, trash: PathBuf) -> Self {
        Rooms { snapshots, trash }
    }

    /// What is mounted.
    pub fn path(&self, id: u64) -> PathBuf {
        self.snapshots.join(id.to_string()).join("fs")
    }

    /// Makes the directory of a new snapshot.
    pub fn make(&self, id: u64) -> Result<(), Error> {
        let path = self.path(id);
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&path).map_err(Error::io(&path))
    }

    /// Writes the accounts that containerd looks up, unless they are there.
    pub fn furnish(&self, id: u64, accounts: &Accounts) -> Result<(), Error> {
        let etc = self.path(id).join("etc");
        let write = || -> io::Result<()> {
            match fs::DirBuilder::new().mode(0o755).create(&etc) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            // A container that runs here may have put anything in their place: nothing is followed or replaced.
            for (name, text) in [("group", accounts.group()), ("passwd", accounts.passwd())] {
                let file = fs::OpenOptions::new().write(true).create_new(true).open(etc.join(name));
                match file {
                    Ok(mut file) => io::Write::write_all(&mut file, text.as_bytes())?,
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(())
        };
        write().map_err(Error::io(&etc))
    }

    /// Whether the accounts are there.
    pub fn furnished(&self, id: u64) -> bool {
        fs::symlink_metadata(self.path(id).join("etc/passwd")).is_ok()
    }

    /// Takes a directory out of the way at once. It is deleted by [`Rooms::empty_trash`].
    pub fn discard(&self, id: u64) -> Result<(), Error> {
        let path = self.snapshots.join(id.to_string());
        match fs::rename(&path, self.trash.join(id.to_string())) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(&path)(e)),
            _ => Ok(()),
        }
    }

    /// Discards the directories of snapshots that there are not; gives the largest number seen.
    pub fn discard_others(&self, wanted: &BTreeSet<u64>) -> Result<u64, Error> {
        let mut largest = 0;
        for folder in [&self.snapshots, &self.trash] {
            for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
                let name = entry.map_err(Error::io(folder))?.file_name();
                let Some(id) = name.to_str().and_then(|name| name.parse::<u64>().ok()) else { continue };
                largest = largest.max(id);
                if folder == &self.snapshots && !wanted.contains(&id) {
                    self.discard(id)?;
                }
            }
        }
        Ok(largest)
    }

    /// Deletes what was discarded. What cannot be deleted, because it is still mounted somewhere, stays for the next time.
    pub fn empty_trash(&self) {
        let entries = match fs::read_dir(&self.trash) {
            Ok(entries) => entries,
            Err(error) => return tracing::warn!(%error, "the trash cannot be read"),
        };
        for entry in entries.flatten() {
            match fs::remove_dir_all(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %entry.path().display(), %error, "trash stays");
                }
                _ => {}
            }
        }
    }

    /// What a directory takes.
    pub fn used(&self, id: u64) -> Result<Used, Error> {
        let path = self.path(id);
        let mut used = Used::default();
        add(&path, &mut used).map_err(Error::io(&path))?;
        Ok(used)
    }
}

fn add(path: &Path, used: &mut Used) -> io::Result<()> {
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            // It may be written to while it is counted.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        let bytes = i64::try_from(found.blocks().saturating_mul(512)).unwrap_or(i64::MAX);
        used.bytes = used.bytes.saturating_add(bytes);
        used.inodes = used.inodes.saturating_add(1);
        if found.is_dir() {
            match fs::read_dir(&path) {
                Ok(entries) => open.extend(entries.flatten().map(|entry| entry.path())),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}
