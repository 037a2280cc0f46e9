//! What lies on the disk: EROFS, as Linux 5.15 and later read it (`fs/erofs/erofs_fs.h`, "EROFS On-disk Format").
//! Blocks of 4096 bytes; no compression, chunks, extra devices or other features that need a newer kernel.

pub(crate) mod crc32c;
pub(crate) mod dirent;
pub(crate) mod inode;
pub(crate) mod superblock;
pub(crate) mod xattr;

/// Bytes of a block.
pub(crate) const BLOCK: usize = 4096;
/// The same, for sums of offsets.
pub(crate) const BLOCK_U64: u64 = 4096;
/// Inodes lie at multiples of this; an inode's number is its offset in the image divided by it.
pub(crate) const SLOT: usize = 32;
/// The same, for sums of offsets.
pub(crate) const SLOT_U64: u64 = 32;
/// Slots of a block.
pub(crate) const SLOTS: u64 = 128;

/// A dirent's type of file, and an inode's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileType {
    Regular,
    Directory,
    Whiteout,
    Fifo,
    Symlink,
}

impl FileType {
    /// The number in a dirent (`EROFS_FT_…`).
    pub(crate) fn dirent(self) -> u8 {
        match self {
            FileType::Regular => 1,
            FileType::Directory => 2,
            FileType::Whiteout => 3,
            FileType::Fifo => 5,
            FileType::Symlink => 7,
        }
    }

    /// The type's bits in a mode (`S_IF…`).
    pub(crate) fn mode(self) -> u16 {
        match self {
            FileType::Regular => 0o100_000,
            FileType::Directory => 0o040_000,
            FileType::Whiteout => 0o020_000,
            FileType::Fifo => 0o010_000,
            FileType::Symlink => 0o120_000,
        }
    }
}
