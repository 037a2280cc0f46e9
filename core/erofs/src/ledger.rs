//! What a layer may cost: `cocoon_image::Budget`'s accounting, and bounds on what is kept in memory.

use cocoon_image::Limits;
use cocoon_image::tar::Entry;

use crate::Error;
use crate::error::printable;

/// As in `cocoon_image::Budget`: a fixed cost per inode, content in pages.
const ENTRY_COST: u64 = 1024;
const PAGE: u64 = 4096;
/// What is kept in memory at most, in bytes.
const MAX_KEPT: usize = 256 << 20;
/// What a name with its inode takes beside its bytes, and a directory beside that: about, and rather too much.
const NAME_COST: usize = 150;
const DIRECTORY_COST: usize = 300;

pub(crate) struct Ledger {
    limits: Limits,
    bytes: u64,
    inodes: u64,
    kept: usize,
}

impl Ledger {
    pub(crate) fn new(limits: &Limits) -> Self {
        Ledger { limits: *limits, bytes: 0, inodes: 0, kept: 0 }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Accounts for an entry by its header, before any of its content is read: a bomb is seen by what it claims.
    pub(crate) fn take_entry(&mut self, entry: &Entry, header_bytes: u64) -> Result<(), Error> {
        let pages = entry.size.div_ceil(PAGE).saturating_mul(PAGE);
        self.take(pages.saturating_add(header_bytes), &entry.path, entry.size)
    }

    /// Accounts for a directory that a name implies: one long name may imply thousands.
    pub(crate) fn take_directory(&mut self, path: &[u8], name: &[u8]) -> Result<(), Error> {
        self.take(0, path, 0)?;
        self.keep_name(name, true)
    }

    /// Accounts for a name that stays in memory until the image is done.
    pub(crate) fn keep_name(&mut self, name: &[u8], directory: bool) -> Result<(), Error> {
        let more = if directory { DIRECTORY_COST } else { 0 };
        self.keep(NAME_COST + more + name.len())
    }

    fn take(&mut self, more: u64, path: &[u8], size: u64) -> Result<(), Error> {
        self.bytes = self.bytes.saturating_add(more).saturating_add(ENTRY_COST);
        self.inodes = self.inodes.saturating_add(1);
        if self.bytes > self.limits.total_bytes {
            return Err(Error::too_large(format!(
                "the layer needs more than {} bytes unpacked (entry {} has {size} bytes)",
                self.limits.total_bytes,
                printable(path),
            )));
        }
        if self.inodes > self.limits.entries {
            return Err(Error::too_large(format!("the layer has more than {} entries", self.limits.entries)));
        }
        Ok(())
    }

    /// Accounts for bytes that stay in memory until the image is done.
    pub(crate) fn keep(&mut self, bytes: usize) -> Result<(), Error> {
        self.kept = self.kept.saturating_add(bytes);
        if self.kept > MAX_KEPT {
            return Err(Error::too_large(format!(
                "the layer's names take more than {MAX_KEPT} bytes of memory"
            )));
        }
        Ok(())
    }
}
