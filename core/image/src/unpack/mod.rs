//! Unpacks layers: on top of each other into one directory ([`unpack`]), or each into its own, ready to be a lower
//! layer of overlayfs ([`unpack_layer`], see [`overlay`]).
//!
//! Names are re-rooted (a leading `/` is dropped) and cleaned; one that climbs out with `..` is refused. Parents are
//! resolved by the kernel with `openat2(RESOLVE_IN_ROOT)`, so symbolic links in lower layers, absolute or not,
//! lead inside the root only; the last component is always created anew and never followed. Devices are refused.
//! A whiteout deletes what lower layers left, or marks it deleted.
//!
//! Nothing here is verified until the stream ended: on any error the caller deletes the whole directory.

pub mod implied;
mod limits;
mod meta;
pub mod name;
pub mod overlay;
mod remove;
mod restore;
mod root;
mod whiteout;

use std::io::{BufRead, Read};
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

pub use limits::{Account, Budget, Limits};
pub use meta::is_layers_own;
pub use remove::remove_tree;
pub use restore::restore;

use crate::error::printable;
use crate::tar::{Entry, Kind, Reader};
use crate::unpack::name::Target;
use crate::unpack::root::{Parent, Root};
use crate::{Error, tar};

/// How a layer is unpacked.
#[derive(Clone, Copy, Debug)]
pub struct UnpackOptions {
    /// Keep owners (needs root). Without it everything belongs to the calling user, and [`unpack_layer`] does not mark
    /// directories that are only [`implied`].
    pub preserve_owner: bool,
}

impl Default for UnpackOptions {
    fn default() -> Self {
        UnpackOptions { preserve_owner: true }
    }
}

/// What a layer held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries applied, whiteouts included.
    pub entries: u64,
    /// Bytes of file content.
    pub bytes: u64,
    /// Extended attributes of kind `user.` that the file system does not support.
    pub skipped_xattrs: u64,
}

/// Bytes looked through after damage for the cause that the stages below may know.
const MAX_LOOK_FOR_CAUSE: u64 = 64 << 20;

/// Unpacks one layer's tar into `root` and reads the stream to its end.
///
/// `budget` spans all layers of an image. With a [`crate::LayerPipeline`] (or what it fed) as `reader`, success means
/// that the layer was verified as a whole.
///
/// # Errors
/// [`Error::Unsafe`], [`Error::Corrupt`], [`Error::TooLarge`], [`Error::Filesystem`], or what the reader gives.
pub fn unpack(
    reader: impl BufRead,
    root: BorrowedFd<'_>,
    options: &UnpackOptions,
    budget: &mut Budget,
) -> Result<Summary, Error> {
    run(reader, Root::merged(root), options, budget)
}

/// Unpacks one layer's tar into the empty directory `root` in the form that overlayfs takes as a lower layer, and
/// reads the stream to its end. Needs the right to set `trusted.` attributes (`CAP_SYS_ADMIN`).
///
/// # Errors
/// As [`unpack`]; also where a hard link's target is not in this layer, or a mark of overlayfs cannot be set.
pub fn unpack_layer(
    reader: impl BufRead,
    root: BorrowedFd<'_>,
    options: &UnpackOptions,
    budget: &mut Budget,
) -> Result<Summary, Error> {
    run(reader, Root::overlay(root, options.preserve_owner), options, budget)
}

fn run(
    reader: impl BufRead,
    root: Root<'_>,
    options: &UnpackOptions,
    budget: &mut Budget,
) -> Result<Summary, Error> {
    let mut unpacker = Unpacker {
        tar: Reader::new(reader),
        root,
        options: *options,
        budget,
        made: whiteout::Made::default(),
        noted: Vec::new(),
        root_described: false,
        directories: meta::Deferred::default(),
        summary: Summary::default(),
    };
    match unpacker.run() {
        Ok(()) => Ok(unpacker.summary),
        // Damaged tar may be the visible end of a damaged blob: the stages below know at their end.
        Err(e @ Error::Corrupt(_)) => Err(unpacker.tar.cause(MAX_LOOK_FOR_CAUSE).unwrap_or(e)),
        Err(e) => Err(e),
    }
}

struct Unpacker<'a, R> {
    tar: Reader<R>,
    root: Root<'a>,
    options: UnpackOptions,
    budget: &'a mut Budget,
    made: whiteout::Made,
    /// The directory whose parents were noted last.
    noted: Vec<u8>,
    root_described: bool,
    directories: meta::Deferred,
    summary: Summary,
}

impl<R: BufRead> Unpacker<'_, R> {
    fn run(&mut self) -> Result<(), Error> {
        let mut metadata = 0;
        while let Some(entry) = self.tar.next_entry()? {
            let headers = self.tar.metadata_bytes();
            self.budget.take_entry(&entry, headers.saturating_sub(metadata))?;
            metadata = headers;
            self.apply(&entry)?;
            self.summary.entries += 1;
        }
        self.tar.drain()?;
        self.directories.flush(&self.root)?;
        if self.root_described { Ok(()) } else { self.root.imply() }
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), Error> {
        let target = name::target(&entry.path, self.budget.limits().path_bytes)?;
        let (parent, base) = match target {
            Target::Root if entry.kind == Kind::Directory => {
                self.root_described = true;
                let fd = self.root.open_directory(b"").map_err(|e| Error::filesystem(&entry.path, e))?;
                let root = (Vec::new(), fd, false);
                return self.directories.push(&self.root, root, entry, &self.options, &mut self.summary);
            }
            Target::Root => return Err(unsafe_entry(entry, "only a directory can be the root")),
            Target::Whiteout { parent, name } if self.root.is_overlay() => {
                // Where this layer has something else than a directory here, that hides everything below by itself.
                let Some(dir) = self.parent(&parent)? else { return Ok(()) };
                return overlay::white_out(&dir, &name).map_err(|e| Error::filesystem(&entry.path, e));
            }
            Target::Opaque { parent } if self.root.is_overlay() => {
                // Where this layer has something else than a directory here, that hides everything below by itself.
                let Some(dir) = self.parent(&parent)? else { return Ok(()) };
                return overlay::make_opaque(&dir).map_err(|e| Error::filesystem(&entry.path, e));
            }
            Target::Whiteout { parent, name } => {
                if let Some(parent) = self.root.parent(&parent)? {
                    let removed = self.made.remove_lower(&parent, &name, 0);
                    self.root.forget();
                    removed.map_err(|e| whiteout_error(entry, e))?;
                }
                return Ok(());
            }
            Target::Opaque { parent } => {
                if let Some(parent) = self.parent(&parent)? {
                    let emptied = self.made.empty_lower(&parent, 0);
                    self.root.forget();
                    emptied.map_err(|e| whiteout_error(entry, e))?;
                }
                return Ok(());
            }
            Target::AufsMetadata => return Ok(()),
            Target::Name { parent, name } => (parent, name),
        };
        let Some(parent_dir) = self.parent(&parent)? else {
            return Err(unsafe_entry(entry, "its parent is not a directory"));
        };
        if !self.root.is_overlay() {
            self.made.add(&parent_dir, &base);
            self.note_parents(entry, &parent)?;
        }
        match entry.kind {
            Kind::File => self.file(entry, &parent_dir, &base),
            Kind::Directory => self.directory(entry, &parent_dir, &parent, &base),
            Kind::Symlink => self.symlink(entry, &parent_dir, &base),
            Kind::HardLink => self.hard_link(entry, &parent_dir, &base),
            Kind::Fifo => self.fifo(entry, &parent_dir, &base),
            Kind::CharDevice | Kind::BlockDevice => {
                Err(unsafe_entry(entry, "layers may not hold device nodes"))
            }
        }
    }

    fn parent(&mut self, path: &[u8]) -> Result<Option<Parent>, Error> {
        self.root.parent_made(path, &mut self.made, self.budget)
    }

    /// Directories above what this layer made count as made by it, also where a lower layer had them: a whiteout of one
    /// removes what is in it, not what this layer put there.
    fn note_parents(&mut self, entry: &Entry, parent: &[u8]) -> Result<(), Error> {
        if parent == self.noted {
            return Ok(());
        }
        let fail = |e| Error::filesystem(&entry.path, e);
        let ends = parent.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
        for end in ends.chain([parent.len()]).filter(|end| *end > 0) {
            let path = parent.get(..end).unwrap_or_default();
            let start = path.iter().rposition(|b| *b == b'/');
            let above = start.and_then(|at| path.get(..at)).unwrap_or_default();
            let name = start.map_or(Some(path), |at| path.get(at.saturating_add(1)..)).unwrap_or_default();
            let above = self.root.lookup(above).and_then(Parent::from_fd).map_err(fail)?;
            self.made.add(&above, name);
        }
        self.noted = parent.to_vec();
        Ok(())
    }

    fn file(&mut self, entry: &Entry, parent: &Parent, base: &[u8]) -> Result<(), Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self
            .create(entry, parent, base, |p, n| rustix::fs::openat(p, n, flags, Mode::RUSR | Mode::WUSR))?;
        loop {
            let piece = self.tar.data()?;
            if piece.is_empty() {
                break;
            }
            let n = match rustix::io::write(&file, piece) {
                Ok(n) => n,
                Err(Errno::INTR) => 0,
                Err(e) => return Err(Error::filesystem(&entry.path, e)),
            };
            self.tar.consume(n);
        }
        self.summary.bytes = self.summary.bytes.saturating_add(entry.size);
        self.summary.skipped_xattrs += meta::apply_to_open(&file, entry, &self.options)?;
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, parent: &Parent, above: &[u8], base: &[u8]) -> Result<(), Error> {
        let fail = |e| Error::filesystem(&entry.path, e);
        let mut replaced = false;
        match rustix::fs::mkdirat(parent, base, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let there = rustix::fs::statat(parent, base, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
                if rustix::fs::FileType::from_raw_mode(there.st_mode) != rustix::fs::FileType::Directory {
                    replaced = true;
                    self.root.forget();
                    rustix::fs::unlinkat(parent, base, AtFlags::empty()).map_err(fail)?;
                    rustix::fs::mkdirat(parent, base, Mode::RWXU).map_err(fail)?;
                    // What was here, a mark or an earlier entry, had replaced what lower layers hold under this name.
                    if self.root.is_overlay() {
                        overlay::make_child_opaque(parent, base).map_err(fail)?;
                    }
                } else if self.root.is_overlay() {
                    overlay::settle_child(parent, base).map_err(fail)?;
                }
            }
            Err(e) => return Err(fail(e)),
        }
        let path = if above.is_empty() { base.to_vec() } else { [above, b"/", base].concat() };
        // Not by its path: what was replaced may have been a link on its way.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, base, flags, Mode::empty()).map_err(fail)?;
        self.directories.push(&self.root, (path, fd, replaced), entry, &self.options, &mut self.summary)
    }

    fn symlink(&mut self, entry: &Entry, parent: &Parent, base: &[u8]) -> Result<(), Error> {
        if entry.link.is_empty()
            || entry.link.len() > self.budget.limits().path_bytes
            || entry.link.contains(&0)
        {
            return Err(unsafe_entry(entry, "its target is empty or too long"));
        }
        self.create(entry, parent, base, |p, n| rustix::fs::symlinkat(entry.link.as_slice(), p, n))?;
        meta::apply_to_link(parent, base, entry, &self.options)
    }

    fn hard_link(&mut self, entry: &Entry, parent: &Parent, base: &[u8]) -> Result<(), Error> {
        let overlay = self.root.is_overlay();
        let missing = || match overlay {
            // The layer below cannot be linked to: it is another tree, shared with images that do not have this layer.
            true => unsafe_entry(entry, "it is a hard link to a file that is not in the same layer"),
            false => Error::Corrupt(format!(
                "hard link {}: its target is not in the image",
                printable(&entry.path)
            )),
        };
        let (above, name) = match name::clean(&entry.link, self.budget.limits().path_bytes) {
            Ok(Some(split)) => split,
            Ok(None) => return Err(unsafe_entry(entry, "it is a hard link to the root")),
            Err(_) => return Err(unsafe_entry(entry, "its hard link leads out of the root")),
        };
        // The parent of the new name must stay known, so this look-up does not go through the cache.
        let from = self.root.lookup(&above).map_err(|e| match e {
            Errno::NOENT | Errno::NOTDIR => missing(),
            e => Error::filesystem(&entry.path, e),
        })?;
        let there =
            rustix::fs::statat(&from, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW).map_err(|e| match e {
                Errno::NOENT => missing(),
                e => Error::filesystem(&entry.path, e),
            })?;
        if rustix::fs::FileType::from_raw_mode(there.st_mode) == rustix::fs::FileType::Directory {
            return Err(unsafe_entry(entry, "it is a hard link to a directory"));
        }
        if overlay && overlay::is_mark(&there) {
            return Err(missing());
        }
        // A name linked to itself (or to another name of the same file) is already what it should be.
        if rustix::fs::statat(parent, base, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|s| s.st_ino == there.st_ino && s.st_dev == there.st_dev)
        {
            return Ok(());
        }
        self.create(entry, parent, base, |p, n| {
            rustix::fs::linkat(&from, name.as_slice(), p, n, AtFlags::empty())
        })
    }

    fn fifo(&mut self, entry: &Entry, parent: &Parent, base: &[u8]) -> Result<(), Error> {
        self.create(entry, parent, base, |p, n| {
            rustix::fs::mknodat(p, n, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        })?;
        meta::apply_to_fifo(parent, base, entry, &self.options)
    }

    /// Creates the last component exclusively; what a lower layer (or this one, earlier) left there goes first.
    fn create<T>(
        &mut self,
        entry: &Entry,
        parent: &Parent,
        base: &[u8],
        make: impl Fn(&Parent, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Error> {
        let fail = |e| Error::filesystem(&entry.path, e);
        match make(parent, base) {
            Err(Errno::EXIST) => {
                self.root.forget();
                remove::remove_at(parent, base).map_err(fail)?;
                make(parent, base).map_err(fail)
            }
            other => other.map_err(fail),
        }
    }
}

fn unsafe_entry(entry: &Entry, reason: &'static str) -> Error {
    Error::Unsafe { path: printable(&entry.path), reason }
}

fn whiteout_error(entry: &Entry, e: Errno) -> Error {
    match e {
        Errno::LOOP => unsafe_entry(entry, "it whites out directories nested too deep"),
        e => Error::filesystem(&entry.path, e),
    }
}

impl<R: BufRead> tar::Reader<R> {
    /// Reads on to see whether the stream below fails with a better cause of its own.
    fn cause(&mut self, limit: u64) -> Option<Error> {
        let mut rest = self.stream().take(limit);
        let e = std::io::copy(&mut rest, &mut std::io::sink()).err()?;
        e.downcast::<Error>().ok().filter(|e| !matches!(e, Error::Corrupt(_)))
    }
}

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod layer_tests;
#[cfg(test)]
mod restore_tests;
#[cfg(test)]
mod tests;
