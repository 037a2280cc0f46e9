//! The directory that layers are unpacked into, and look-ups that cannot leave it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::Error;
use crate::unpack::whiteout::Made;
use crate::unpack::{Budget, implied, overlay};

/// A directory below the root, and its inode number.
#[derive(Clone)]
pub(super) struct Parent {
    fd: Rc<OwnedFd>,
    inode: u64,
}

impl Parent {
    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    pub(super) fn from_fd(fd: OwnedFd) -> Result<Self, Errno> {
        let inode = rustix::fs::fstat(&fd)?.st_ino;
        Ok(Parent { fd: Rc::new(fd), inode })
    }
}

impl AsFd for Parent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(super) struct Root<'a> {
    fd: BorrowedFd<'a>,
    /// Whether it holds one layer in overlayfs' form, else all layers merged.
    overlay: bool,
    /// Whether directories that are only implied get their mark.
    marks: bool,
    /// The directory used last: entries of a directory come together.
    last: Option<(Vec<u8>, Parent)>,
}

/// The kernel gives EAGAIN where a rename elsewhere raced with `..` in a link; nobody renames here, so a few tries
/// are plenty.
const TRIES: u32 = 16;

impl<'a> Root<'a> {
    /// A directory that layers are merged in.
    pub(super) fn merged(fd: BorrowedFd<'a>) -> Self {
        Root { fd, overlay: false, marks: false, last: None }
    }

    /// A directory for one layer in overlayfs' form.
    pub(super) fn overlay(fd: BorrowedFd<'a>, marks: bool) -> Self {
        Root { fd, overlay: true, marks, last: None }
    }

    pub(super) fn is_overlay(&self) -> bool {
        self.overlay
    }

    /// Marks the root itself as only implied.
    pub(super) fn imply(&self) -> Result<(), Error> {
        if !self.marks {
            return Ok(());
        }
        implied::reopen(self.fd, c".")
            .and_then(|fd| implied::set(fd, implied::IMPLIED))
            .map_err(|e| Error::filesystem(b"/", e))
    }

    /// Forgets the last directory: something was removed, so its name may now lead elsewhere.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// Opens a directory by cleaned path; links on the way lead inside the root.
    pub(super) fn lookup(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, ResolveFlags::empty())
    }

    /// Opens a directory for reading, itself not through a link.
    pub(super) fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.open(path, flags, ResolveFlags::empty())
    }

    fn open(&self, path: &[u8], flags: OFlags, more: ResolveFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
        let mut tries = 0;
        loop {
            match rustix::fs::openat2(self.fd, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => tries += 1,
                other => return other,
            }
        }
    }

    /// The directory of this path; `None` where it is missing or not a directory.
    pub(super) fn parent(&mut self, path: &[u8]) -> Result<Option<Parent>, Error> {
        if let Some((known, parent)) = &self.last
            && known == path
        {
            return Ok(Some(parent.clone()));
        }
        let parent = match self.lookup(path).and_then(Parent::from_fd) {
            Ok(parent) => parent,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(e) => return Err(Error::filesystem(path, e)),
        };
        self.last = Some((path.to_vec(), parent.clone()));
        Ok(Some(parent))
    }

    /// The directory of this path; missing ones are charged to `budget`, made with mode 0755 and noted in `made`.
    /// `None` where a part of it is something else than a directory.
    pub(super) fn parent_made(
        &mut self,
        path: &[u8],
        made: &mut Made,
        budget: &mut Budget,
    ) -> Result<Option<Parent>, Error> {
        if let Some(parent) = self.parent(path)? {
            return Ok(Some(parent));
        }
        let fail = |e| Error::filesystem(path, e);
        let mode = Mode::from_raw_mode(0o755);
        let mut have = Vec::new();
        let mut above = self.lookup(b"").and_then(Parent::from_fd).map_err(fail)?;
        for part in path.split(|b| *b == b'/').filter(|p| !p.is_empty()) {
            if !have.is_empty() {
                have.push(b'/');
            }
            have.extend_from_slice(part);
            above = match self.lookup(&have) {
                Ok(fd) => Parent::from_fd(fd).map_err(fail)?,
                Err(Errno::NOENT) => {
                    budget.take_directory(path)?;
                    match rustix::fs::mkdirat(&above, part, mode) {
                        Ok(()) => made.add(&above, part),
                        // A link that leads nowhere.
                        Err(Errno::EXIST) => return Ok(None),
                        Err(e) => return Err(fail(e)),
                    }
                    let made = self.lookup(&have).and_then(Parent::from_fd).map_err(fail)?;
                    plain(&made).map_err(fail)?;
                    if self.marks {
                        implied::mark(&made, self.fd).map_err(fail)?;
                    }
                    made
                }
                // A whiteout of this name came first: the directory is new, and nothing below it shows.
                Err(Errno::NOTDIR)
                    if self.overlay && overlay::mark_to_directory(&above, part, mode).map_err(fail)? =>
                {
                    budget.take_directory(path)?;
                    let made = self.lookup(&have).and_then(Parent::from_fd).map_err(fail)?;
                    plain(&made).map_err(fail)?;
                    made
                }
                Err(Errno::NOTDIR) => return Ok(None),
                Err(e) => return Err(fail(e)),
            };
        }
        self.last = Some((path.to_vec(), above.clone()));
        Ok(Some(above))
    }
}

/// What a directory gets that no entry describes, whatever the umask says and whatever group the directory above it
/// hands down.
fn plain(directory: &Parent) -> Result<(), Errno> {
    let directory = implied::reopen(directory, c".")?;
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    rustix::fs::fchown(&directory, Some(user), Some(group))?;
    rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o755))
}
