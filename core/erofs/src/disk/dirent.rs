//! Blocks of directories: an array of `struct erofs_dirent` (12 bytes), then the names they point to; names are in
//! byte order over the whole directory, for the kernel searches by halves.

use super::{BLOCK, FileType};

const DIRENT: usize = 12;

/// One name in a directory.
#[derive(Clone, Copy)]
pub(crate) struct Dirent<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) nid: u64,
    pub(crate) kind: FileType,
}

/// Packs names, which come sorted, into blocks and gives each to `each`: its used bytes, all zeros behind them.
/// Names have at most 255 bytes.
pub(crate) fn pack<'a, E>(
    all: impl Iterator<Item = Dirent<'a>>,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut block = Vec::with_capacity(BLOCK);
    let mut waiting: Vec<Dirent<'a>> = Vec::new();
    let mut used = 0;
    for entry in all {
        let cost = DIRENT + entry.name.len();
        if used + cost > BLOCK {
            write(&mut block, &waiting);
            each(&block)?;
            waiting.clear();
            used = 0;
        }
        used += cost;
        waiting.push(entry);
    }
    if !waiting.is_empty() {
        write(&mut block, &waiting);
        each(&block)?;
    }
    Ok(())
}

fn write(block: &mut Vec<u8>, entries: &[Dirent<'_>]) {
    block.clear();
    let mut name_at = entries.len() * DIRENT;
    for e in entries {
        block.extend_from_slice(&e.nid.to_le_bytes());
        // Within a block: at most 4096.
        block.extend_from_slice(&u16::try_from(name_at).unwrap_or(u16::MAX).to_le_bytes());
        block.extend_from_slice(&[e.kind.dirent(), 0]);
        name_at += e.name.len();
    }
    for e in entries {
        block.extend_from_slice(e.name);
    }
}
