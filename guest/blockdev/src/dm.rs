//! Device-mapper's control interface: linux/dm-ioctl.h, version 4 of it, by our own encoding.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::{Error, sys};

/// The device that takes the ioctls; devtmpfs makes it when `dm_mod` is loaded.
const CONTROL: &str = "/dev/mapper/control";
/// `sizeof(struct dm_ioctl)`.
const HEADER: usize = 312;
/// `sizeof(struct dm_target_spec)`.
const SPEC: usize = 40;
/// Room for names (`DM_NAME_LEN`), one byte of it the end.
const MAX_NAME: usize = 127;
/// The largest answer that is taken.
const ANSWER: usize = 16 * 1024;

const READ_ONLY: u32 = 1 << 0;
const SUSPEND: u32 = 1 << 1;
const BUFFER_FULL: u32 = 1 << 8;
const SECURE_DATA: u32 = 1 << 15;
const DEFERRED_REMOVE: u32 = 1 << 17;

/// The commands in use, with their numbers.
#[derive(Clone, Copy, Debug)]
enum Command {
    Version = 0,
    DevCreate = 3,
    DevRemove = 4,
    DevSuspend = 6,
    DevStatus = 7,
    TableLoad = 9,
    TableStatus = 12,
}

impl Command {
    /// `_IOWR(0xfd, number, struct dm_ioctl)`.
    const fn request(self) -> u32 {
        (3 << 30) | (312 << 16) | (0xfd << 8) | self as u32
    }
}

/// One line of a table that covers the device from its first sector.
pub struct Target<'a> {
    /// `verity`, `crypt`, `integrity`, …: at most 15 bytes.
    pub kind: &'a str,
    /// Its length in sectors of 512 bytes.
    pub sectors: u64,
    /// Its parameters. May hold keys: copies are wiped, here and in the kernel.
    pub parameters: Zeroizing<String>,
}

/// What the kernel says of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// How often it is open.
    pub open: u32,
    /// Whether it is read-only.
    pub read_only: bool,
}

impl Status {
    /// `major:minor`, as tables name devices.
    pub fn number(&self) -> String {
        format!("{}:{}", self.major, self.minor)
    }

    /// The node that devtmpfs makes.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/dm-{}", self.minor))
    }
}

/// An open control device.
#[derive(Debug)]
pub struct Control(File);

impl Control {
    /// Opens it and agrees on a version.
    ///
    /// # Errors
    /// [`Error::Io`] where the kernel has no device-mapper of version 4.
    pub fn open() -> Result<Self, Error> {
        let file = OpenOptions::new().read(true).write(true).open(CONTROL);
        let control = Control(file.map_err(Error::io(format!("open {CONTROL}")))?);
        control.send(Command::Version, Message::new("", 0, 0)?, "version")?;
        Ok(control)
    }

    /// The version of the kernel's interface.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn version(&self) -> Result<[u32; 3], Error> {
        let answer = self.send(Command::Version, Message::new("", 0, 0)?, "version")?;
        Ok([answer.u32(0), answer.u32(4), answer.u32(8)])
    }

    /// Makes a device of that name (1 to 127 bytes, no `/`), without a table; the kernel chooses its number.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the name; [`Error::Io`], `EBUSY` where there is such a device.
    pub fn create(&self, name: &str) -> Result<Status, Error> {
        check_name(name)?;
        Ok(self.send(Command::DevCreate, Message::new(name, 0, 0)?, name)?.status())
    }

    /// Gives the device its next table; it takes effect at [`Control::resume`].
    ///
    /// # Errors
    /// [`Error::Io`] with the kernel's answer: `EINVAL` for parameters that the target does not take, `ENOENT` for an
    /// algorithm that the kernel lacks.
    pub fn load(&self, name: &str, target: &Target<'_>, read_only: bool) -> Result<(), Error> {
        let size = (SPEC + target.parameters.len() + 1).next_multiple_of(8);
        let flags = SECURE_DATA | if read_only { READ_ONLY } else { 0 };
        let mut message = Message::new(name, flags, size)?;
        message.put(20, &1_u32.to_ne_bytes());
        message.put(HEADER + 8, &target.sectors.to_ne_bytes());
        message.put(HEADER + 20, &u32_of(size)?.to_ne_bytes());
        if target.kind.len() > 15 || target.parameters.bytes().any(|b| b == 0) {
            return Err(Error::Invalid(format!("device {name}: no target {:?}", target.kind)));
        }
        message.put(HEADER + 24, target.kind.as_bytes());
        message.put(HEADER + SPEC, target.parameters.as_bytes());
        self.send(Command::TableLoad, message, name).map(drop)
    }

    /// Puts the loaded table into effect and lets I/O through.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn resume(&self, name: &str) -> Result<Status, Error> {
        Ok(self.send(Command::DevSuspend, Message::new(name, 0, 0)?, name)?.status())
    }

    /// Holds I/O back until [`Control::resume`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn suspend(&self, name: &str) -> Result<(), Error> {
        self.send(Command::DevSuspend, Message::new(name, SUSPEND, 0)?, name).map(drop)
    }

    /// Removes the device; with `deferred`, when its last user closes it.
    ///
    /// # Errors
    /// [`Error::Io`]: `EBUSY` while it is in use, `ENXIO` where there is none.
    pub fn remove(&self, name: &str, deferred: bool) -> Result<(), Error> {
        let flags = if deferred { DEFERRED_REMOVE } else { 0 };
        self.send(Command::DevRemove, Message::new(name, flags, 0)?, name).map(drop)
    }

    /// What the kernel says of the device.
    ///
    /// # Errors
    /// [`Error::Io`]: `ENXIO` where there is none.
    pub fn status(&self, name: &str) -> Result<Status, Error> {
        Ok(self.send(Command::DevStatus, Message::new(name, 0, 0)?, name)?.status())
    }

    /// The status line of the device's first target, e.g. `V` or `C` for verity.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Invalid`] for a device without a table and for an answer that cannot be read.
    pub fn table_status(&self, name: &str) -> Result<String, Error> {
        let answer = self.send(Command::TableStatus, Message::new(name, 0, ANSWER)?, name)?;
        let bad = || Error::Invalid(format!("device {name}: the kernel's answer has no status"));
        if answer.u32(28) & BUFFER_FULL != 0 || answer.u32(20) == 0 {
            return Err(bad());
        }
        let start = usize::try_from(answer.u32(16)).map_err(|_| bad())?;
        let text = answer.0.get(start.saturating_add(SPEC)..).ok_or_else(bad)?;
        let end = text.iter().position(|b| *b == 0).ok_or_else(bad)?;
        text.get(..end).map(|t| String::from_utf8_lossy(t).into_owned()).ok_or_else(bad)
    }

    fn send(&self, command: Command, mut message: Message, name: &str) -> Result<Message, Error> {
        let answer = sys::ioctl(&self.0, command.request(), &mut message.0, HEADER);
        answer.map_err(Error::io(format!("device-mapper, {command:?} of {name}")))?;
        Ok(message)
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let fits = !name.is_empty() && name.len() <= MAX_NAME && name != "control";
    if fits && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/') {
        return Ok(());
    }
    Err(Error::Invalid(format!("{name:?} is no name for a device")))
}

fn u32_of(size: usize) -> Result<u32, Error> {
    u32::try_from(size).map_err(|_| Error::Invalid("a table too large".into()))
}

/// A `struct dm_ioctl` and what follows it; wiped when dropped.
struct Message(Zeroizing<Vec<u8>>);

impl Message {
    fn new(name: &str, flags: u32, data: usize) -> Result<Self, Error> {
        if name.len() > MAX_NAME {
            return Err(Error::Invalid(format!("{name:?} is no name for a device")));
        }
        let mut message = Message(Zeroizing::new(vec![0; HEADER + data]));
        message.put(0, &4_u32.to_ne_bytes());
        message.put(12, &u32_of(HEADER + data)?.to_ne_bytes());
        message.put(16, &u32_of(HEADER)?.to_ne_bytes());
        message.put(28, &flags.to_ne_bytes());
        message.put(48, name.as_bytes());
        Ok(message)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn u32(&self, at: usize) -> u32 {
        self.0.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_ne_bytes(*b))
    }

    fn status(&self) -> Status {
        // The kernel's huge_encode_dev: minor's low 8 bits, 12 bits of major, the rest of minor.
        let dev = self.u32(40);
        Status {
            major: (dev >> 8) & 0xfff,
            minor: (dev & 0xff) | ((dev >> 12) & 0xf_ff00),
            open: self.u32(24),
            read_only: self.u32(28) & READ_ONLY != 0,
        }
    }
}

/// Whether the error is the kernel's answer of that number.
pub(crate) fn is(error: &Error, number: i32) -> bool {
    matches!(error, Error::Io { source, .. } if source.raw_os_error() == Some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_numbers_of_the_header() {
        // As `strace dmsetup` shows them.
        assert_eq!(Command::Version.request(), 0xc138_fd00);
        assert_eq!(Command::DevCreate.request(), 0xc138_fd03);
        assert_eq!(Command::TableStatus.request(), 0xc138_fd0c);
    }

    #[test]
    fn names_are_checked_and_devices_decoded() {
        assert!(check_name("cocoon-layer-0").is_ok());
        for bad in ["", "a/b", "a b", "control", "a\0", &"x".repeat(128)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        let mut message = Message::new("x", READ_ONLY, 0).unwrap();
        message.put(40, &0x0010_fd02_u32.to_ne_bytes());
        let status = message.status();
        assert_eq!((status.number().as_str(), status.read_only), ("253:258", true));
        assert_eq!(status.path(), PathBuf::from("/dev/dm-258"));
    }
}
