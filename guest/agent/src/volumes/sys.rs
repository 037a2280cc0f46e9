//! The leaf module with `unsafe` of volumes: an ioctl that rustix does not offer.

#![allow(unsafe_code)] // ioctl(2) with a pointer to an int has no safe form.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `BLKROSET`, linux/fs.h.
const BLKROSET: libc::Ioctl = 0x125d;

/// Has the kernel refuse every write to a disk, from whoever opens it.
///
/// # Errors
/// What `ioctl(2)` answers.
pub(super) fn set_read_only(disk: BorrowedFd<'_>) -> io::Result<()> {
    let yes: libc::c_int = 1;
    // SAFETY: BLKROSET reads one int at the pointer, which is alive for the call.
    let result = unsafe { libc::ioctl(disk.as_raw_fd(), BLKROSET, &raw const yes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
