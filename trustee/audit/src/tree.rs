//! The stored tree, read: entries by chunk, and subtree roots for proofs.

use std::collections::BTreeMap;

use cocoon_store::Store;

use crate::Error;
use crate::layout::{CHUNK, ENTRIES, Item, NODES, chunk_prefix, decode_pack, index_key, node_key};
use crate::merkle::{Hash, root_of};
use crate::proof::{Subtrees, split};

/// The first `size` entries of the log. A proof reads O(log size) inner hashes and at most three chunks.
pub(crate) struct Tree<'a> {
    store: &'a dyn Store,
    size: u64,
    /// Leaf hashes of the chunks that were read.
    leaves: BTreeMap<u64, Vec<Hash>>,
}

impl<'a> Tree<'a> {
    pub(crate) fn new(store: &'a dyn Store, size: u64) -> Self {
        Tree { store, size, leaves: BTreeMap::new() }
    }

    /// The entries of one chunk, as far as the size goes; each has the leaf hash that is stored with it.
    ///
    /// # Errors
    /// [`Error::EntryMissing`], [`Error::EntryAltered`].
    pub(crate) fn chunk(&self, chunk: u64) -> Result<Vec<Item>, Error> {
        let start = chunk * CHUNK;
        let end = start + CHUNK;
        let mut next = start;
        let mut items = Vec::new();
        for (key, pack) in self.store.scan(ENTRIES, &chunk_prefix(chunk), 256)? {
            // What follows the size was appended after it was read.
            if next >= self.size {
                break;
            }
            if key != index_key(next) {
                return Err(Error::EntryMissing { index: next });
            }
            items.extend(decode_pack(&pack, next, end - next)?);
            next = start + items.len() as u64;
        }
        if next < self.size.min(end) {
            return Err(Error::EntryMissing { index: next });
        }
        items.truncate(usize::try_from(self.size.saturating_sub(start)).unwrap_or(usize::MAX));
        Ok(items)
    }

    /// The root of the whole tree.
    pub(crate) fn root(&mut self) -> Result<Hash, Error> {
        self.subtree(0, self.size)
    }

    fn leaf_root(&mut self, from: u64, to: u64) -> Result<Hash, Error> {
        let chunk = from / CHUNK;
        if !self.leaves.contains_key(&chunk) {
            let leaves = self.chunk(chunk)?.into_iter().map(|item| item.leaf).collect();
            self.leaves.insert(chunk, leaves);
        }
        let wanted = [from, to].map(|index| usize::try_from(index - chunk * CHUNK).unwrap_or(usize::MAX));
        let leaves = self.leaves.get(&chunk).and_then(|leaves| leaves.get(wanted[0]..wanted[1]));
        leaves.map(root_of).ok_or(Error::OutOfRange { asked: to, size: self.size })
    }
}

impl Subtrees for Tree<'_> {
    fn subtree(&mut self, from: u64, to: u64) -> Result<Hash, Error> {
        let width = to - from;
        if width < CHUNK {
            return self.leaf_root(from, to);
        }
        if width.is_power_of_two() {
            let (level, index) = (width.ilog2(), from / width);
            let stored = self.store.get(NODES, &node_key(level, index))?;
            let root = stored.and_then(|root| root.try_into().ok()).map(Hash);
            return root.ok_or(Error::NodeAltered { level, index });
        }
        let middle = from + split(width);
        Ok(Hash::of_node(&self.subtree(from, middle)?, &self.subtree(middle, to)?))
    }
}
