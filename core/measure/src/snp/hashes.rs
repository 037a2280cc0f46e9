//! The table of kernel, initrd and command line hashes that QEMU (`kernel-hashes=on`) puts into the guest, where the
//! firmware checks the three blobs against it.

use aws_lc_rs::digest::{Context, SHA256, digest};

use super::digest::PAGE;

/// Length of the table, padded to 16 bytes.
pub const KERNEL_HASHES_LEN: usize = 176;
/// Length without padding, as the table itself says it.
const TABLE: u16 = 168;
const ENTRY: u16 = 50;

/// 9438d606-4f22-4cc9-b479-a793d411fd21, mixed-endian as UEFI stores GUIDs; likewise the others.
const HEADER_GUID: [u8; 16] = guid(0x9438_d606, 0x4f22, 0x4cc9, 0xb479_a793_d411_fd21);
const KERNEL_GUID: [u8; 16] = guid(0x4de7_9437, 0xabd2, 0x427f, 0xb835_d5b1_72d2_045b);
const INITRD_GUID: [u8; 16] = guid(0x44ba_f731, 0x3a2f, 0x4bd7, 0x9af1_41e2_9169_781d);
const CMDLINE_GUID: [u8; 16] = guid(0x97d0_2dd8, 0xbd20, 0x4c94, 0xaa78_e771_4d36_ab2a);

/// A GUID's bytes: three little-endian fields, then eight bytes as written.
pub(super) const fn guid(a: u32, b: u16, c: u16, d: u64) -> [u8; 16] {
    let ([a0, a1, a2, a3], [b0, b1], [c0, c1]) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    let [d0, d1, d2, d3, d4, d5, d6, d7] = d.to_be_bytes();
    [a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, d2, d3, d4, d5, d6, d7]
}

/// SHA-256 of the three blobs of a direct kernel boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelHashes {
    /// Of the kernel file.
    pub kernel: [u8; 32],
    /// Of the initrd file; of nothing where there is none.
    pub initrd: [u8; 32],
    /// Of the command line and its trailing NUL.
    pub cmdline: [u8; 32],
}

impl KernelHashes {
    /// Hashes the blobs; `cmdline` without its NUL.
    pub fn of(kernel: &[u8], initrd: &[u8], cmdline: &str) -> Self {
        KernelHashes { kernel: sha256(kernel), initrd: sha256(initrd), cmdline: Self::of_cmdline(cmdline) }
    }

    /// SHA-256 of a command line and the NUL that QEMU hashes with it.
    pub fn of_cmdline(cmdline: &str) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        context.update(cmdline.as_bytes());
        context.update(&[0]);
        first32(context.finish().as_ref())
    }

    /// The GUIDed table: header, then command line, initrd and kernel entries, padded to 16 bytes.
    pub fn table(&self) -> [u8; KERNEL_HASHES_LEN] {
        let mut bytes = Vec::with_capacity(KERNEL_HASHES_LEN);
        bytes.extend(HEADER_GUID);
        bytes.extend(TABLE.to_le_bytes());
        for (guid, hash) in
            [(CMDLINE_GUID, &self.cmdline), (INITRD_GUID, &self.initrd), (KERNEL_GUID, &self.kernel)]
        {
            bytes.extend(guid);
            bytes.extend(ENTRY.to_le_bytes());
            bytes.extend(hash);
        }
        let mut table = [0; KERNEL_HASHES_LEN];
        table.iter_mut().zip(bytes).for_each(|(t, b)| *t = b);
        table
    }

    /// The page that holds the table `offset` bytes from its start; `None` where it does not fit.
    pub fn page(&self, offset: usize) -> Option<[u8; PAGE]> {
        let mut page = [0; PAGE];
        let slot = page.get_mut(offset..offset.checked_add(KERNEL_HASHES_LEN)?)?;
        slot.copy_from_slice(&self.table());
        Some(page)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    first32(digest(&SHA256, bytes).as_ref())
}

fn first32(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.iter_mut().zip(bytes).for_each(|(o, b)| *o = *b);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_guids_and_lengths_in_place() {
        let table = KernelHashes { kernel: [1; 32], initrd: [2; 32], cmdline: [3; 32] }.table();
        assert_eq!(hex::encode(&table[..18]), "06d63894224fc94cb479a793d411fd21a800");
        assert_eq!(hex::encode(&table[18..36]), "d82dd09720bd944caa78e7714d36ab2a3200");
        assert_eq!(table[36..68], [3; 32]);
        assert_eq!(table[168..], [0; 8]);
    }

    #[test]
    fn the_command_line_is_hashed_with_its_nul() {
        assert_eq!(KernelHashes::of_cmdline("a"), sha256(b"a\0"));
    }

    #[test]
    fn a_table_across_the_page_end_does_not_exist() {
        let hashes = KernelHashes::of(b"k", b"i", "c");
        assert!(hashes.page(PAGE - KERNEL_HASHES_LEN).is_some());
        assert!(hashes.page(PAGE - KERNEL_HASHES_LEN + 1).is_none());
        assert!(hashes.page(usize::MAX).is_none());
    }
}
