//! What registers hold after a log's events.

use std::collections::BTreeMap;

use super::{Algorithm, Digest, EventLog};

/// A PC Client TPM's PCRs.
const PCRS: std::ops::RangeInclusive<u32> = 0..=23;

impl EventLog {
    /// The final value of every register that the log extends in a bank. Unmeasured events, and events without a digest of
    /// the bank, extend nothing; [`EventLog::check_registers`] refuses the latter.
    pub fn replay(&self, bank: Algorithm) -> BTreeMap<u32, Vec<u8>> {
        self.values(bank).into_iter().map(|(index, value)| (index, value.as_bytes().to_vec())).collect()
    }

    /// The values of PCR 0 to 23 of a TPM whose only extensions are the log's.
    pub fn pcrs(&self, bank: Algorithm) -> BTreeMap<u32, Vec<u8>> {
        let values = self.values(bank);
        let value = |index| values.get(&index).copied().unwrap_or_else(|| self.initial(bank, index));
        PCRS.map(|index| (index, value(index).as_bytes().to_vec())).collect()
    }

    pub(super) fn values(&self, bank: Algorithm) -> BTreeMap<u32, Digest> {
        let mut values = BTreeMap::new();
        for event in self.events.iter().filter(|e| e.kind.is_measured()) {
            let Some(digest) = event.digest(bank) else { continue };
            let value = values.entry(event.index).or_insert_with(|| self.initial(bank, event.index));
            *value = value.extended(digest);
        }
        values
    }

    /// What a register starts with: zeros; in PCR 0 the startup locality as last byte; ones in PCR 17 to 22, which a dynamic
    /// launch (not supported here) would set to zero. Source: PC Client Platform TPM Profile, table of PCR initial values.
    pub(super) fn initial(&self, bank: Algorithm, index: u32) -> Digest {
        match index {
            0 => Digest::repeated(bank, 0).ending(self.locality),
            17..=22 => Digest::repeated(bank, 0xff),
            _ => Digest::repeated(bank, 0),
        }
    }
}
