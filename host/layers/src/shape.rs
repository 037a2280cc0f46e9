//! How long a layer's file is, and how many data blocks a file of some length has.

use cocoon_erofs::verity::total_blocks;

use crate::BLOCK;

/// The largest layer, in data blocks: 1 TiB, as in plans.
pub(crate) const MAX_BLOCKS: u64 = 1 << 28;

/// Bytes of the file.
pub(crate) fn file_bytes(data: u64) -> u64 {
    total_blocks(data).saturating_mul(BLOCK)
}

/// Data blocks of a file of this length; `None` where no layer has it.
pub(crate) fn data_blocks(bytes: u64) -> Option<u64> {
    if !bytes.is_multiple_of(BLOCK) || bytes > file_bytes(MAX_BLOCKS) {
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
