//! The records, as bytes. All numbers are little-endian; offsets as in Documentation/filesystems/ext4/.

use super::layout::{BLOCK, DESCRIPTOR, GROUP, INODE, INODES, Layout, TABLE};

/// Inodes that are reserved or taken: 1 to 10, and lost+found.
const TAKEN: u64 = 11;
const LENGTH: usize = 4096;
type Block = [u8; LENGTH];
const ROOT: u32 = 2;
const LOST: u32 = 11;
const JOURNAL: u8 = 8;

/// A block of zeros that is filled in.
struct Record(Block);

impl Record {
    fn new() -> Self {
        Record([0; LENGTH])
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    /// A number whose low and high parts, of `half` bytes each, lie apart.
    fn split(&mut self, low: usize, high: usize, half: usize, value: u64) {
        let bytes = value.to_le_bytes();
        self.put(low, bytes.get(..half).unwrap_or_default());
        self.put(high, bytes.get(half..2 * half).unwrap_or_default());
    }

    /// The low 32 bits of a number that is known to fit them.
    fn low32(&mut self, at: usize, value: u64) {
        self.put(at, value.to_le_bytes().get(..4).unwrap_or_default());
    }

    fn set_bits(&mut self, bits: std::ops::Range<u64>) {
        for bit in bits {
            let byte = usize::try_from(bit / 8).ok().and_then(|i| self.0.get_mut(i));
            if let Some(byte) = byte {
                *byte |= 1 << (bit % 8);
            }
        }
    }
}

pub(super) fn superblock(layout: &Layout, id: &[u8; 16], seed: &[u8; 16]) -> Block {
    // ext_attr, dir_index, sparse_super2.
    const COMPATIBLE: u32 = 0x8 | 0x20 | 0x200;
    // filetype, extents, 64bit.
    const INCOMPATIBLE: u32 = 0x2 | 0x40 | 0x80;
    // sparse_super, large_file, huge_file, uninit_bg, dir_nlink, extra_isize.
    const READ_ONLY: u32 = 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x40;
    let mut block = Record::new();
    let at = |offset: usize| 1024 + offset;
    block.low32(at(0), layout.inodes());
    block.split(at(4), at(336), 4, layout.blocks());
    block.split(at(12), at(344), 4, layout.all_free());
    block.low32(at(16), layout.inodes() - TAKEN);
    block.u32(at(24), 2); // block size 1024 << 2
    block.u32(at(28), 2); // cluster size
    block.low32(at(32), GROUP);
    block.low32(at(36), GROUP);
    block.low32(at(40), INODES);
    block.u16(at(54), u16::MAX); // no check after so many mounts
    block.u16(at(56), 0xef53);
    block.u16(at(58), 1); // clean
    block.u16(at(60), 2); // on errors: read-only
    block.u32(at(76), 1); // dynamic revision
    block.u32(at(84), 11); // first inode that is not reserved
    block.low32(at(88), INODE);
    block.u32(at(92), COMPATIBLE | if layout.journal().is_some() { 0x4 } else { 0 });
    block.u32(at(96), INCOMPATIBLE);
    block.u32(at(100), READ_ONLY);
    block.put(at(104), id);
    block.put(at(120), if layout.journal().is_some() { &b"volume"[..] } else { b"scratch" });
    if let Some((first, length)) = layout.journal() {
        block.low32(at(224), u64::from(JOURNAL));
        // A copy of the journal's inode: its 60 bytes of extents, then its size.
        block.put(at(253), &[1]);
        let mut inode = Record::new();
        extent(&mut inode, 0, first, length);
        let copy = inode.0;
        block.put(at(268), copy.get(40..100).unwrap_or_default());
        block.low32(at(268 + 64), length * BLOCK);
    }
    block.put(at(236), seed);
    block.put(at(252), &[1]); // half MD4
    block.low32(at(254), DESCRIPTOR);
    block.u32(at(256), 0xc); // default mount options: user_xattr, acl
    block.u16(at(348), 32); // extra inode size, at least and wanted
    block.u16(at(350), 32);
    block.u32(at(352), 1); // signed directory hash
    block.0
}

/// One block of group descriptors; `index` counts from the first.
pub(super) fn descriptors(layout: &Layout, index: u64, id: &[u8; 16]) -> Block {
    const INODES_UNUSED: u16 = 0x1;
    const BLOCKS_UNUSED: u16 = 0x2;
    let mut block = Record::new();
    let last = layout.groups() - 1;
    let first = index * (BLOCK / DESCRIPTOR);
    for (group, at) in (first..=last).zip((0..LENGTH).step_by(64)) {
        block.split(at, at + 32, 4, layout.block_bitmap(group));
        block.split(at + 4, at + 36, 4, layout.inode_bitmap(group));
        block.split(at + 8, at + 40, 4, layout.inode_table(group));
        block.split(at + 12, at + 44, 2, layout.free(group));
        let taken = if group == 0 { TAKEN } else { 0 };
        block.split(at + 14, at + 46, 2, INODES - taken);
        block.split(at + 28, at + 50, 2, INODES - taken);
        block.u16(at + 16, if group == 0 { 2 } else { 0 });
        let mut flags = 0;
        if group > 0 {
            flags |= INODES_UNUSED;
        }
        if group > 0 && group < last {
            flags |= BLOCKS_UNUSED;
        }
        block.u16(at + 18, flags);
        let [g0, g1, g2, g3, ..] = group.to_le_bytes();
        let mut sum = crc16(crc16(!0, id), &[g0, g1, g2, g3]);
        for part in [at..at + 30, at + 32..at + 64] {
            sum = crc16(sum, block.0.get(part).unwrap_or_default());
        }
        block.u16(at + 30, sum);
    }
    block.0
}

pub(super) fn block_bitmap(layout: &Layout, group: u64) -> Block {
    let mut block = Record::new();
    block.set_bits(0..layout.used(group));
    block.set_bits(layout.size(group)..GROUP);
    block.0
}

pub(super) fn inode_bitmap() -> Block {
    let mut block = Record::new();
    block.set_bits(0..TAKEN);
    block.set_bits(INODES..8 * BLOCK);
    block.0
}

/// The first block of the inode table: the root directory and lost+found.
pub(super) fn first_inodes(layout: &Layout) -> Block {
    const _: () = assert!(TAKEN <= BLOCK / INODE && TABLE > 0);
    let mut block = Record::new();
    let directories =
        [(2_u8, 0o040_755, 3, layout.root_directory()), (11, 0o040_700, 2, layout.lost_and_found())];
    let directories = directories.map(|(inode, mode, links, data)| (inode, mode, links, data, 1));
    let journal = layout.journal().map(|(first, length)| (JOURNAL, 0o100_600, 1, first, length));
    for (inode, mode, links, data, length) in directories.into_iter().chain(journal) {
        let at = (usize::from(inode) - 1) * 256;
        block.u16(at, mode);
        block.low32(at + 4, length * BLOCK); // size
        block.u16(at + 26, links);
        block.low32(at + 28, 8 * length); // sectors in use
        block.u32(at + 32, 0x8_0000); // by extents
        extent(&mut block, at, data, length);
        block.u16(at + 128, 32); // extra size
    }
    block.0
}

/// All of an inode (at that place) is one piece of at most 32768 blocks.
fn extent(block: &mut Record, at: usize, first: u64, length: u64) {
    block.u16(at + 40, 0xf30a); // extent header: magic, entries, room
    block.u16(at + 42, 1);
    block.u16(at + 44, 4);
    block.put(at + 56, length.to_le_bytes().get(..2).unwrap_or_default()); // the extent: from block 0, so many, at
    block.low32(at + 60, first);
}

/// The first block of an empty journal (Documentation/filesystems/ext4/journal.rst); its numbers are big-endian.
pub(super) fn journal(length: u64, id: &[u8; 16]) -> Block {
    let mut block = Record::new();
    let length = u32::try_from(length).unwrap_or(0);
    // Magic, kind (superblock, version 2), no sequence of its own; block size, blocks, first block of the log, its first
    // number, and where it begins: nowhere.
    for (at, number) in (0..).step_by(4).zip([0xc03b_3998, 4, 0, 4096, length, 1, 1, 0]) {
        block.put(at, &u32::to_be_bytes(number));
    }
    block.put(48, id);
    block.put(64, &1_u32.to_be_bytes());
    block.0
}

/// The blocks of the root directory and of lost+found.
pub(super) fn directories() -> (Block, Block) {
    const DIRECTORY: u8 = 2;
    let entry = |block: &mut Record, at: usize, inode: u32, length: u16, name: &[u8]| {
        block.u32(at, inode);
        block.u16(at + 4, length);
        block.put(at + 6, &[u8::try_from(name.len()).unwrap_or(0), DIRECTORY]);
        block.put(at + 8, name);
    };
    let (mut root, mut lost) = (Record::new(), Record::new());
    entry(&mut root, 0, ROOT, 12, b".");
    entry(&mut root, 12, ROOT, 12, b"..");
    entry(&mut root, 24, LOST, 4096 - 24, b"lost+found");
    entry(&mut lost, 0, LOST, 12, b".");
    entry(&mut lost, 12, ROOT, 4096 - 12, b"..");
    (root.0, lost.0)
}

/// CRC-16 with the polynomial 0x8005, reflected, as Linux's lib/crc16.c.
fn crc16(mut sum: u16, bytes: &[u8]) -> u16 {
    for byte in bytes {
        sum ^= u16::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xa001 } else { sum >> 1 };
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_common_one() {
        assert_eq!(crc16(0, b"123456789"), 0xbb3d);
    }
}
