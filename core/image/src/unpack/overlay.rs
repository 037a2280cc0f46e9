//! A layer as a tree of its own, in the form that overlayfs reads (Linux, filesystems/overlayfs.rst, "whiteouts and
//! opaque directories"): a deleted name is a character device 0:0, a directory that hides what is below it has the
//! attribute `trusted.overlay.opaque` = `y`.
//!
//! Layers can hold neither themselves: device nodes are refused and `trusted.` attributes dropped, so every mark in a
//! tree stands for a whiteout entry of its layer. What cannot be marked is an error: a mark left out would bring deleted
//! files back.
//!
//! - An entry and a whiteout of one name in one layer, in whatever order: the entry stays, and a directory is opaque.
//! - An opaque root hides nothing by itself in overlayfs, which does not look at the roots of its layers. Whoever stacks
//!   layers asks [`is_opaque`] and leaves the layers below such a root out.
//! - A mark needs its directory, which is made where the layer does not have it. (Where no lower layer has that directory,
//!   it shows, and listing it gives the marked names, though they cannot be looked up: so is overlayfs.)
//! - A directory that a layer uses without describing it is made with mode 0755 and root as owner, and marked
//!   ([`super::implied`]) so that the lower layer's can be put in its place.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;

use crate::unpack::implied;
use crate::unpack::root::Parent;

const OPAQUE: &str = "trusted.overlay.opaque";

/// Whether this is the mark of a deleted name.
pub(super) fn is_mark(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
}

/// Marks a name deleted. What this layer holds under the name stays, and hides what is below it.
pub(super) fn white_out(parent: &Parent, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::EXIST) => {}
        other => return other,
    }
    let there = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(there.st_mode) {
        FileType::Directory => {
            make_child_opaque(parent, name)?;
            // It is another directory than the one below.
            settle_child(parent, name)
        }
        _ => Ok(()),
    }
}

/// Marks a directory, which may have been opened with `O_PATH`, opaque.
pub(super) fn make_opaque(directory: &Parent) -> Result<(), Errno> {
    make_child_opaque(directory, b".")
}

/// Marks a directory in `parent` opaque.
pub(super) fn make_child_opaque(parent: &Parent, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::fsetxattr(open(parent, name)?, OPAQUE, b"y", XattrFlags::empty())
}

/// A directory in `parent` that may have been implied is described.
pub(super) fn settle_child(parent: &Parent, name: &[u8]) -> Result<(), Errno> {
    implied::settle(open(parent, name)?)
}

/// Turns the mark of a deleted name into a directory; false where the name is something else.
pub(super) fn mark_to_directory(parent: &Parent, name: &[u8], mode: Mode) -> Result<bool, Errno> {
    if !is_mark(&rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?) {
        return Ok(false);
    }
    rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
    rustix::fs::mkdirat(parent, name, mode)?;
    make_child_opaque(parent, name)?;
    Ok(true)
}

fn open(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Whether the root of an unpacked layer hides all layers below it.
///
/// # Errors
/// What the system said.
pub fn is_opaque(root: impl AsFd) -> std::io::Result<bool> {
    Ok(has_mark(root)?)
}

/// Whether a directory is opaque.
pub(super) fn has_mark(directory: impl AsFd) -> Result<bool, Errno> {
    let mut value = [0_u8; 2];
    match rustix::fs::fgetxattr(directory, OPAQUE, &mut value[..]) {
        Ok(n) => Ok(value.get(..n) == Some(b"y")),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(e),
    }
}
