//! The leaf module with `unsafe`: ioctls of device-mapper and of loop devices.

#![allow(unsafe_code)] // ioctl(2) has no safe form for device-mapper and loop devices.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

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

/// `LOOP_CTL_GET_FREE`, `LOOP_CONFIGURE` and flags, linux/loop.h.
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_config` (linux/loop.h) with the `struct loop_info64` in it: all zero but the file and the flags.
#[repr(C)]
struct LoopConfig {
    file: u32,
    block_size: u32,
    /// Five fields of 64 bits, three of 32.
    before_flags: [u32; 13],
    flags: u32,
    /// Two names of 64 bytes, a key of 32, two 64-bit fields.
    after_flags: [u64; 22],
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 304 && std::mem::offset_of!(LoopConfig, flags) == 60);

/// The number of a loop device that nobody uses.
///
/// # Errors
/// What `ioctl(2)` answers.
pub(crate) fn free_loop(control: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument and answers with a number.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
    u32::try_from(number).map_err(|_| io::Error::last_os_error())
}

/// Puts a loop device over a file, until its last user is gone.
///
/// # Errors
/// What `ioctl(2)` answers; `EBUSY` where the device has a file.
pub(crate) fn configure_loop(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> io::Result<()> {
    let config = LoopConfig {
        file: file.as_raw_fd().unsigned_abs(),
        block_size: 0,
        before_flags: [0; 13],
        flags: LO_FLAGS_AUTOCLEAR,
        after_flags: [0; 22],
        reserved: [0; 8],
    };
    // SAFETY: the kernel reads a `struct loop_config`, whose layout and size `LoopConfig` has; it is alive for the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
