//! The leaf module with `unsafe`: device-mapper's ioctls.

#![allow(unsafe_code)] // ioctl(2) has no safe form for device-mapper.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// An ioctl whose argument is a buffer that begins with a header naming the buffer's length, as device-mapper's do.
/// `header` is the header's size; the caller wrote `buffer.len()` into it.
///
/// # Errors
/// `EINVAL` for a buffer shorter than the header; what `ioctl(2)` answers.
pub(crate) fn ioctl(control: &File, request: u32, buffer: &mut [u8], header: usize) -> io::Result<()> {
    if buffer.len() < header {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: the kernel reads and writes at most the header's data_size bytes at the pointer. That field is set by
    // `dm::Message`, the only caller, to the length of this very buffer, which is borrowed mutably for the call.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), libc::Ioctl::from(request), buffer.as_mut_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
