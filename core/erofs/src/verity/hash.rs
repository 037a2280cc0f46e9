//! Hashes of many blocks, on more than one core, in order; and the tree over them in one pass.

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use super::{FAN, Level, Tree, levels, sha256, total_blocks};
use crate::Error;
use crate::disk::{BLOCK, BLOCK_U64};

/// Blocks that a thread hashes at a time: 512 KiB.
const BATCH: u64 = 128;
/// Batches that a thread may be ahead.
const AHEAD: usize = 8;
/// Threads at most: more do not help where memory is the limit.
const MAX_THREADS: u64 = 8;

type Digests = Vec<[u8; 32]>;

/// Hashes `blocks` blocks from block `first` on and gives each to `take`, in order, with its number from 0.
pub(super) fn each(
    file: &File,
    first: u64,
    blocks: u64,
    mut take: impl FnMut(u64, &[u8; 32]) -> Result<(), Error>,
) -> Result<(), Error> {
    let batches = blocks.div_ceil(BATCH);
    let cores = thread::available_parallelism().map_or(1, |n| u64::try_from(NonZero::get(n)).unwrap_or(1));
    let threads = cores.min(MAX_THREADS).min(batches);
    let mut number = 0;
    let mut take_all = |digests: Digests| {
        digests.iter().try_for_each(|hash| {
            let i = number;
            number += 1;
            take(i, hash)
        })
    };
    if threads <= 1 {
        let mut buffer = Vec::new();
        return (0..batches).try_for_each(|b| take_all(batch(file, first, blocks, b, &mut buffer)?));
    }
    thread::scope(|scope| {
        // Thread t hashes batches t, t + threads, …; the channels are read in turn.
        let mut channels: Vec<Receiver<Result<Digests, Error>>> = Vec::new();
        for t in 0..threads {
            let (send, receive) = sync_channel(AHEAD);
            channels.push(receive);
            scope.spawn(move || {
                let mut buffer = Vec::new();
                let mut b = t;
                while b < batches {
                    let done = batch(file, first, blocks, b, &mut buffer);
                    let failed = done.is_err();
                    // Nobody listens after an error.
                    if send.send(done).is_err() || failed {
                        return;
                    }
                    b = b.saturating_add(threads);
                }
            });
        }
        let mut left = batches;
        loop {
            for channel in &channels {
                if left == 0 {
                    return Ok(());
                }
                left -= 1;
                let gone = |_| Error::Device(io::Error::other("a hashing thread ended early"));
                take_all(channel.recv().map_err(gone)??)?;
            }
        }
    })
}

fn batch(file: &File, first: u64, blocks: u64, number: u64, buffer: &mut Vec<u8>) -> Result<Digests, Error> {
    let from = number.saturating_mul(BATCH);
    let bytes = blocks.saturating_sub(from).min(BATCH).saturating_mul(BLOCK_U64);
    buffer.resize(usize::try_from(bytes).unwrap_or(0), 0);
    let at = first.saturating_add(from).saturating_mul(BLOCK_U64);
    file.read_exact_at(buffer, at).map_err(Error::Device)?;
    Ok(buffer.chunks(BLOCK).map(sha256).collect())
}

/// A level while its blocks come into being.
struct Growing {
    level: Level,
    done: u64,
    block: Vec<u8>,
}

/// The tree over the first `data_blocks` blocks; each of its own blocks goes to `put`, with its number in the file.
pub(super) fn tree(
    file: &File,
    data_blocks: u64,
    mut put: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> Result<Tree, Error> {
    let (expected, got) =
        (data_blocks.saturating_mul(BLOCK_U64), file.metadata().map_err(Error::Device)?.len());
    if data_blocks == 0 || got < expected {
        return Err(Error::Length { expected, got });
    }
    let mut growing: Vec<Growing> = levels(data_blocks)
        .into_iter()
        .map(|level| Growing { level, done: 0, block: Vec::with_capacity(BLOCK) })
        .collect();
    let mut root = [0; 32];
    let full = usize::try_from(FAN).unwrap_or(0) * 32;
    each(file, 0, data_blocks, |_, hash| {
        let mut hash = *hash;
        for level in &mut growing {
            level.block.extend_from_slice(&hash);
            if level.block.len() < full {
                return Ok(());
            }
            hash = level.close(&mut put)?;
        }
        root = hash;
        Ok(())
    })?;
    // What is only partly filled: from below, each closed block may be the last of the level above.
    let mut carried: Option<[u8; 32]> = None;
    for level in &mut growing {
        if let Some(hash) = carried.take() {
            level.block.extend_from_slice(&hash);
        }
        if !level.block.is_empty() {
            let hash = level.close(&mut put)?;
            root = hash;
            carried = Some(hash);
        }
    }
    Ok(Tree { root, data_blocks, tree_blocks: total_blocks(data_blocks).saturating_sub(data_blocks) })
}

impl Growing {
    fn close(&mut self, put: &mut impl FnMut(u64, &[u8]) -> io::Result<()>) -> Result<[u8; 32], Error> {
        self.block.resize(BLOCK, 0);
        put(self.level.first.saturating_add(self.done), &self.block).map_err(Error::Device)?;
        self.done += 1;
        let hash = sha256(&self.block);
        self.block.clear();
        Ok(hash)
    }
}
