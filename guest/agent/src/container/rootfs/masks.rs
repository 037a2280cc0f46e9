//! What of `/proc` and `/sys` a container does not see, or may only read.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{CWD, FileType, fstat};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::{INERT, RDONLY, Root, attach, memory, paths};
use crate::Error;
use crate::syscalls::mount_setattr;

/// What containers must not see, as container engines mask it.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/kpagecount",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// What containers may only read.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

impl Root {
    /// Covers what containers must not see and makes read-only what they must not change.
    ///
    /// # Errors
    /// [`Error::Container`] with the path.
    pub(super) fn mask_all(&self) -> Result<(), Error> {
        for path in MASKED {
            self.mask(path).map_err(Error::container(format!("mask {path}")))?;
        }
        for path in READ_ONLY {
            self.make_read_only(path).map_err(Error::container(format!("make {path} read-only")))?;
        }
        Ok(())
    }

    fn mask(&self, path: &str) -> io::Result<()> {
        let Some(at) = paths::handle(self.fd(), path)? else { return Ok(()) };
        let is_directory = FileType::from_raw_mode(fstat(&at)?.st_mode).is_dir();
        let cover = if is_directory {
            memory("0", "755", INERT | RDONLY)?
        } else {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            open_tree(CWD, "/dev/null", flags)?
        };
        attach(cover.as_fd(), at.as_fd())
    }

    fn make_read_only(&self, path: &str) -> io::Result<()> {
        let Some(at) = paths::handle(self.fd(), path)? else { return Ok(()) };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        let same = open_tree(&at, "", flags)?;
        mount_setattr(same.as_fd(), RDONLY.bits().into(), 0, true)?;
        attach(same.as_fd(), at.as_fd())
    }
}
