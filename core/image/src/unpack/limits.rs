//! What an image may cost once unpacked.

use crate::Error;
use crate::error::printable;
use crate::tar::Entry;

/// Bounds of one image, all layers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory or disk: content rounded up to pages, plus a fixed cost per entry. Content that an upper
    /// layer replaces counts, because both are there for a while.
    pub total_bytes: u64,
    /// Entries of all kinds.
    pub entries: u64,
    /// Length of one name or link target, in bytes.
    pub path_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { total_bytes: 16 << 30, entries: 1_000_000, path_bytes: 4096 }
    }
}

/// What an inode and its directory entry cost a tmpfs, roughly.
const ENTRY_COST: u64 = 1024;
const PAGE: u64 = 4096;

/// Somebody else who has a say in what may be unpacked: the owner of the space.
pub trait Account: Send {
    /// Asked before anything of an entry is written.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where there is no room for `bytes` more, which is then the end of the layer.
    fn take(&mut self, bytes: u64) -> Result<(), Error>;
}

/// Limits, and what of them is used.
pub struct Budget {
    limits: Limits,
    bytes: u64,
    entries: u64,
    account: Option<Box<dyn Account>>,
}

impl Budget {
    /// Nothing used yet.
    pub fn new(limits: Limits) -> Self {
        Budget { limits, bytes: 0, entries: 0, account: None }
    }

    /// The same, with an account that every entry is charged to as well.
    pub fn with_account(limits: Limits, account: Box<dyn Account>) -> Self {
        Budget { account: Some(account), ..Budget::new(limits) }
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Bytes used, as [`Limits::total_bytes`] counts them.
    pub fn used_bytes(&self) -> u64 {
        self.bytes
    }

    /// Entries of all kinds so far.
    pub fn used_entries(&self) -> u64 {
        self.entries
    }

    /// Accounts for an entry by its header, before any of its content is read: a bomb is seen by what it claims.
    /// `header_bytes` are those of its extended headers.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn take_entry(&mut self, entry: &Entry, header_bytes: u64) -> Result<(), Error> {
        let pages = entry.size.div_ceil(PAGE).saturating_mul(PAGE);
        self.take(&entry.path, entry.size, pages.saturating_add(header_bytes))
    }

    /// Accounts for a directory that the name `path` implies: one long name may imply thousands.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn take_directory(&mut self, path: &[u8]) -> Result<(), Error> {
        self.take(path, 0, 0)
    }

    fn take(&mut self, path: &[u8], size: u64, more: u64) -> Result<(), Error> {
        let cost = more.saturating_add(ENTRY_COST);
        self.bytes = self.bytes.saturating_add(cost);
        self.entries = self.entries.saturating_add(1);
        if self.bytes > self.limits.total_bytes {
            return Err(Error::TooLarge(format!(
                "the image needs more than {} bytes unpacked (entry {} has {size} bytes)",
                self.limits.total_bytes,
                printable(path),
            )));
        }
        if self.entries > self.limits.entries {
            return Err(Error::TooLarge(format!(
                "the image has more than {} entries (at entry {})",
                self.limits.entries,
                printable(path)
            )));
        }
        if let Some(account) = &mut self.account {
            account.take(cost).map_err(|e| name_entry(e, path, size))?;
        }
        Ok(())
    }
}

/// Says at which entry there was no more room.
fn name_entry(e: Error, path: &[u8], size: u64) -> Error {
    match e {
        Error::TooLarge(why) => {
            Error::TooLarge(format!("{why} (entry {} has {size} bytes)", printable(path)))
        }
        e => e,
    }
}
