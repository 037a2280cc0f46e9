//! Whiteouts delete what *lower* layers left, wherever in a layer they stand; so what the layer itself made is
//! remembered, in eight bytes a name.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::AsFd;

use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::unpack::remove::remove_at;
use crate::unpack::root::Parent;

/// Directories of one layer nested deeper than this are not looked into.
const MAX_DEPTH: u32 = 512;

/// The names that the layer at hand made: keyed hashes of (directory inode, name).
#[derive(Default)]
pub(super) struct Made {
    hasher: RandomState,
    names: HashSet<u64>,
}

impl Made {
    fn key(&self, parent: u64, name: &[u8]) -> u64 {
        self.hasher.hash_one((parent, name))
    }

    pub(super) fn add(&mut self, parent: &Parent, name: &[u8]) {
        let key = self.key(parent.inode(), name);
        self.names.insert(key);
    }

    fn has(&self, parent: &Parent, name: &[u8]) -> bool {
        self.names.contains(&self.key(parent.inode(), name))
    }

    /// Removes a name unless this layer made it; a directory that it made is searched for lower content.
    pub(super) fn remove_lower(&self, parent: &Parent, name: &[u8], depth: u32) -> Result<(), Errno> {
        if !self.has(parent, name) {
            return match remove_at(parent, name) {
                Err(Errno::NOENT) => Ok(()),
                other => other,
            };
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Ok(fd) => self.empty_lower(&Parent::from_fd(fd)?, depth.saturating_add(1)),
            // Not a directory: the layer's own file stays.
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT | Errno::NXIO) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Removes from a directory what this layer did not make.
    pub(super) fn empty_lower(&self, directory: &Parent, depth: u32) -> Result<(), Errno> {
        if depth > MAX_DEPTH {
            return Err(Errno::LOOP);
        }
        // Names are collected first: removal while reading may make the kernel pass over some.
        for name in names(directory)? {
            self.remove_lower(directory, &name, depth)?;
        }
        Ok(())
    }
}

/// The names in a directory that may have been opened with `O_PATH`.
fn names(directory: &Parent) -> Result<Vec<Vec<u8>>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(directory.as_fd(), c".", flags, Mode::empty())?;
    let mut all = Vec::new();
    for entry in Dir::new(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            all.push(name.to_vec());
        }
    }
    Ok(all)
}
