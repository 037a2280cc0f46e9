//! Owner, mode, times and extended attributes.
//!
//! Order matters: changing the owner clears setuid bits and `security.capability`, so it comes first. Directories
//! get theirs last of all, because what is put into them changes their times.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::Error;
use crate::tar::{Entry, Time};
use crate::unpack::root::{Parent, Root};
use crate::unpack::{Summary, UnpackOptions, unsafe_entry};

/// Memory for directories waiting for their metadata; past it they get it early.
const MAX_DEFERRED_BYTES: usize = 8 << 20;

fn times(t: Time) -> Timestamps {
    let at = Timespec { tv_sec: t.seconds, tv_nsec: i64::from(t.nanoseconds) };
    Timestamps { last_access: at, last_modification: at }
}

fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    // -1 means "leave it" to the kernel; as an id it does not exist.
    let id = |n: u32| if n == u32::MAX { 0 } else { n };
    (Some(Uid::from_raw(id(entry.uid))), Some(Gid::from_raw(id(entry.gid))))
}

/// Whether an extended attribute is a layer's to set: `user.…` and `security.capability`. Others (trusted.overlay.*, security.selinux …) steer the kernel, or us.
pub fn is_layers_own(name: &[u8]) -> bool {
    // Overlayfs mounted with `userxattr` takes its marks from `user.overlay.`.
    name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") || name == b"security.capability"
}

/// Sets metadata of an open file or directory; gives the number of `user.` attributes not supported.
pub(super) fn apply_to_open(fd: impl AsFd, entry: &Entry, options: &UnpackOptions) -> Result<u64, Error> {
    let fd = fd.as_fd();
    let fail = |e| Error::filesystem(&entry.path, e);
    if options.preserve_owner {
        let (uid, gid) = owner(entry);
        rustix::fs::fchown(fd, uid, gid).map_err(fail)?;
    }
    rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode)).map_err(fail)?;
    let mut skipped = 0;
    for (name, value) in &entry.xattrs {
        if !is_layers_own(name) {
            continue;
        }
        match rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) if name.starts_with(b"user.") => skipped += 1,
            Err(e) => return Err(fail(e)),
        }
    }
    rustix::fs::futimens(fd, &times(entry.mtime)).map_err(fail)?;
    Ok(skipped)
}

/// Sets owner and time of a symbolic link; Linux knows no mode for it.
pub(super) fn apply_to_link(
    p: &Parent,
    name: &[u8],
    entry: &Entry,
    options: &UnpackOptions,
) -> Result<(), Error> {
    let fail = |e| Error::filesystem(&entry.path, e);
    if options.preserve_owner {
        let (uid, gid) = owner(entry);
        rustix::fs::chownat(p, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
    }
    rustix::fs::utimensat(p, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)
}

/// Sets owner, mode and time of a FIFO, which must not be opened (that would block). It was made a moment ago by
/// us, so the name is not a link.
pub(super) fn apply_to_fifo(
    p: &Parent,
    name: &[u8],
    entry: &Entry,
    options: &UnpackOptions,
) -> Result<(), Error> {
    apply_to_link(p, name, entry, options)?;
    rustix::fs::chmodat(p, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
        .map_err(|e| Error::filesystem(&entry.path, e))
}

/// A directory by path and inode, and what it is to get.
struct Waiting {
    path: Vec<u8>,
    inode: u64,
    mode: Mode,
    mtime: Time,
    /// Itself, where its path does not lead to it: it took the place of a link on its own way.
    held: Option<OwnedFd>,
}

/// How many directories may be held open; no builder makes one.
const MAX_HELD: usize = 64;

/// Directories whose mode and time are set at the layer's end.
#[derive(Default)]
pub(super) struct Deferred {
    waiting: Vec<Waiting>,
    bytes: usize,
    held: usize,
}

impl Deferred {
    /// Sets owner and attributes of the open directory now, mode and time later. `replaced`: something else had its name before.
    pub(super) fn push(
        &mut self,
        root: &Root<'_>,
        (path, fd, replaced): (Vec<u8>, OwnedFd, bool),
        entry: &Entry,
        options: &UnpackOptions,
        summary: &mut Summary,
    ) -> Result<(), Error> {
        let fail = |e| Error::filesystem(&entry.path, e);
        let inode = rustix::fs::fstat(&fd).map_err(fail)?.st_ino;
        let found =
            || root.open_directory(&path).and_then(rustix::fs::fstat).is_ok_and(|s| s.st_ino == inode);
        let held =
            if !replaced || found() { None } else { Some(fd.try_clone().map_err(|_| fail(Errno::MFILE))?) };
        if held.is_some() {
            self.held = self.held.saturating_add(1);
            if self.held > MAX_HELD {
                return Err(unsafe_entry(entry, "too many directories replace links on their own ways"));
            }
        }
        let writable = Entry { mode: entry.mode | 0o700, ..entry.clone() };
        summary.skipped_xattrs += apply_to_open(fd, &writable, options)?;
        self.bytes = self.bytes.saturating_add(path.len() + size_of::<Waiting>());
        self.waiting.push(Waiting {
            path,
            inode,
            mode: Mode::from_raw_mode(entry.mode),
            mtime: entry.mtime,
            held,
        });
        if self.bytes > MAX_DEFERRED_BYTES { self.flush(root) } else { Ok(()) }
    }

    /// Sets what waits, innermost first; of a directory that was described twice, what was said last.
    pub(super) fn flush(&mut self, root: &Root<'_>) -> Result<(), Error> {
        self.bytes = 0;
        let mut done = HashSet::new();
        self.held = 0;
        while let Some(Waiting { path, inode, mode, mtime, held }) = self.waiting.pop() {
            let fail = |e| Error::filesystem(&path, e);
            let fd = match held.map_or_else(|| root.open_directory(&path), Ok) {
                Ok(fd) => fd,
                // Replaced or removed later in the same layer.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(e) => return Err(fail(e)),
            };
            let there = rustix::fs::fstat(&fd).map_err(fail)?.st_ino;
            if there != inode || !done.insert(inode) {
                continue;
            }
            rustix::fs::fchmod(&fd, mode).map_err(fail)?;
            rustix::fs::futimens(&fd, &times(mtime)).map_err(fail)?;
        }
        Ok(())
    }
}
