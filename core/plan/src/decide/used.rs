//! Ids that the host has used up: none comes to mean something else while a request that names it may be under way.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// How many ids are remembered, the latest ones; 32 KiB. Probes and restarts use up ids as long as a pod lives, so that an
/// end to them would be an end of the pod.
pub(super) const REMEMBERED: usize = 4096;

/// The latest ids, as hashes: two that collide can only have one refused.
#[derive(Debug, Default)]
pub(super) struct Used(VecDeque<u64>);

fn hash(id: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

impl Used {
    pub(super) fn contains(&self, id: impl Hash) -> bool {
        self.0.contains(&hash(id))
    }

    pub(super) fn add(&mut self, id: impl Hash) {
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(hash(id));
    }

    /// It never came to mean anything.
    pub(super) fn give_back(&mut self, id: impl Hash) {
        let id = hash(id);
        self.0.retain(|used| *used != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered() {
        let mut used = Used::default();
        for i in 0..=REMEMBERED {
            used.add(i);
        }
        assert!(!used.contains(0_usize) && used.contains(1_usize) && used.contains(REMEMBERED));
        assert_eq!(used.0.len(), REMEMBERED);
        used.give_back(1_usize);
        assert!(!used.contains(1_usize) && used.contains(2_usize));
        assert!(!used.contains(("a", "b")));
    }
}
