//! Volumes with a limit on a file system that is there: an ext4 of its own in a sparse file, through a loop device.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::mount::mount_ext4;
use crate::{Error, Mounted, make_ext4, sys};

/// The smallest volume, in bytes: what an ext4 file system takes.
pub const MIN_VOLUME: u64 = 16 << 20;
/// How often a free loop device may be gone before it is taken.
const TRIES: u32 = 64;

/// Makes an empty volume of at most `bytes` bytes ([`MIN_VOLUME`] or more; the file system's own records count) in `file`,
/// which takes only the space of what is written, and mounts it at `at`. What is to be shared is the folder
/// [`volume_root`], anybody's to write. The mount and the device end with the result.
///
/// # Errors
/// [`Error::Scratch`] with the step that failed.
pub fn make_volume(file: &Path, bytes: u64, at: &Path) -> Result<Mounted, Error> {
    make(file, bytes, at).map_err(Error::scratch)
}

/// The folder of a volume that is mounted at `at`.
pub fn volume_root(at: &Path) -> PathBuf {
    at.join("volume")
}

fn make(file: &Path, bytes: u64, at: &Path) -> Result<Mounted, Error> {
    let step = |what: &str, path: &Path| Error::io(format!("{what} {}", path.display()));
    let folder =
        |path: &Path| DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(step("make", path));
    folder(file.parent().unwrap_or(Path::new("/")))?;
    folder(at)?;
    let backing = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(file);
    let backing = backing.map_err(step("make", file))?;
    let done = backing.set_len(bytes).map_err(step("make", file)).and_then(|()| {
        make_ext4(file, bytes)?;
        let (device, path) = attach(&backing).map_err(step("attach a loop device to", file))?;
        let mounted = mount_ext4(&path, at)?;
        // From here on the mount holds the device, which goes with it.
        drop(device);
        let root = volume_root(at);
        let made = fs::create_dir(&root)
            .and_then(|()| fs::set_permissions(&root, fs::Permissions::from_mode(0o777)));
        made.map_err(step("make", &root))?;
        Ok(mounted)
    });
    if done.is_err() {
        let _ = fs::remove_file(file);
    }
    done
}

/// Puts a free loop device over a file; it ends with its last user.
fn attach(backing: &File) -> io::Result<(File, PathBuf)> {
    let both = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
    let control = both(Path::new("/dev/loop-control"))?;
    for _ in 0..TRIES {
        let number = sys::free_loop(control.as_fd())?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = both(&path)?;
        match sys::configure_loop(device.as_fd(), backing.as_fd()) {
            Ok(()) => return Ok((device, path)),
            // Somebody else was quicker.
            Err(e) if e.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {}
            Err(e) => return Err(e),
        }
    }
    Err(Errno::BUSY.into())
}
