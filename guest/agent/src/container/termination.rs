//! What a container leaves for its owner when it ends: a file of the guest's, mounted at the path that the plan names, on a
//! small file system of its own, so that a container that writes much to it takes nothing from others.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::rootfs::Bind;
use super::shared::Mounted;
use super::user::User;
use crate::Error;

/// How much of it the host may have, in bytes: its end.
pub const MAX_MESSAGE: usize = 4096;
/// Below the container's folder, where the file system is mounted.
const FOLDER: &str = "termination";
/// Its size.
const OPTIONS: &str = "mode=700,size=64k,nr_inodes=4";

/// The file.
#[derive(Debug)]
pub(crate) struct Termination {
    path: PathBuf,
    file: File,
    mounted: Mutex<Option<Mounted>>,
}

impl Termination {
    /// Makes the file below the container's folder, the user's and for everybody in the container to write.
    ///
    /// # Errors
    /// [`Error::Container`].
    pub(crate) fn stage(folder: &Path, user: &User) -> Result<Self, Error> {
        let make = || -> io::Result<Self> {
            let mounted = Mounted::tmpfs(&folder.join(FOLDER), OPTIONS)?;
            let path = mounted.at().join("message");
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            // As kubelet makes it: any user of the container may write.
            file.set_permissions(fs::Permissions::from_mode(0o666))?;
            fchown(&file, Some(user.uid), Some(user.gid))?;
            Ok(Termination { path, file, mounted: Mutex::new(Some(mounted)) })
        };
        make().map_err(Error::container("make the file of the termination message"))
    }

    /// The mount of it.
    pub(crate) fn bind(&self, target: &str) -> Bind {
        let (source, target) = (self.path.clone(), target.to_owned());
        Bind { source, stays: vec![target.clone()], target, directory: false, writable: true }
    }

    /// Its end.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        let limit = u64::try_from(MAX_MESSAGE).unwrap_or(u64::MAX);
        let size = self.file.metadata()?.len();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(size.saturating_sub(limit)))?;
        let mut message = Vec::new();
        file.take(limit).read_to_end(&mut message)?;
        Ok(message)
    }

    /// Takes the file system off; the message can still be read.
    pub(crate) fn take_off(&self) {
        self.mounted.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
