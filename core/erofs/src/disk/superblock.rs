//! The superblock (`struct erofs_super_block`), 128 bytes at offset 1024 of block 0; the root's inode follows it.

use super::BLOCK;
use super::crc32c::crc32c;

/// Where it lies in block 0.
const OFFSET: usize = 1024;
/// Where the root's inode lies in block 0.
pub(crate) const ROOT_OFFSET: usize = OFFSET + 128;
/// The root's inode number: in slots of 32 bytes, from the image's start.
pub(crate) const ROOT_NID: u16 = 36;
/// What the root's inode, attributes and inline entries may take.
pub(crate) const ROOT_ROOM: usize = BLOCK - ROOT_OFFSET;

const MAGIC: u32 = 0xe0f5_e1e2;
/// `EROFS_FEATURE_COMPAT_SB_CHKSUM` and `EROFS_FEATURE_COMPAT_MTIME`: inodes' times are modification times.
const COMPAT: u32 = 0x1 | 0x2;
const BLOCK_BITS: u8 = 12;

/// Block 0: 1024 bytes of zeros, the superblock, the root's inode with what follows it (at most [`ROOT_ROOM`] bytes).
/// Build time, UUID and volume name are zeros; inode numbers count from the image's start.
pub(crate) fn block(inodes: u64, blocks: u32, root: &[u8]) -> Vec<u8> {
    let mut out = vec![0_u8; OFFSET];
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&[0; 4]); // checksum, below
    out.extend_from_slice(&COMPAT.to_le_bytes());
    out.extend_from_slice(&[BLOCK_BITS, 0]);
    out.extend_from_slice(&ROOT_NID.to_le_bytes());
    out.extend_from_slice(&inodes.to_le_bytes());
    out.extend_from_slice(&[0; 8 + 4]); // build time
    out.extend_from_slice(&blocks.to_le_bytes());
    // Blocks of metadata and of shared attributes, UUID, volume name, incompatible features, devices, reserved.
    out.resize(ROOT_OFFSET, 0);
    out.extend_from_slice(root);
    out.resize(BLOCK, 0);
    let sum = crc32c(!0, out.get(OFFSET..).unwrap_or_default());
    if let Some(field) = out.get_mut(OFFSET + 4..OFFSET + 8) {
        field.copy_from_slice(&sum.to_le_bytes());
    }
    out
}
