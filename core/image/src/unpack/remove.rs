//! Removes trees of any depth with bounded stack and descriptors. A hostile layer can nest directories without
//! end (through its own links), which a plain recursive removal would not survive.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// Directories held open at once; deeper ones are moved up to the top and removed from there.
const MAX_OPEN: u32 = 24;

/// Removes what is at `path`, directory or not; what is not there is no error. Links are not followed.
///
/// # Errors
/// What the system said.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let parent = match File::open(parent) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    match remove_at(&parent, std::os::unix::ffi::OsStrExt::as_bytes(name)) {
        Err(Errno::NOENT) => Ok(()),
        other => Ok(other?),
    }
}

/// Removes a name from a directory, with everything below it.
pub(super) fn remove_at(parent: impl AsFd, name: &[u8]) -> Result<(), Errno> {
    let parent = parent.as_fd();
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return other,
    }
    let mut moved = 0;
    loop {
        let top = open(parent, name)?;
        for child in children(&top)? {
            remove_in(&top, &top, &child, 0, &mut moved)?;
        }
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            // What was too deep is at the top now.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            other => return other,
        }
    }
}

fn remove_in(top: &OwnedFd, within: &OwnedFd, name: &[u8], depth: u32, moved: &mut u64) -> Result<(), Errno> {
    match rustix::fs::unlinkat(within, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        other => return other,
    }
    match rustix::fs::unlinkat(within, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        other => return other,
    }
    if depth >= MAX_OPEN {
        loop {
            *moved = moved.saturating_add(1);
            let free = format!(".{moved:x}");
            match rustix::fs::renameat_with(within, name, top, free.as_bytes(), RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                other => return other,
            }
        }
    }
    let directory = open(within, name)?;
    for child in children(&directory)? {
        remove_in(top, &directory, &child, depth + 1, moved)?;
    }
    drop(directory);
    rustix::fs::unlinkat(within, name, AtFlags::REMOVEDIR)
}

fn open(within: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(within, name, flags, Mode::empty())
}

fn children(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut all = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            all.push(name.to_vec());
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_deeper_trees_than_paths_can_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut at = File::open(dir.path()).unwrap();
        rustix::fs::mkdirat(&at, "t", Mode::RWXU).unwrap();
        at = open(&at, b"t").unwrap().into();
        for i in 0..3000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            if i % 7 == 0 {
                rustix::fs::symlinkat("/", &at, ".1").unwrap();
            }
            at = open(&at, b"d").unwrap().into();
        }
        remove_tree(&dir.path().join("t")).unwrap();
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
        remove_tree(&dir.path().join("t")).unwrap();
    }

    #[test]
    fn links_are_removed_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("kept");
        std::fs::create_dir_all(&kept).unwrap();
        std::fs::write(kept.join("f"), "x").unwrap();
        std::fs::create_dir(dir.path().join("t")).unwrap();
        std::os::unix::fs::symlink(&kept, dir.path().join("t/l")).unwrap();
        remove_tree(&dir.path().join("t")).unwrap();
        assert!(kept.join("f").exists() && !dir.path().join("t").exists());
    }
}
