//! A pod's scratch disk. The guest encrypts it with a key of its own, so to this host it is noise.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cocoon_stage::{Code, Failure, Stage};
use cocoon_vmm::Disk;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::run_dir::disk;

/// By which the guest finds it.
const SERIAL: &str = "scratch";
/// QEMU's and the guest's unit.
const PAGE: u64 = 4096;
/// Space that a scratch disk leaves free on its file system.
const RESERVE: u64 = 64 << 20;

/// A file without a name: however the pod and its processes end, its space is free again. The space is this pod's from
/// the start, so that no other pod is promised it; only a file system that cannot do so gives it out as it is written.
pub(crate) struct Scratch(File);

impl Scratch {
    /// Makes one, with its space in the folder's file system.
    ///
    /// # Errors
    /// `BOOT-DISK-FULL` where that has no room for all of it now; `PLAN-INVALID` for a size that is no disk's.
    pub(crate) fn create(within: &Path, bytes: u64) -> Result<Scratch, Failure> {
        if bytes == 0 || !bytes.is_multiple_of(PAGE) {
            let why = format!("a scratch disk of {bytes} bytes has no whole pages");
            return Err(Failure::new(Code::PlanInvalid, why).at(Stage::Boot));
        }
        let space = rustix::fs::statvfs(within).map_err(|e| disk(e.into()))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < bytes.saturating_add(RESERVE) {
            let within = within.display();
            let why = format!("the scratch disk may take {bytes} bytes, but {within} has {free} free");
            return Err(Failure::new(Code::BootDiskFull, why));
        }
        let file = tempfile::tempfile_in(within).map_err(disk)?;
        // It has no name, but a number in /proc.
        file.set_permissions(Permissions::from_mode(0o600)).map_err(disk)?;
        reserve(&file, bytes).map_err(|e| match e.kind() {
            // Larger than any file of this file system.
            io::ErrorKind::FileTooLarge => disk(io::ErrorKind::StorageFull.into()),
            _ => disk(e),
        })?;
        Ok(Scratch(file))
    }

    /// The disk, for a QEMU that starts while this lives.
    pub(crate) fn disk(&self) -> Disk {
        let path = format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into();
        Disk { path, serial: SERIAL.into(), read_only: false }
    }
}

/// Gives the file its length and its space.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    loop {
        match fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return file.set_len(bytes),
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn it_has_its_space_is_private_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(dir.path(), 64 << 20).unwrap();
        let made = scratch.disk();
        let found = made.path.metadata().unwrap();
        assert_eq!((found.len(), found.mode() & 0o777), (64 << 20, 0o600));
        // In blocks of 512 bytes; none of them on a file system that cannot reserve.
        assert!(found.blocks() == 0 || found.blocks() >= (64 << 20) / 512, "{}", found.blocks());
        assert!(!made.read_only && made.serial == "scratch");
        let mut file = File::options().read(true).write(true).open(&made.path).unwrap();
        file.write_all(b"x").unwrap();
        let mut first = [0; 1];
        (&scratch.0).read_exact(&mut first).unwrap();
        assert_eq!(&first, b"x");
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
        drop(scratch);
        assert!(!made.path.exists());
    }

    #[test]
    fn no_two_pods_are_promised_the_same_space() {
        let dir = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=200m", "tmpfs"])
            .arg(dir.path())
            .output()
            .is_ok_and(|o| o.status.success());
        if !mounted {
            return println!("skipped: a tmpfs cannot be mounted");
        }
        let first = Scratch::create(dir.path(), 100 << 20);
        let second = Scratch::create(dir.path(), 100 << 20).err().map(|e| e.code);
        let promised = first.is_ok();
        drop(first);
        let third = Scratch::create(dir.path(), 100 << 20).map(drop);
        let _ = std::process::Command::new("umount").arg("-l").arg(dir.path()).status();
        assert_eq!((promised, second), (true, Some(Code::BootDiskFull)));
        assert!(third.is_ok(), "the space is free again");
    }

    #[test]
    fn what_cannot_be_written_later_is_refused_now() {
        let dir = tempfile::tempdir().unwrap();
        for (bytes, code) in [
            (1 << 60, Code::BootDiskFull),
            (u64::MAX - 4095, Code::BootDiskFull),
            (0, Code::PlanInvalid),
            (5000, Code::PlanInvalid),
        ] {
            assert_eq!(Scratch::create(dir.path(), bytes).err().unwrap().code, code, "{bytes}");
        }
    }
}
