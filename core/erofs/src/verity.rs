//! dm-verity's hash tree (Linux, Documentation/admin-guide/device-mapper/verity.rst): hash type 1, SHA-256, blocks of
//! 4096 bytes for data and hashes, no salt, no superblock. The tree lies directly behind the data, its top first.

use std::fs::File;
use std::os::unix::fs::FileExt;

use aws_lc_rs::digest::{SHA256, digest};

use crate::Error;
use crate::disk::{BLOCK, BLOCK_U64};

mod hash;

/// Digests in a block of the tree.
const FAN: u64 = 128;

/// A tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The root hash.
    pub root: [u8; 32],
    /// Blocks that it covers.
    pub data_blocks: u64,
    /// Blocks that it takes itself.
    pub tree_blocks: u64,
}

impl Tree {
    /// The root hash as 64 lower-case hex digits.
    pub fn root_hex(&self) -> String {
        hex::encode(self.root)
    }
}

/// One level: where it starts and how many blocks it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Level {
    first: u64,
    blocks: u64,
}

/// The levels, lowest (hashes of data) first. None for a single data block: its own hash is the root.
fn levels(data_blocks: u64) -> Vec<Level> {
    let mut all = Vec::new();
    let mut below = data_blocks;
    while below > 1 {
        below = below.div_ceil(FAN);
        all.push(Level { first: 0, blocks: below });
    }
    let mut at = data_blocks;
    for level in all.iter_mut().rev() {
        level.first = at;
        at = at.saturating_add(level.blocks);
    }
    all
}

/// Blocks of data and tree together: the device's length.
pub fn total_blocks(data_blocks: u64) -> u64 {
    levels(data_blocks).iter().fold(data_blocks, |sum, level| sum.saturating_add(level.blocks))
}

/// Computes the tree over the first `data_blocks` blocks of the file and writes it behind them; the file then ends
/// with it.
///
/// # Errors
/// [`Error::Device`]; [`Error::Length`] where the file is shorter than its data or there is none.
pub fn append(file: &File, data_blocks: u64) -> Result<Tree, Error> {
    let tree =
        hash::tree(file, data_blocks, |at, block| file.write_all_at(block, at.saturating_mul(BLOCK_U64)))?;
    file.set_len(total_blocks(data_blocks).saturating_mul(BLOCK_U64)).map_err(Error::Device)?;
    Ok(tree)
}

/// Computes the tree over the first `data_blocks` blocks of the file and writes nothing.
///
/// # Errors
/// As [`append`].
pub fn root(file: &File, data_blocks: u64) -> Result<Tree, Error> {
    hash::tree(file, data_blocks, |_, _| Ok(()))
}

/// Checks a whole device, from the root down: each block of the tree, then each of the data.
///
/// # Errors
/// [`Error::Tampered`] with the first block that does not match, in that order; [`Error::Length`];
/// [`Error::Device`].
pub fn check(file: &File, data_blocks: u64, root: &[u8; 32]) -> Result<(), Error> {
    let expected = total_blocks(data_blocks).saturating_mul(BLOCK_U64);
    let got = file.metadata().map_err(Error::Device)?.len();
    if got != expected || data_blocks == 0 {
        return Err(Error::Length { expected, got });
    }
    let mut above = Digests::Root(*root);
    for level in levels(data_blocks).iter().rev() {
        hash::each(file, level.first, level.blocks, |i, hash| above.compare(file, i, level.first + i, hash))?;
        above = Digests::Level { first: level.first, loaded: None, block: vec![0; BLOCK] };
    }
    hash::each(file, 0, data_blocks, |i, hash| above.compare(file, i, i, hash))
}

/// What the blocks of one level should hash to.
enum Digests {
    Root([u8; 32]),
    /// Digests in the (checked) level above.
    Level {
        first: u64,
        loaded: Option<u64>,
        block: Vec<u8>,
    },
}

impl Digests {
    fn compare(&mut self, file: &File, i: u64, block: u64, hash: &[u8; 32]) -> Result<(), Error> {
        let right = match self {
            Digests::Root(root) => root == hash,
            Digests::Level { first, loaded, block } => {
                let holder = first.saturating_add(i / FAN);
                if *loaded != Some(holder) {
                    file.read_exact_at(block, holder.saturating_mul(BLOCK_U64)).map_err(Error::Device)?;
                    *loaded = Some(holder);
                }
                let at = usize::try_from(i % FAN).unwrap_or(0) * 32;
                block.get(at..at + 32) == Some(&hash[..])
            }
        };
        if right { Ok(()) } else { Err(Error::Tampered { block }) }
    }
}

fn sha256(block: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, block).as_ref());
    out
}
