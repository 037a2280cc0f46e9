//! Applies a tar's entries: content and inodes go to the disk as they come, the tree stays in memory.

use std::fs::File;
use std::io::{self, BufRead, Read};

use cocoon_image::Limits;
use cocoon_image::tar::{Entry, Kind, Reader};
use cocoon_image::unpack::name::{self, Target};

use crate::disk::inode::{self, Data, Inode, Meta};
use crate::disk::xattr::Xattrs;
use crate::disk::{BLOCK, BLOCK_U64, FileType};
use crate::ledger::Ledger;
use crate::output::Output;
use crate::tree::{Id, Leaf, Made, Missing, Node, ROOT, Tree};
use crate::{Built, Error, finish};

/// Bytes looked through after damage for the cause that the stages below may know.
const MAX_LOOK_FOR_CAUSE: u64 = 64 << 20;
/// Look-ups of a path's component allowed for each entry that the limits allow, on average.
const STEPS_PER_ENTRY: u64 = 100;
/// Longest target of a symbolic link (`PATH_MAX`, with its NUL).
const MAX_TARGET: usize = 4095;

/// See [`crate::build`].
pub(crate) fn build(tar: impl BufRead, out: &File, limits: &Limits) -> Result<Built, Error> {
    if out.metadata().map_err(Error::Device)?.len() != 0 {
        return Err(Error::Device(io::Error::new(io::ErrorKind::AlreadyExists, "the file is not empty")));
    }
    let mut tar = Counted { inner: tar, bytes: 0 };
    let mut builder = Builder {
        tar: Reader::new(&mut tar),
        tree: Tree::new(limits.entries.saturating_mul(STEPS_PER_ENTRY)),
        out: Output::new(out),
        ledger: Ledger::new(limits),
        entries: 0,
    };
    let done = builder.run().and_then(|()| {
        builder.tree.note_implied();
        finish::finish(&builder.tree, &mut builder.out, out)
    });
    let entries = builder.entries;
    drop(builder);
    match done {
        Ok(image_blocks) => Ok(Built { diff_bytes: tar.bytes, image_blocks, entries }),
        // Damaged tar may be the visible end of a damaged blob: the stages below know at their end.
        Err(e @ Error::Layer(cocoon_image::Error::Corrupt(_))) => Err(tar.cause().unwrap_or(e)),
        Err(e) => Err(e),
    }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: BufRead> Counted<R> {
    fn cause(&mut self) -> Option<Error> {
        let mut rest = self.take(MAX_LOOK_FOR_CAUSE);
        let e = io::copy(&mut rest, &mut io::sink()).err()?;
        let e = e.downcast::<cocoon_image::Error>().ok()?;
        (!matches!(e, cocoon_image::Error::Corrupt(_))).then_some(Error::Layer(e))
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.bytes = self.bytes.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.inner.consume(n);
        self.bytes = self.bytes.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
    }
}

struct Builder<'a, R> {
    tar: Reader<R>,
    tree: Tree,
    out: Output<'a>,
    ledger: Ledger,
    entries: u64,
}

impl<R: BufRead> Builder<'_, R> {
    fn run(&mut self) -> Result<(), Error> {
        let mut metadata = 0;
        while let Some(entry) = self.tar.next_entry()? {
            let headers = self.tar.metadata_bytes();
            self.ledger.take_entry(&entry, headers.saturating_sub(metadata))?;
            metadata = headers;
            self.apply(&entry)?;
            self.entries += 1;
        }
        Ok(self.tar.drain()?)
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), Error> {
        let (parent, base) = match name::target(&entry.path, self.ledger.limits().path_bytes)? {
            Target::Root if entry.kind == Kind::Directory => return self.describe(ROOT, entry),
            Target::Root => return Err(refuse(entry, "only a directory can be the root")),
            Target::Whiteout { parent, name } => return self.whiteout(entry, &parent, &name),
            Target::Opaque { parent } => return self.opaque(entry, &parent),
            Target::AufsMetadata => return Ok(()),
            Target::Name { parent, name } => (parent, name),
        };
        let Made::Directory(parent) = self.parent(entry, &parent)? else {
            return Err(refuse(entry, "its parent is not a directory"));
        };
        self.ledger.keep_name(&base, entry.kind == Kind::Directory)?;
        match entry.kind {
            Kind::File => self.file(entry, parent, &base),
            Kind::Directory => self.directory(entry, parent, &base),
            Kind::Symlink => self.symlink(entry, parent, &base),
            Kind::HardLink => self.hard_link(entry, parent, &base),
            Kind::Fifo => self.leaf(entry, parent, &base, FileType::Fifo, &meta(entry, entry.mode)),
            Kind::CharDevice | Kind::BlockDevice => Err(refuse(entry, "layers may not hold device nodes")),
        }
    }

    fn parent(&mut self, entry: &Entry, path: &[u8]) -> Result<Made, Error> {
        let ledger = &mut self.ledger;
        let made = self.tree.make(path, |part| ledger.take_directory(path, part))?;
        made.map_err(|e| lookup_error(&entry.path, &e))
    }

    /// The name in lower layers goes. What this layer has under it stays, but hides what lower layers have there.
    fn whiteout(&mut self, entry: &Entry, parent: &[u8], base: &[u8]) -> Result<(), Error> {
        let parent = match self.parent(entry, parent)? {
            Made::Directory(id) => id,
            // Nothing of lower layers shows below something that is no directory.
            Made::NotDirectory => return Ok(()),
            Made::Dangling => return Err(refuse(entry, "its parent is not a directory")),
        };
        match self.tree.child(parent, base) {
            Some(id) => {
                if let Some(d) = self.tree.directory_mut(id) {
                    d.opaque = true;
                    // It is another directory than the one below.
                    d.implied = false;
                }
                Ok(())
            }
            None => {
                self.ledger.keep_name(base, false)?;
                self.leaf(entry, parent, base, FileType::Whiteout, &Meta::default())
            }
        }
    }

    fn opaque(&mut self, entry: &Entry, parent: &[u8]) -> Result<(), Error> {
        match self.parent(entry, parent)? {
            Made::Directory(id) => {
                if let Some(d) = self.tree.directory_mut(id) {
                    d.opaque = true;
                }
                Ok(())
            }
            Made::NotDirectory => Ok(()),
            Made::Dangling => Err(refuse(entry, "its parent is not a directory")),
        }
    }

    fn directory(&mut self, entry: &Entry, parent: Id, base: &[u8]) -> Result<(), Error> {
        let there = self.tree.child(parent, base).filter(|id| self.tree.directory(*id).is_some());
        let id = match there {
            Some(id) => Some(id),
            None => self.tree.add_directory(parent, base),
        };
        self.describe(id.ok_or_else(too_many)?, entry)
    }

    /// Gives a directory its owner, mode, time and attributes; attributes that it has stay.
    fn describe(&mut self, id: Id, entry: &Entry) -> Result<(), Error> {
        let Some(d) = self.tree.directory_mut(id) else { return Ok(()) };
        d.implied = false;
        d.meta = meta(entry, entry.mode);
        let kept = d.xattrs.add(&entry.path, &entry.xattrs)?;
        self.ledger.keep(kept)
    }

    fn file(&mut self, entry: &Entry, parent: Id, base: &[u8]) -> Result<(), Error> {
        let mut xattrs = Xattrs::default();
        xattrs.add(&entry.path, &entry.xattrs)?;
        let xattrs = xattrs.encode(false, None);
        let meta = meta(entry, entry.mode);
        let compact = inode::is_compact(&meta, entry.size, 1);
        let rest = usize::try_from(entry.size % BLOCK_U64).unwrap_or(0);
        let inline = rest > 0 && inode::len(compact) + xattrs.len() + rest <= BLOCK;
        let first = if entry.size >= BLOCK_U64 || !inline && rest > 0 { self.out.next_block()? } else { 0 };
        let mut blocks = if inline { entry.size - entry.size % BLOCK_U64 } else { entry.size };
        let mut tail = Vec::new();
        loop {
            let piece = self.tar.data()?;
            if piece.is_empty() {
                break;
            }
            let n = piece.len();
            let (now, last) = piece.split_at(n.min(usize::try_from(blocks).unwrap_or(usize::MAX)));
            self.out.write(now)?;
            tail.extend_from_slice(last);
            blocks = blocks.saturating_sub(u64::try_from(now.len()).unwrap_or(u64::MAX));
            self.tar.consume(n);
        }
        self.out.pad()?;
        let data = if inline { Data::Inline(first) } else { Data::Plain(first) };
        let mut record =
            Inode { kind: FileType::Regular, meta: &meta, size: entry.size, data, links: 1, xattrs: &xattrs }
                .encode();
        record.extend_from_slice(&tail);
        let place = self.out.place(&record)?;
        let leaf = Leaf { place, links: 1, kind: FileType::Regular, compact, target: None };
        self.put(parent, base, leaf)
    }

    fn symlink(&mut self, entry: &Entry, parent: Id, base: &[u8]) -> Result<(), Error> {
        let target = entry.link.as_slice();
        if target.is_empty()
            || target.len() > self.ledger.limits().path_bytes.min(MAX_TARGET)
            || target.contains(&0)
        {
            return Err(refuse(entry, "its target is empty or too long"));
        }
        self.ledger.keep(target.len())?;
        self.leaf(entry, parent, base, FileType::Symlink, &meta(entry, 0o777))
    }

    /// A leaf without blocks of its own, if it can be helped: a link's target goes behind its inode.
    fn leaf(
        &mut self,
        entry: &Entry,
        parent: Id,
        base: &[u8],
        kind: FileType,
        meta: &Meta,
    ) -> Result<(), Error> {
        let target = if kind == FileType::Symlink { entry.link.as_slice() } else { &[] };
        let size = u64::try_from(target.len()).unwrap_or(u64::MAX);
        let compact = inode::is_compact(meta, size, 1);
        let inline = inode::len(compact) + target.len() <= BLOCK;
        let data = match (target.is_empty(), inline) {
            (true, _) => Data::Plain(0),
            (false, true) => Data::Inline(0),
            (false, false) => {
                let block = self.out.next_block()?;
                self.out.write(target)?;
                self.out.pad()?;
                Data::Plain(block)
            }
        };
        let mut record = Inode { kind, meta, size, data, links: 1, xattrs: &[] }.encode();
        if inline {
            record.extend_from_slice(target);
        }
        let place = self.out.place(&record)?;
        let target = (!target.is_empty()).then(|| target.into());
        self.put(parent, base, Leaf { place, links: 1, kind, compact, target })
    }

    fn put(&mut self, parent: Id, base: &[u8], leaf: Leaf) -> Result<(), Error> {
        self.tree.remove(parent, base);
        self.tree.add(parent, base, Node::Leaf(leaf)).map(|_| ()).ok_or_else(too_many)
    }

    fn hard_link(&mut self, entry: &Entry, parent: Id, base: &[u8]) -> Result<(), Error> {
        let missing = || {
            Error::corrupt(format!(
                "hard link {}: its target is not in the layer",
                crate::error::printable(&entry.path)
            ))
        };
        let (above, name) = match name::clean(&entry.link, self.ledger.limits().path_bytes) {
            Ok(Some(split)) => split,
            Ok(None) => return Err(refuse(entry, "it is a hard link to the root")),
            Err(_) => return Err(refuse(entry, "its hard link leads out of the root")),
        };
        let from = self.tree.find(&above).map_err(|e| match e {
            Missing::Absent | Missing::NotDirectory => missing(),
            e => lookup_error(&entry.path, &e),
        })?;
        let id = self.tree.child(from, &name).ok_or_else(missing)?;
        match self.tree.kind(id) {
            FileType::Directory => return Err(refuse(entry, "it is a hard link to a directory")),
            FileType::Whiteout => return Err(missing()),
            _ => {}
        }
        // A name linked to itself (or to another name of the same file) is already what it should be.
        if self.tree.child(parent, base) == Some(id) {
            return Ok(());
        }
        self.tree.remove(parent, base);
        // It may have been below what the new name replaces.
        if self.tree.leaf_mut(id).is_none() {
            return Err(missing());
        }
        self.tree.link(parent, base, id);
        Ok(())
    }
}

fn meta(entry: &Entry, mode: u32) -> Meta {
    // -1 means "leave it" to the kernel; as an id it does not exist.
    let id = |n: u32| if n == u32::MAX { 0 } else { n };
    Meta {
        mode: u16::try_from(mode & 0o7777).unwrap_or(0),
        uid: id(entry.uid),
        gid: id(entry.gid),
        mtime: entry.mtime,
    }
}

fn refuse(entry: &Entry, reason: &'static str) -> Error {
    Error::unsafe_name(&entry.path, reason)
}

fn too_many() -> Error {
    Error::too_large("the layer has too many inodes for one device")
}

fn lookup_error(path: &[u8], missing: &Missing) -> Error {
    match missing {
        Missing::Loop => Error::unsafe_name(path, "its directory is a loop of symbolic links"),
        Missing::TooLong => Error::unsafe_name(path, "its name is too long"),
        Missing::Exhausted => Error::too_large("the layer names its files in too roundabout a way"),
        Missing::Absent | Missing::NotDirectory => Error::unsafe_name(path, "its parent is not a directory"),
    }
}
