//! What one image may cost, over layers that are unpacked at the same time.

use std::sync::{Mutex, PoisonError};

use cocoon_image::{Error, Limits};

/// Bytes and entries of an image so far.
pub(crate) struct Total {
    limits: Limits,
    used: Mutex<(u64, u64)>,
}

impl Total {
    pub(crate) fn new(limits: Limits) -> Self {
        Total { limits, used: Mutex::default() }
    }

    /// Counts bytes and entries in.
    pub(crate) fn take(&self, bytes: u64, entries: u64) -> Result<(), Error> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        *used = (used.0.saturating_add(bytes), used.1.saturating_add(entries));
        if used.0 > self.limits.total_bytes {
            let limit = self.limits.total_bytes;
            return Err(Error::TooLarge(format!("the image needs more than {limit} bytes unpacked")));
        }
        if used.1 > self.limits.entries {
            let limit = self.limits.entries;
            return Err(Error::TooLarge(format!("the image has more than {limit} entries")));
        }
        Ok(())
    }
}
