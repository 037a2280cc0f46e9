//! A pod's scratch disk. The guest encrypts it with a key of its own, so to this host it is noise.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cocoon_stage::{Code, Failure, Stage};
use cocoon_vmm::Disk;

use crate::run_dir::disk;

/// By which the guest finds it.
const SERIAL: &str = "scratch";
/// QEMU's and the guest's unit.
const PAGE: u64 = 4096;
/// Space that a scratch disk leaves free on its file system.
const RESERVE: u64 = 64 << 20;

/// A sparse file without a name: however the pod and its processes end, its space is free again.
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
        file.set_len(bytes).map_err(|e| match e.kind() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn it_is_sparse_private_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(dir.path(), 64 << 20).unwrap();
        let made = scratch.disk();
        let found = made.path.metadata().unwrap();
        assert_eq!((found.len(), found.mode() & 0o777, found.blocks()), (64 << 20, 0o600, 0));
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
