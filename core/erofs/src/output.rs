//! Writes blocks in order, without looking back: content as it comes, and inodes in between, several to a block.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::Error;
use crate::disk::{BLOCK, BLOCK_U64, SLOT, SLOTS};

/// Bytes written at a time.
const BUFFER: usize = 256 * 1024;
/// Blocks of inodes that still have room, kept in memory: the more, the less room is lost.
const MAX_OPEN: usize = 16;

/// Where an inode lies: in which block of inodes, at which slot. Its number is known once the block is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    block: u32,
    slot: u8,
}

/// A block of inodes with room for more.
struct Open {
    number: usize,
    data: Vec<u8>,
}

pub(crate) struct Output<'a> {
    file: &'a File,
    buffer: Vec<u8>,
    /// Bytes of the image before the buffer.
    written: u64,
    open: Vec<Open>,
    /// Where each block of inodes went; 0 while it is open.
    blocks: Vec<u32>,
}

impl<'a> Output<'a> {
    /// Writes from block 1 on; block 0 is for the superblock.
    pub(crate) fn new(file: &'a File) -> Self {
        Output { file, buffer: Vec::with_capacity(BUFFER), written: BLOCK_U64, open: vec![], blocks: vec![] }
    }

    /// Bytes of the image so far, block 0 included.
    pub(crate) fn position(&self) -> u64 {
        // A buffer's length fits.
        self.written.saturating_add(u64::try_from(self.buffer.len()).unwrap_or(u64::MAX))
    }

    /// The number of the block that comes next, after padding.
    pub(crate) fn next_block(&self) -> Result<u32, Error> {
        block_number(self.position().div_ceil(BLOCK_U64))
    }

    pub(crate) fn write(&mut self, mut data: &[u8]) -> Result<(), Error> {
        while !data.is_empty() {
            let (now, later) = data.split_at(data.len().min(BUFFER - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            data = later;
            if self.buffer.len() == BUFFER {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Fills up to a block's boundary with zeros.
    pub(crate) fn pad(&mut self) -> Result<(), Error> {
        self.pad_to(self.position().next_multiple_of(BLOCK_U64))
    }

    /// Fills up to a position that is at most a block ahead with zeros.
    pub(crate) fn pad_to(&mut self, position: u64) -> Result<(), Error> {
        let zeros = usize::try_from(position.saturating_sub(self.position())).unwrap_or(0);
        self.write([0; BLOCK].get(..zeros).unwrap_or_default())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.file.write_all_at(&self.buffer, self.written).map_err(Error::Device)?;
        self.written = self.position();
        self.buffer.clear();
        Ok(())
    }

    /// Puts an inode with what belongs to it into a block that has room; more than a block gets blocks of its own.
    /// To be called at a block's boundary.
    pub(crate) fn place(&mut self, record: &[u8]) -> Result<Place, Error> {
        if record.len() > BLOCK {
            let number = self.blocks.len();
            self.blocks.push(self.next_block()?);
            self.write(record)?;
            self.pad()?;
            return place(number, 0);
        }
        let fits = |o: &&mut Open| BLOCK - o.data.len() >= record.len();
        if let Some(open) = self.open.iter_mut().find(fits) {
            let at = open.data.len();
            open.data.extend_from_slice(record);
            open.data.resize(open.data.len().next_multiple_of(SLOT), 0);
            return place(open.number, at);
        }
        if self.open.len() >= MAX_OPEN {
            let fullest = (0..).zip(&self.open).max_by_key(|(_, o)| o.data.len()).map_or(0, |(i, _)| i);
            let full = self.open.remove(fullest);
            self.close(full)?;
        }
        let number = self.blocks.len();
        self.blocks.push(0);
        let mut data = record.to_vec();
        data.resize(data.len().next_multiple_of(SLOT), 0);
        self.open.push(Open { number, data });
        place(number, 0)
    }

    fn close(&mut self, open: Open) -> Result<(), Error> {
        let at = self.next_block()?;
        if let Some(block) = self.blocks.get_mut(open.number) {
            *block = at;
        }
        self.write(&open.data)?;
        self.pad()
    }

    /// Writes the blocks of inodes that are still open; no inode can be placed afterwards.
    pub(crate) fn close_all(&mut self) -> Result<Places, Error> {
        std::mem::take(&mut self.open).into_iter().try_for_each(|open| self.close(open))?;
        Ok(Places(std::mem::take(&mut self.blocks)))
    }

    /// Writes what is left; gives the image's length in blocks: at least two, so that there always is a hash tree.
    pub(crate) fn finish(&mut self) -> Result<u32, Error> {
        self.pad()?;
        self.pad_to(2 * BLOCK_U64)?;
        self.flush()?;
        self.next_block()
    }
}

/// Where blocks of inodes went.
pub(crate) struct Places(Vec<u32>);

impl Places {
    /// The number of the inode at a place.
    pub(crate) fn nid(&self, place: Place) -> u64 {
        let block = usize::try_from(place.block).ok().and_then(|i| self.0.get(i)).copied().unwrap_or(0);
        u64::from(block) * SLOTS + u64::from(place.slot)
    }
}

fn place(number: usize, at: usize) -> Result<Place, Error> {
    let (Ok(block), Ok(slot)) = (u32::try_from(number), u8::try_from(at / SLOT)) else {
        return Err(Error::too_large("the layer has too many inodes for one device"));
    };
    Ok(Place { block, slot })
}

/// Block numbers have 32 bits: an image ends at 16 TiB.
pub(crate) fn block_number(block: u64) -> Result<u32, Error> {
    u32::try_from(block).map_err(|_| Error::too_large("the layer is too large for one device"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the sizes, a record is where its number says, within one block if it fits one.
    #[test]
    fn records_are_where_their_numbers_say() {
        let file = tempfile::tempfile().unwrap();
        let mut out = Output::new(&file);
        let mut records = Vec::new();
        for i in 0..600_usize {
            let len = [32, 96, 2000, 4096, 4065, 1, 9000, 500][i % 8] + i % 30;
            let len = if len > 4096 && len < 9000 { 4096 } else { len };
            let record = vec![u8::try_from(i % 251).unwrap(); len];
            records.push((out.place(&record).unwrap(), record));
            if i % 50 == 0 {
                out.write(&[0xff; 10_000]).unwrap();
                out.pad().unwrap();
            }
        }
        let places = out.close_all().unwrap();
        let blocks = out.finish().unwrap();
        assert_eq!(file.metadata().unwrap().len(), u64::from(blocks) * BLOCK_U64);
        for (place, record) in records {
            let at = places.nid(place) * 32;
            let mut found = vec![0; record.len()];
            file.read_exact_at(&mut found, at).unwrap();
            assert!(found == record && at >= BLOCK_U64);
            assert!(
                record.len() > BLOCK || at % BLOCK_U64 + u64::try_from(record.len()).unwrap() <= BLOCK_U64
            );
        }
    }
}
