//! One generation of a volume's files while it is being written: from pieces, in order, within bounds.
//!
//! Everything is resolved by the kernel beneath the generation's own folder and through no link
//! (`RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`); the names were checked before (`cocoon_plan::files`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use cocoon_image::{Algorithm, Digest, Hasher};
use cocoon_plan::files::{MAX_FILE_BYTES, MAX_FILES, names, taken};
use rustix::fs::{CWD, Gid, Mode, OFlags, ResolveFlags, Uid, fchmod, fchown, mkdirat, open, openat2};
use rustix::io::Errno;

use super::Refusal;

const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
/// Permission bits that a file may have: neither set-user-id nor set-group-id nor sticky.
const PERMISSIONS: u32 = 0o777;

/// A file, or the next piece of one, as the host sends it.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Path below the volume.
    pub path: &'a str,
    /// Permission bits; of a file's first piece. Others are cleared.
    pub mode: u32,
    /// The owner; of a file's first piece.
    pub uid: u32,
    /// The group; of a file's first piece.
    pub gid: u32,
    /// Where `data` belongs: at the end of what is there.
    pub offset: u64,
    /// The bytes.
    pub data: &'a [u8],
}

/// The files of one generation so far.
pub(super) struct Tree {
    root: OwnedFd,
    files: BTreeMap<String, Option<Digest>>,
    folders: BTreeSet<String>,
    /// The file that a next piece may continue.
    current: Option<Current>,
    /// Bytes of closed files and folders, in whole pages.
    closed: u64,
}

struct Current {
    path: String,
    file: File,
    size: u64,
    hasher: Hasher,
}

impl Tree {
    /// An empty one in the folder at `path`, which exists.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let root = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Tree { root, files: BTreeMap::new(), folders: BTreeSet::new(), current: None, closed: 0 })
    }

    /// What it takes of the pod's bound, in bytes.
    pub(super) fn taken(&self) -> u64 {
        self.closed.saturating_add(self.current.as_ref().map_or(0, |c| taken(c.size)))
    }

    /// Adds a piece. `room` is what the whole generation may take.
    pub(super) fn add(&mut self, piece: &Piece<'_>, room: u64) -> Result<(), Refusal> {
        let parts = names(piece.path).map_err(|e| Refusal::Host(format!("file {:?} {e}", piece.path)))?;
        if piece.offset == 0 && !self.continues(piece) {
            self.close();
            self.begin(piece, &parts)?;
        }
        let Some(current) = self.current.as_mut().filter(|c| c.path == piece.path) else {
            return Err(Refusal::Host(format!(
                "a piece of file {:?}, which is not the last one",
                piece.path
            )));
        };
        if piece.offset != current.size {
            return Err(Refusal::Host(format!("a piece of file {:?} that leaves a gap", piece.path)));
        }
        let size = current.size.saturating_add(piece.data.len() as u64);
        if size > MAX_FILE_BYTES {
            return Err(Refusal::Host(format!("file {:?} of more than {MAX_FILE_BYTES} bytes", piece.path)));
        }
        if self.closed.saturating_add(taken(size)) > room {
            return Err(Refusal::Host("more files than a pod may have".into()));
        }
        current.file.write_all(piece.data).map_err(Refusal::io("write a file of a volume"))?;
        current.hasher.update(piece.data);
        current.size = size;
        Ok(())
    }

    /// Whether a piece at offset 0 belongs to the open file: that is so only while nothing is in it.
    fn continues(&self, piece: &Piece<'_>) -> bool {
        self.current.as_ref().is_some_and(|c| c.path == piece.path && c.size == 0)
    }

    fn begin(&mut self, piece: &Piece<'_>, parts: &[&str]) -> Result<(), Refusal> {
        if self.files.contains_key(piece.path) {
            return Err(Refusal::Host(format!("file {:?} twice", piece.path)));
        }
        if self.files.len() >= MAX_FILES {
            return Err(Refusal::Host(format!("more than {MAX_FILES} files")));
        }
        // To fchown(2) it means "leave it".
        if piece.uid == u32::MAX || piece.gid == u32::MAX {
            return Err(Refusal::Host(format!("file {:?} of nobody", piece.path)));
        }
        let mut prefix = String::new();
        for part in parts.iter().take(parts.len().saturating_sub(1)) {
            self.folder(&prefix, part)?;
            if !prefix.is_empty() {
                prefix.push('/');
            }
            prefix.push_str(part);
        }
        let make = || -> io::Result<File> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let fd = beneath(self.root.as_fd(), piece.path, flags, Mode::from_raw_mode(0o600))?;
            fchown(&fd, Some(Uid::from_raw(piece.uid)), Some(Gid::from_raw(piece.gid)))?;
            fchmod(&fd, Mode::from_raw_mode(piece.mode & PERMISSIONS))?;
            Ok(fd.into())
        };
        let file = make().map_err(|e| match e.raw_os_error() {
            Some(libc::EEXIST | libc::ENOTDIR | libc::EISDIR) => {
                Refusal::Host(format!("{:?} is to be a file and a folder", piece.path))
            }
            _ => Refusal::io("make a file of a volume")(e),
        })?;
        self.files.insert(piece.path.to_owned(), None);
        let hasher = Hasher::new(Algorithm::Sha256);
        self.current = Some(Current { path: piece.path.to_owned(), file, size: 0, hasher });
        Ok(())
    }

    fn folder(&mut self, parent: &str, name: &str) -> Result<(), Refusal> {
        let path = if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
        if self.folders.contains(&path) {
            return Ok(());
        }
        if self.files.contains_key(&path) {
            return Err(Refusal::Host(format!("{path:?} is to be a file and a folder")));
        }
        let make = || -> io::Result<()> {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let at = if parent.is_empty() { "." } else { parent };
            let at = beneath(self.root.as_fd(), at, flags, Mode::empty())?;
            Ok(mkdirat(&at, name, Mode::from_raw_mode(0o755))?)
        };
        make().map_err(Refusal::io("make a folder of a volume"))?;
        self.closed = self.closed.saturating_add(taken(0));
        self.folders.insert(path);
        Ok(())
    }

    fn close(&mut self) {
        if let Some(current) = self.current.take() {
            self.closed = self.closed.saturating_add(taken(current.size));
            self.files.insert(current.path, Some(current.hasher.finish()));
        }
    }

    /// Ends it and holds it against the plan's digests, where there are any: then each file must be one of the plan's, and
    /// none of those that are `there` already may be missing. The host hands over what the pod's containers mount, which
    /// need not be all; what it has handed over it cannot take back.
    pub(super) fn finish(
        mut self,
        digests: Option<&BTreeMap<String, String>>,
        there: &BTreeSet<String>,
    ) -> Result<Complete, Refusal> {
        self.close();
        let mut pinned = BTreeSet::new();
        if let Some(digests) = digests {
            let missing = there.iter().find(|path| !self.files.contains_key(*path));
            // Nothing at all is nobody's part of it.
            let none = digests.keys().next().filter(|_| self.files.is_empty());
            if let Some(missing) = missing.or(none) {
                return Err(Refusal::Digests(format!("file {missing:?} is missing")));
            }
            for (path, digest) in &self.files {
                let found = digest.map(|d| d.to_string()).unwrap_or_default();
                if digests.get(path) != Some(&found) {
                    return Err(Refusal::Digests(format!("file {path:?} is {found}")));
                }
            }
            pinned = self.files.keys().cloned().collect();
        }
        let first = |path: &String| path.split('/').next().unwrap_or_default().to_owned();
        Ok(Complete { names: self.files.keys().map(first).collect(), pinned, taken: self.closed })
    }
}

/// A generation that is complete.
pub(super) struct Complete {
    /// The names right below the volume.
    pub(super) names: BTreeSet<String>,
    /// The files, where the plan has digests.
    pub(super) pinned: BTreeSet<String>,
    /// What it takes of the pod's bound, in bytes.
    pub(super) taken: u64,
}

/// Opens a path below a folder, through no link.
fn beneath(root: std::os::fd::BorrowedFd<'_>, path: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    // EAGAIN says that something was renamed or mounted meanwhile, anywhere on the system (openat2(2)).
    for _ in 0..1000 {
        match openat2(root, path, flags | OFlags::CLOEXEC, mode, BENEATH) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// Copies the files and folders at `from` to `to`, which does not exist, with owners and permissions. There are only
/// those of the guest's own making at `from`.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let stat = std::fs::symlink_metadata(from)?;
    if stat.is_dir() {
        std::fs::create_dir(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else if stat.is_file() {
        std::fs::copy(from, to)?;
    } else {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    std::os::unix::fs::chown(to, Some(stat.uid()), Some(stat.gid()))?;
    rustix::fs::chmodat(CWD, to, Mode::from_raw_mode(stat.mode() & 0o7777), rustix::fs::AtFlags::empty())?;
    Ok(())
}
