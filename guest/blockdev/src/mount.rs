//! Mounts: a layer, the scratch disk, a container's root.
//!
//! All are `nodev`, as the agent mounts images: device nodes of an image open nothing. They are not `nosuid`, since
//! set-user-id programs of images are meant to work inside their container.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount, unmount,
};

use crate::Error;
use crate::mapped::Mapped;

/// The most layers below one container's root, as in plans.
pub const MAX_LOWERS: usize = 128;
/// mount(2) takes one page of options.
const MAX_OPTIONS: usize = 4095;

/// A mount of this crate. Dropped, it is taken away; what still uses it keeps it until it ends.
#[derive(Debug)]
#[must_use = "dropping it unmounts"]
pub struct Mounted {
    at: PathBuf,
    live: bool,
}

impl Mounted {
    fn new(at: &Path) -> Self {
        Mounted { at: at.to_owned(), live: true }
    }

    /// Where.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Unmounts it now.
    ///
    /// # Errors
    /// [`Error::Io`], `EBUSY` while it is in use; it then stays until its users are gone.
    pub fn close(mut self) -> Result<(), Error> {
        unmount(&self.at, UnmountFlags::NOFOLLOW)
            .map_err(|e| Error::io(format!("unmount {}", self.at.display()))(e.into()))?;
        self.live = false;
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.live {
            return;
        }
        if let Err(e) = unmount(&self.at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            tracing::warn!("unmount {}: {e}", self.at.display());
        }
    }
}

/// Mounts a layer's EROFS, read-only, at an existing directory.
///
/// # Errors
/// [`Error::Tampered`] where a block that the kernel read was not what the root hash says, else [`Error::Io`].
pub fn mount_erofs(device: &Mapped, at: &Path) -> Result<Mounted, Error> {
    let done = mount_device("erofs", device.path(), &[], true, at);
    if done.is_err() && device.tampered().is_ok_and(|t| t) {
        return Err(Error::Tampered(device.name().to_owned()));
    }
    done
}

/// Mounts the file system that [`crate::make_ext4`] made, at an existing directory. Its inode tables are never
/// initialised behind one's back (their blocks are written when first used), nothing is flushed to the disk for a power
/// cut that nothing survives, and after damage to its own blocks it becomes read-only or, on later kernels, answers
/// everything with `EIO`.
///
/// # Errors
/// [`Error::Scratch`].
pub fn mount_ext4(device: &Path, at: &Path) -> Result<Mounted, Error> {
    let options = [
        ("noinit_itable", ""),
        ("inode_readahead_blks", "0"),
        ("barrier", "0"),
        ("errors", "remount-ro"),
        ("nodiscard", ""),
    ];
    mount_device("ext4", device, &options, false, at).map_err(Error::scratch)
}

/// Mounts the file system of an encrypted volume at an existing directory. What its programs flush is flushed; after damage
/// it becomes read-only. `read_only` mounts it so; a journal with work in it is played back all the same, where the disk
/// can be written.
///
/// # Errors
/// [`Error::Volume`].
pub fn mount_lasting_ext4(device: &Path, read_only: bool, at: &Path) -> Result<Mounted, Error> {
    let options = [("noinit_itable", ""), ("errors", "remount-ro"), ("nodiscard", "")];
    mount_device("ext4", device, &options, read_only, at).map_err(Error::volume)
}

fn mount_device(
    kind: &str,
    device: &Path,
    options: &[(&str, &str)],
    read_only: bool,
    at: &Path,
) -> Result<Mounted, Error> {
    let make = || -> rustix::io::Result<OwnedFd> {
        let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&fs, "source", device)?;
        if read_only {
            fsconfig_set_flag(&fs, "ro")?;
        }
        for (name, value) in options {
            match *value {
                "" => fsconfig_set_flag(&fs, *name)?,
                value => fsconfig_set_string(&fs, *name, value)?,
            }
        }
        fsconfig_create(&fs)?;
        let ro = if read_only { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV | ro)
    };
    let step = || format!("mount {kind} of {} at {}", device.display(), at.display());
    let made = make().map_err(|e| Error::io(step())(e.into()))?;
    move_mount(&made, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|e| Error::io(step())(e.into()))?;
    Ok(Mounted::new(at))
}

/// How a container's root is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OverlayOptions {
    /// Whether nothing may be written through it.
    pub read_only: bool,
    /// Whether `fsync` need not reach the disk below `upper`: for one whose content ends with the VM anyway.
    pub volatile: bool,
}

/// Stacks directories (`lowers`, topmost first, 1 to 128) and `upper` above them into one tree at an existing
/// directory. `upper` and `work` are existing directories of one writable file system, `work` empty. Paths may hold
/// any character.
///
/// Redirects, metadata-only copies and the inode index are off and those that a layer might carry are not followed, so
/// that no attribute of a layer decides what is shown.
///
/// # Errors
/// [`Error::TooManyLayers`], [`Error::Invalid`] for none, [`Error::Io`].
pub fn mount_overlay(
    lowers: &[PathBuf],
    upper: &Path,
    work: &Path,
    at: &Path,
    options: OverlayOptions,
) -> Result<Mounted, Error> {
    if lowers.len() > MAX_LOWERS {
        return Err(Error::TooManyLayers(lowers.len()));
    }
    if lowers.is_empty() {
        return Err(Error::Invalid(format!("no layer for the root at {}", at.display())));
    }
    // Named by descriptors: a page of options holds 128 such names, whatever the paths are and hold; and one way
    // serves all kernels (6.5 has `lowerdir+`, 6.1 takes fsconfig strings of 255 bytes only).
    let held: Vec<OwnedFd> =
        lowers.iter().map(PathBuf::as_path).chain([upper, work]).map(directory).collect::<Result<_, _>>()?;
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let (below, writable) = held.split_at(lowers.len());
    let below: Vec<String> = below.iter().map(name).collect();
    let [upper, work] = writable else { return Err(Error::Invalid("no upper".into())) };
    let mut text = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=nofollow,metacopy=off,index=off,xino=auto",
        below.join(":"),
        name(upper),
        name(work)
    );
    if options.volatile {
        text.push_str(",volatile");
    }
    let step = || format!("mount the root of {} layers at {}", lowers.len(), at.display());
    let data = CString::new(text).ok().filter(|t| t.count_bytes() <= MAX_OPTIONS);
    let data = data.ok_or_else(|| Error::Invalid(format!("{}: too many open descriptors", step())))?;
    let flags = MountFlags::NODEV | if options.read_only { MountFlags::RDONLY } else { MountFlags::empty() };
    mount("overlay", at, "overlay", flags, data.as_c_str()).map_err(|e| Error::io(step())(e.into()))?;
    Ok(Mounted::new(at))
}

fn directory(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).map_err(|e| Error::io(format!("open {}", path.display()))(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_layers_is_bounded() {
        let mount = |count: usize| {
            let lowers = vec![PathBuf::from("/nonexistent"); count];
            let nowhere = Path::new("/nonexistent");
            mount_overlay(&lowers, nowhere, nowhere, nowhere, OverlayOptions::default()).unwrap_err()
        };
        assert!(matches!(mount(0), Error::Invalid(_)));
        assert!(matches!(mount(1), Error::Io { .. }));
        assert!(matches!(mount(129), Error::TooManyLayers(129)));
    }
}
