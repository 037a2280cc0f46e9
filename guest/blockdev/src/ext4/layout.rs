//! Where things lie: every group holds its own bitmaps and inode table, the first one all else.

/// Bytes in a block.
pub(super) const BLOCK: u64 = 4096;
/// Blocks in a group: as many as one block has bits.
pub(super) const GROUP: u64 = 32_768;
/// Inodes in a group: one per 16 KiB.
pub(super) const INODES: u64 = 8192;
/// Bytes in an inode.
pub(super) const INODE: u64 = 256;
/// Blocks of one group's inode table.
pub(super) const TABLE: u64 = INODES * INODE / BLOCK;
/// Bytes in a group descriptor.
pub(super) const DESCRIPTOR: u64 = 64;
/// Blocks of a group that are never free: two bitmaps and the table.
const OVERHEAD: u64 = 2 + TABLE;
/// A last group with less room than this is left away.
const LEAST_ROOM: u64 = 64;
const SIZES: std::ops::RangeInclusive<u64> = (16 << 20)..=(16 << 40);

/// A file system's shape.
pub(super) struct Layout {
    blocks: u64,
    /// Blocks of the journal; 0: there is none.
    journal: u64,
}

impl Layout {
    /// For a device of that size; `None` where it is too small or too large.
    pub(super) fn new(bytes: u64, lasting: bool) -> Option<Self> {
        if !SIZES.contains(&bytes) {
            return None;
        }
        let blocks = bytes / BLOCK;
        let rest = blocks % GROUP;
        let left_away = if blocks > GROUP && rest < OVERHEAD + LEAST_ROOM { rest } else { 0 };
        // 4 MiB is the least that the kernel takes.
        let journal = match bytes >> 20 {
            _ if !lasting => 0,
            0..1024 => 1024,
            1024..16_384 => 4096,
            _ => 8192,
        };
        Some(Layout { blocks: blocks - left_away, journal })
    }

    /// Where the journal is, and how many blocks it has; none in a file system that ends with the VM.
    pub(super) fn journal(&self) -> Option<(u64, u64)> {
        (self.journal > 0).then(|| (self.lost_and_found() + 1, self.journal))
    }

    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    pub(super) fn groups(&self) -> u64 {
        self.blocks.div_ceil(GROUP)
    }

    pub(super) fn inodes(&self) -> u64 {
        self.groups() * INODES
    }

    pub(super) fn descriptor_blocks(&self) -> u64 {
        (self.groups() * DESCRIPTOR).div_ceil(BLOCK)
    }

    /// Blocks of a group.
    pub(super) fn size(&self, group: u64) -> u64 {
        GROUP.min(self.blocks - group * GROUP)
    }

    pub(super) fn block_bitmap(&self, group: u64) -> u64 {
        group * GROUP + if group == 0 { 1 + self.descriptor_blocks() } else { 0 }
    }

    pub(super) fn inode_bitmap(&self, group: u64) -> u64 {
        self.block_bitmap(group) + 1
    }

    pub(super) fn inode_table(&self, group: u64) -> u64 {
        self.block_bitmap(group) + 2
    }

    pub(super) fn root_directory(&self) -> u64 {
        self.inode_table(0) + TABLE
    }

    pub(super) fn lost_and_found(&self) -> u64 {
        self.root_directory() + 1
    }

    /// Blocks at a group's start that are in use.
    pub(super) fn used(&self, group: u64) -> u64 {
        if group == 0 { self.lost_and_found() + 1 + self.journal } else { OVERHEAD }
    }

    pub(super) fn free(&self, group: u64) -> u64 {
        self.size(group) - self.used(group)
    }

    pub(super) fn all_free(&self) -> u64 {
        // All groups but the first and the last are alike.
        let last = self.groups() - 1;
        let middle = last.saturating_sub(1) * (GROUP - OVERHEAD);
        self.free(0) + middle + if last > 0 { self.free(last) } else { 0 }
    }
}
