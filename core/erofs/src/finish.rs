//! The end of an image: directories, links' numbers, superblock. All names and inodes are known now.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::os::unix::fs::FileExt;

use cocoon_image::unpack::implied;

use crate::Error;
use crate::disk::dirent::{self, Dirent};
use crate::disk::inode::{self, Data, Inode};
use crate::disk::superblock::{self, ROOT_NID, ROOT_OFFSET, ROOT_ROOM};
use crate::disk::{BLOCK, BLOCK_U64, FileType, SLOT_U64};
use crate::output::{Output, Places, block_number};
use crate::tree::{Directory, Id, Node, ROOT, Tree};

/// Where a directory goes.
#[derive(Clone, Copy, Default)]
struct Plan {
    /// Where its inode lies, in bytes from the image's start.
    at: u64,
    /// Length of its content.
    size: u64,
    /// The first block of its content.
    first: u32,
    /// Content that is in blocks of its own, not behind the inode.
    blocks: u64,
    inline: bool,
    links: u32,
}

struct Layout<'a> {
    tree: &'a Tree,
    places: Places,
    plans: BTreeMap<Id, Plan>,
}

/// Writes what is not on the disk yet; gives the image's length in blocks.
pub(crate) fn finish(tree: &Tree, out: &mut Output<'_>, file: &File) -> Result<u64, Error> {
    let places = out.close_all()?;
    let mut layout = Layout { tree, places, plans: BTreeMap::new() };
    layout.plan(out)?;
    for (id, plan) in &layout.plans {
        layout.write_blocks(*id, plan, out)?;
    }
    let mut root = Vec::new();
    for (id, plan) in &layout.plans {
        let record = layout.record(*id, plan)?;
        if *id == ROOT {
            root = record;
            continue;
        }
        out.pad_to(plan.at)?;
        out.write(&record)?;
    }
    let blocks = out.finish()?;
    let inodes = layout.patch_links(file)?;
    file.write_all_at(&superblock::block(inodes, blocks, &root), 0).map_err(Error::Device)?;
    Ok(u64::from(blocks))
}

impl Layout<'_> {
    /// Lays out all directories: first their blocks, then their inodes, in the order in which they were made. The
    /// root's inode alone has a fixed place, because its number has 16 bits.
    fn plan(&mut self, out: &Output<'_>) -> Result<(), Error> {
        let mut block = u64::from(out.next_block()?);
        for (id, node) in self.tree.nodes() {
            let Node::Directory(d) = node else { continue };
            let (mut whole, mut rest) = (0_u64, 0_usize);
            dirent::pack(self.dirents(id, d), |used| {
                whole += 1;
                rest = used.len();
                Ok::<_, Error>(())
            })?;
            let size = whole.saturating_sub(1) * BLOCK_U64 + u64::try_from(rest).unwrap_or(0);
            let subdirectories = d.children.values().filter(|c| self.tree.directory(**c).is_some()).count();
            let links = u32::try_from(subdirectories).unwrap_or(u32::MAX).saturating_add(2);
            let head = head(d, size, links);
            let room = if id == ROOT { ROOT_ROOM } else { BLOCK };
            if id == ROOT && head > room {
                return Err(Error::too_large("the layer's root has too many extended attributes"));
            }
            let inline = rest < BLOCK && head + rest <= room;
            let blocks = if inline { whole.saturating_sub(1) } else { whole };
            let first = if blocks == 0 { 0 } else { block_number(block)? };
            block += blocks;
            self.plans.insert(id, Plan { at: 0, size, first, blocks, inline, links });
        }
        let mut at = block * BLOCK_U64;
        for (id, plan) in &mut self.plans {
            let Some(d) = self.tree.directory(*id) else { continue };
            if *id == ROOT {
                plan.at = u64::from(ROOT_NID) * SLOT_U64;
                continue;
            }
            let rest = if plan.inline { plan.size % BLOCK_U64 } else { 0 };
            let len = u64::try_from(head(d, plan.size, plan.links)).unwrap_or(u64::MAX) + rest;
            if at % BLOCK_U64 + len > BLOCK_U64 {
                at = at.next_multiple_of(BLOCK_U64);
            }
            plan.at = at;
            at = (at + len).next_multiple_of(SLOT_U64);
        }
        Ok(())
    }

    fn nid(&self, id: Id) -> u64 {
        match self.tree.node(id) {
            Node::Leaf(leaf) => self.places.nid(leaf.place),
            Node::Directory(_) | Node::Gone => self.plans.get(&id).map_or(0, |p| p.at / SLOT_U64),
        }
    }

    /// A directory's names in byte order, with its own and its parent's among them.
    fn dirents<'a>(&'a self, id: Id, d: &'a Directory) -> impl Iterator<Item = Dirent<'a>> {
        let dots = |name, id| Dirent { name, nid: self.nid(id), kind: FileType::Directory };
        let some = move |from, to| {
            d.children.range::<[u8], _>((from, to)).map(|(name, id)| Dirent {
                name: name.as_ref(),
                nid: self.nid(*id),
                kind: self.tree.kind(*id),
            })
        };
        let (one, two): (&[u8], &[u8]) = (b".", b"..");
        some(Unbounded, Excluded(one))
            .chain([dots(one, id)])
            .chain(some(Included(one), Excluded(two)))
            .chain([dots(two, d.parent)])
            .chain(some(Included(two), Unbounded))
    }

    fn write_blocks(&self, id: Id, plan: &Plan, out: &mut Output<'_>) -> Result<(), Error> {
        let (Some(d), mut left) = (self.tree.directory(id), plan.blocks) else { return Ok(()) };
        if left == 0 {
            return Ok(());
        }
        dirent::pack(self.dirents(id, d), |used| {
            if left == 0 {
                return Ok(());
            }
            left -= 1;
            out.write(used)?;
            out.pad()
        })
    }

    /// The inode with what follows it.
    fn record(&self, id: Id, plan: &Plan) -> Result<Vec<u8>, Error> {
        let Some(d) = self.tree.directory(id) else { return Ok(Vec::new()) };
        let xattrs = d.xattrs.encode(d.opaque, mark(d));
        let data = if plan.inline { Data::Inline(plan.first) } else { Data::Plain(plan.first) };
        let (kind, meta, size, links) = (FileType::Directory, &d.meta, plan.size, plan.links);
        let mut record = Inode { kind, meta, size, data, links, xattrs: &xattrs }.encode();
        if plan.inline {
            let mut skip = plan.blocks;
            dirent::pack(self.dirents(id, d), |used| {
                if skip == 0 {
                    record.extend_from_slice(used);
                }
                skip = skip.saturating_sub(1);
                Ok::<_, Error>(())
            })?;
        }
        Ok(record)
    }

    /// Sets the number of links of what has not exactly one, as written; gives the number of inodes.
    fn patch_links(&self, file: &File) -> Result<u64, Error> {
        let mut inodes = 0;
        for (_, node) in self.tree.nodes() {
            inodes += u64::from(!matches!(node, Node::Gone));
            let Node::Leaf(leaf) = node else { continue };
            if leaf.links == 1 {
                continue;
            }
            let (field, bytes) = inode::links_field(leaf.compact, leaf.links)
                .ok_or_else(|| Error::too_large("a file of the layer has more than 65535 names"))?;
            let at = self.places.nid(leaf.place) * SLOT_U64 + field;
            file.write_all_at(&bytes, at).map_err(Error::Device)?;
        }
        Ok(inodes)
    }
}

/// What says that a directory is implied, or has such below it.
fn mark(d: &Directory) -> Option<u8> {
    match (d.implied, d.below) {
        (true, _) => Some(implied::IMPLIED),
        (false, true) => Some(implied::BELOW),
        (false, false) => None,
    }
}

/// Bytes of a directory's inode and attributes.
fn head(d: &Directory, size: u64, links: u32) -> usize {
    inode::len(inode::is_compact(&d.meta, size, links)) + d.xattrs.encode(d.opaque, mark(d)).len()
}

const _: () = assert!(ROOT_OFFSET == 36 * 32 && ROOT_NID == 36);
