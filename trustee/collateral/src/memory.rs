//! Documents in memory, bounded, least recently used first to go.

use std::collections::HashMap;
use std::sync::Arc;

use cocoon_evidence::collateral::Need;

use crate::entry::Entry;

const MAX_ENTRIES: usize = 4096;
const MAX_BYTES: usize = 64 << 20;

struct Slot {
    entry: Arc<Entry>,
    used: u64,
    looked: u64,
}

/// The documents.
#[derive(Default)]
pub(crate) struct Memory {
    slots: HashMap<Need, Slot>,
    bytes: usize,
    tick: u64,
}

impl Memory {
    /// A document, and when the folder was last looked at for it (Unix seconds).
    pub fn get(&mut self, need: &Need) -> Option<(Arc<Entry>, u64)> {
        self.tick += 1;
        let slot = self.slots.get_mut(need)?;
        slot.used = self.tick;
        Some((slot.entry.clone(), slot.looked))
    }

    /// Keeps a document, in place of one for the same need.
    pub fn put(&mut self, entry: Arc<Entry>, looked: u64) {
        self.remove(&entry.need);
        while self.slots.len() >= MAX_ENTRIES || self.bytes.saturating_add(entry.size()) > MAX_BYTES {
            let oldest = self.slots.iter().min_by_key(|(_, slot)| slot.used).map(|(need, _)| need.clone());
            let Some(oldest) = oldest else { break };
            self.remove(&oldest);
        }
        self.tick += 1;
        self.bytes = self.bytes.saturating_add(entry.size());
        self.slots.insert(entry.need.clone(), Slot { entry, used: self.tick, looked });
    }

    /// All documents.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.slots.values().map(|slot| slot.entry.clone()).collect()
    }

    fn remove(&mut self, need: &Need) {
        if let Some(slot) = self.slots.remove(need) {
            self.bytes = self.bytes.saturating_sub(slot.entry.size());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_evidence::collateral::Document;

    fn entry(number: usize, size: usize) -> Arc<Entry> {
        Arc::new(Entry {
            need: Need::HygonCertificates { chip_id: number.to_string() },
            document: Arc::new(Document { body: vec![0; size], issuer_chain: String::new() }),
            fetched_unix: 0,
            from: String::new(),
            validity: None,
        })
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let mut memory = Memory::default();
        for number in 0..MAX_ENTRIES + 50 {
            memory.put(entry(number, 10), 0);
            memory.get(&entry(0, 0).need);
        }
        assert_eq!(memory.slots.len(), MAX_ENTRIES);
        assert!(memory.get(&entry(0, 0).need).is_some(), "what is used stays");
        assert!(memory.get(&entry(1, 0).need).is_none());
        for number in 0..20 {
            memory.put(entry(number, MAX_BYTES / 4), 0);
        }
        assert!(memory.bytes <= MAX_BYTES);
        assert_eq!(memory.bytes, memory.slots.values().map(|s| s.entry.size()).sum::<usize>());
    }
}
