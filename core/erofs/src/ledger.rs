//! What a layer may cost: the accounting of [`cocoon_image::Budget`], and bounds on what is kept in memory.

use cocoon_image::tar::Entry;
use cocoon_image::{Budget, Limits};

use crate::Error;

/// What is kept in memory at most, in bytes.
const MAX_KEPT: usize = 256 << 20;
/// What a name with its inode takes beside its bytes, and a directory beside that: about, and rather too much.
const NAME_COST: usize = 150;
const DIRECTORY_COST: usize = 300;

pub(crate) struct Ledger {
    budget: Budget,
    kept: usize,
}

impl Ledger {
    pub(crate) fn new(limits: &Limits) -> Self {
        Ledger { budget: Budget::new(*limits), kept: 0 }
    }

    pub(crate) fn limits(&self) -> &Limits {
        self.budget.limits()
    }

    /// Accounts for an entry by its header, before any of its content is read: a bomb is seen by what it claims.
    pub(crate) fn take_entry(&mut self, entry: &Entry, header_bytes: u64) -> Result<(), Error> {
        Ok(self.budget.take_entry(entry, header_bytes)?)
    }

    /// Accounts for a directory that a name implies: one long name may imply thousands.
    pub(crate) fn take_directory(&mut self, path: &[u8], name: &[u8]) -> Result<(), Error> {
        self.budget.take_directory(path)?;
        self.keep_name(name, true)
    }

    /// Accounts for a name that stays in memory until the image is done.
    pub(crate) fn keep_name(&mut self, name: &[u8], directory: bool) -> Result<(), Error> {
        let more = if directory { DIRECTORY_COST } else { 0 };
        self.keep(NAME_COST + more + name.len())
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
