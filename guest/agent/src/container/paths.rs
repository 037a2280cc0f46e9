//! Paths inside a container's root file system, which an image may have filled with traps: symbolic links that
//! lead outside, devices, FIFOs. Everything is resolved by the kernel with `RESOLVE_IN_ROOT`, from a descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, fchmod, fstat, mkdirat, openat2, statat, unlinkat,
};
use rustix::io::Errno;

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// For paths below a volume: links of other containers may lead elsewhere in it, but not out of it.
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_XDEV);

fn open(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    resolve(root, path, flags, IN_ROOT)
}

fn resolve(root: BorrowedFd<'_>, path: &str, flags: OFlags, how: ResolveFlags) -> io::Result<OwnedFd> {
    let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o644) } else { Mode::empty() };
    // EAGAIN says that something was renamed or mounted meanwhile, anywhere on the system (openat2(2)).
    let mut tries = 0;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, mode, how) {
            Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => tries += 1,
            other => return Ok(other?),
        }
    }
}

/// How often a path is resolved anew where the kernel could not be sure.
const TRIES: u32 = 1000;

/// Opens a regular file for reading; `None` where there is none.
///
/// # Errors
/// The kernel's answer; something that is not a regular file.
pub(crate) fn open_file(root: BorrowedFd<'_>, path: &str) -> io::Result<Option<OwnedFd>> {
    // Not blocking, so that a FIFO in its place does not hold the guest up.
    let fd = match open(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Ok(fd) => fd,
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ENOTDIR) => {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    if FileType::from_raw_mode(fstat(&fd)?.st_mode).is_file() {
        Ok(Some(fd))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"))
    }
}

/// A handle on whatever is at the path; `None` where there is nothing.
///
/// # Errors
/// The kernel's answer.
pub(crate) fn handle(root: BorrowedFd<'_>, path: &str) -> io::Result<Option<OwnedFd>> {
    match open(root, path, OFlags::PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// A handle on the directory at the path; it and its parents are made (root's, 0755) where they are missing.
///
/// # Errors
/// The kernel's answer, such as `ENOTDIR` where a part is not a directory.
pub(crate) fn directory(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open(root, path, flags) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        done => return done,
    }
    let mut at = open(root, "/", flags)?;
    let mut prefix = String::new();
    for part in path.split('/').filter(|p| !p.is_empty() && *p != ".") {
        prefix.push('/');
        prefix.push_str(part);
        at = match open(root, &prefix, flags) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                mkdirat(&at, part, Mode::from_raw_mode(0o755))?;
                open(root, &prefix, flags)?
            }
            other => other?,
        };
    }
    Ok(at)
}

/// A handle on the file at the path, made empty where it is missing, to be mounted over. A dangling symbolic
/// link (such as `/etc/resolv.conf` of many images) is replaced by a file.
///
/// # Errors
/// The kernel's answer; a directory in its place.
pub(crate) fn mount_point_file(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    if let Some(fd) = handle(root, path)? {
        if FileType::from_raw_mode(fstat(&fd)?.st_mode).is_dir() {
            return Err(Errno::ISDIR.into());
        }
        return Ok(fd);
    }
    let (parent, name) = path.rsplit_once('/').ok_or(Errno::INVAL)?;
    let parent = directory(root, if parent.is_empty() { "/" } else { parent })?;
    if let Ok(stat) = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)
        && FileType::from_raw_mode(stat.st_mode).is_symlink()
    {
        unlinkat(&parent, name, AtFlags::empty())?;
    }
    drop(open(parent.as_fd(), name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW)?);
    open(parent.as_fd(), name, OFlags::PATH | OFlags::NOFOLLOW)
}

/// A handle on a file or directory below a volume's root.
///
/// # Errors
/// The kernel's answer: `EXDEV` where a link leads out; something that is neither file nor directory.
pub(crate) fn beneath(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let fd = resolve(root, path, OFlags::PATH, BENEATH)?;
    let kind = FileType::from_raw_mode(fstat(&fd)?.st_mode);
    if kind.is_file() || kind.is_dir() {
        Ok(fd)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "neither a file nor a directory"))
    }
}

/// The same; directories that are missing are made, anybody's as the volume itself is.
///
/// # Errors
/// As [`beneath`].
pub(crate) fn made_beneath(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    match beneath(root, path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        done => return done,
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let mut at = resolve(root, ".", flags, BENEATH)?;
    let mut prefix = String::new();
    for part in path.split('/') {
        if !prefix.is_empty() {
            prefix.push('/');
        }
        prefix.push_str(part);
        at = match resolve(root, &prefix, flags, BENEATH) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // Another container may make it meanwhile, or put a link there: that is refused, and nothing is done by name
                // once the folder is open.
                let made = match mkdirat(&at, part, Mode::from_raw_mode(0o777)) {
                    Err(Errno::EXIST) => false,
                    done => done.map(|()| true)?,
                };
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let folder = resolve(at.as_fd(), part, flags, BENEATH | ResolveFlags::NO_SYMLINKS)?;
                if made {
                    // Its group is the volume's where that hands it on.
                    let inherited = Mode::from_raw_mode(fstat(&folder)?.st_mode) & Mode::SGID;
                    fchmod(&folder, Mode::RWXU | Mode::RWXG | Mode::RWXO | inherited)?;
                }
                folder
            }
            other => other?,
        };
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn root(dir: &tempfile::TempDir) -> fs::File {
        fs::File::open(dir.path().join("root")).unwrap()
    }

    fn sample() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root/etc")).unwrap();
        fs::write(dir.path().join("secret"), "outside").unwrap();
        fs::write(dir.path().join("root/etc/passwd"), "inside").unwrap();
        dir
    }

    #[test]
    fn links_never_lead_outside() {
        let dir = sample();
        symlink("../../../../secret", dir.path().join("root/etc/link")).unwrap();
        symlink(dir.path().join("secret"), dir.path().join("root/etc/absolute")).unwrap();
        symlink("/../..", dir.path().join("root/up")).unwrap();
        let root = root(&dir);
        assert!(open_file(root.as_fd(), "/etc/link").unwrap().is_none());
        assert!(open_file(root.as_fd(), "/etc/absolute").unwrap().is_none());
        assert!(open_file(root.as_fd(), "/up/etc/passwd").unwrap().is_some());
        directory(root.as_fd(), "/up/new/deep").unwrap();
        assert!(dir.path().join("root/new/deep").is_dir());
        assert!(!dir.path().join("new").exists());
    }

    #[test]
    fn what_is_not_a_file_is_refused_without_blocking() {
        let dir = sample();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("root/etc/fifo"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(open_file(root(&dir).as_fd(), "/etc/fifo").is_err());
        assert!(open_file(root(&dir).as_fd(), "/etc").is_err());
        assert!(open_file(root(&dir).as_fd(), "/etc/passwd/x").unwrap().is_none());
        assert!(directory(root(&dir).as_fd(), "/etc/passwd").is_err());
    }

    #[test]
    fn mount_points_are_made_and_dangling_links_replaced() {
        let dir = sample();
        symlink("../run/systemd/resolve/stub-resolv.conf", dir.path().join("root/etc/resolv.conf")).unwrap();
        symlink("../../../../escaped", dir.path().join("root/etc/hosts")).unwrap();
        for path in ["/etc/resolv.conf", "/etc/hosts", "/run/secrets/token", "/etc/passwd"] {
            mount_point_file(root(&dir).as_fd(), path).unwrap();
            assert!(dir.path().join("root").join(&path[1..]).symlink_metadata().unwrap().is_file(), "{path}");
        }
        assert!(!dir.path().join("escaped").exists());
        assert_eq!(fs::read(dir.path().join("root/etc/passwd")).unwrap(), b"inside");
        assert!(mount_point_file(root(&dir).as_fd(), "/etc").is_err());
    }
}
