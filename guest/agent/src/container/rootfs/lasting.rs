//! What a container's own mounts must not do to each other: lie on files of the host, which go with a newer generation and
//! take along what is mounted on them, or cover one another. The plan's check has refused what its paths tell; this is
//! about where they lead in the image, which may have made one path of two by a link.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::io::Errno;

use super::{RDONLY, Root, attach, paths};
use crate::Error;
use crate::syscalls::mount_setattr;

/// A mount point is on files of the host: as an error number, since nothing else leaves the container's process.
const ON_FILES: Errno = Errno::BUSY;

/// Says which of the container's own mounts failed, and why where its number does not tell.
pub(super) fn step(target: &str, error: &io::Error) -> String {
    if error.raw_os_error() == Some(ON_FILES.raw_os_error()) {
        format!("mount {target} on files of the host")
    } else {
        format!("mount {target}")
    }
}

impl Root {
    /// Attaches a mount at a mount point; gives the mount's id.
    ///
    /// # Errors
    /// The kernel's answer; `EBUSY` for a mount point that is on files of the host.
    pub(super) fn attach(&self, mount: BorrowedFd<'_>, at: BorrowedFd<'_>) -> io::Result<u64> {
        if self.files.contains(&id(at)?) {
            return Err(ON_FILES.into());
        }
        attach(mount, at)?;
        id(mount)
    }

    /// Asks that this mount be found at this path in the end.
    pub(super) fn stays(&mut self, path: &str, mount: u64) {
        self.stay.push((path.to_owned(), mount));
    }

    /// Ends the making of the container's own mounts.
    ///
    /// # Errors
    /// [`Error::Container`] where one of them covers another.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        for (path, mount) in &self.stay {
            let found = || -> io::Result<bool> {
                let at = paths::handle(self.fd(), path)?;
                at.map_or(Ok(false), |at| Ok(id(at.as_fd())? == *mount))
            };
            if !found().map_err(Error::container(format!("find what is mounted at {path}")))? {
                let step = format!("mount {path}, which another mount covers");
                return Err(Error::container(step)(Errno::BUSY));
            }
        }
        for mount in self.closing.drain(..) {
            mount_setattr(mount.as_fd(), RDONLY.bits().into(), 0, false)
                .map_err(Error::container("make the secrets read-only"))?;
        }
        Ok(())
    }
}

/// The id of the mount that a descriptor is on.
fn id(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let found = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    // Kernels before 5.8 leave it out.
    if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    Ok(found.stx_mnt_id)
}
