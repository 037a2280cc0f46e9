//! Directories that a layer uses without describing them: layers of ko, jib, `crane append` and others hold `tmp/x` and no
//! `tmp/`.
//!
//! Applied onto the layers below, as containerd does it, such a directory keeps what they say of it. A layer unpacked by
//! itself does not know that, and in an overlay its directory would cover theirs. So it is marked with the attribute
//! [`MARK`], which no layer can set itself, and [`super::restore`] puts what it covers in front again.
//!
//! The mark is `y` on a directory that is only implied. It is `b` on one that is described (or replaced what was there
//! before) and may have others below it that are not: every directory above a marked one is marked, so who looks for
//! them enters nothing else, and of a layer that describes all its directories only the root is looked at.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, XattrFlags};
use rustix::io::Errno;

/// The attribute.
pub const MARK: &str = "trusted.cocoon.implied";
/// Its value on a directory that no entry of its layer describes.
pub const IMPLIED: u8 = b'y';
/// Its value on other directories above such ones.
pub const BELOW: u8 = b'b';

/// Marks a new directory, and those above it up to the root of the layer.
pub(super) fn mark(directory: impl AsFd, root: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut at = reopen(directory, c".")?;
    set(&at, IMPLIED)?;
    let top = rustix::fs::fstat(root)?;
    loop {
        at = reopen(&at, c"..")?;
        if get(&at)?.is_some() {
            return Ok(());
        }
        set(&at, BELOW)?;
        let here = rustix::fs::fstat(&at)?;
        if (here.st_dev, here.st_ino) == (top.st_dev, top.st_ino) {
            return Ok(());
        }
    }
}

/// A directory counts as described from now on.
pub(super) fn settle(directory: impl AsFd) -> Result<(), Errno> {
    match get(&directory)? {
        Some(IMPLIED) => set(&directory, BELOW),
        _ => Ok(()),
    }
}

/// Sets a directory's mark.
pub(super) fn set(directory: impl AsFd, value: u8) -> Result<(), Errno> {
    rustix::fs::fsetxattr(directory, MARK, &[value], XattrFlags::empty())
}

/// A directory's mark.
pub(super) fn get(directory: impl AsFd) -> Result<Option<u8>, Errno> {
    let mut value = [0_u8; 1];
    match rustix::fs::fgetxattr(directory, MARK, &mut value[..]) {
        Ok(1) => Ok(Some(value[0])),
        Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Opens a directory, or the one above it, for reading: attributes cannot be had by `O_PATH`.
pub(super) fn reopen(directory: impl AsFd, name: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}
