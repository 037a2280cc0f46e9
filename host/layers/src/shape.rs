//! How many blocks a layer has with its hash tree. dm-verity's tree without superblock: a level holds the hashes of the
//! blocks below it, 128 to a block; the level of one block comes first (kernel, admin-guide/device-mapper/verity).

use crate::BLOCK;

/// Hashes in a block of the tree.
const FANOUT: u64 = 4096 / 32;
/// The largest layer, in data blocks: 1 TiB, as in plans.
pub(crate) const MAX_BLOCKS: u64 = 1 << 28;

/// Blocks of the tree over so many data blocks. The hash of a single block is the root itself.
pub(crate) fn tree_blocks(data: u64) -> u64 {
    let (mut level, mut all) = (data, 0_u64);
    while level > 1 {
        level = level.div_ceil(FANOUT);
        all = all.saturating_add(level);
    }
    all
}

/// Bytes of the file.
pub(crate) fn file_bytes(data: u64) -> u64 {
    data.saturating_add(tree_blocks(data)).saturating_mul(BLOCK)
}

/// Data blocks of a file of this length; `None` where no layer has it.
pub(crate) fn data_blocks(bytes: u64) -> Option<u64> {
    if bytes % BLOCK != 0 || bytes > file_bytes(MAX_BLOCKS) {
        return None;
    }
    let (mut low, mut high) = (1, MAX_BLOCKS);
    while low < high {
        let middle = low + (high - low) / 2;
        if file_bytes(middle) < bytes {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    (file_bytes(low) == bytes).then_some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dm_veritys() {
        // Hash blocks that veritysetup reports for these numbers of data blocks.
        for (data, tree) in [(1, 0), (2, 1), (128, 1), (129, 3), (16384, 129), (16385, 132), (1 << 21, 16513)] {
            assert_eq!(tree_blocks(data), tree, "{data}");
        }
    }

    #[test]
    fn lengths_lead_back_to_blocks() {
        for data in (1..2000).chain([16384, 16385, 1 << 20, MAX_BLOCKS]) {
            assert_eq!(data_blocks(file_bytes(data)), Some(data));
            assert_eq!(data_blocks(file_bytes(data) + 1), None);
        }
        assert_eq!(data_blocks(0), None);
        // 129 data blocks have 3 of tree, 128 have 1: nothing has 130 or 131 in all.
        assert_eq!((data_blocks(130 * BLOCK), data_blocks(131 * BLOCK)), (None, None));
        assert_eq!(data_blocks(u64::MAX - u64::MAX % BLOCK), None);
    }
}
