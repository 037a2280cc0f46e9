//! What was verified before, remembered: chains of platforms and collateral of platform families.

use super::chain::PckChain;
use super::endorse::Endorsed;
use crate::memory::Bounded;

/// A bounded memory of PCK chains that lead to a trusted root and of collateral whose signatures verified.
///
/// An entry's key is the hash of all bytes that it follows from, the trusted roots among them, so other bytes never find
/// it. Only what does not depend on time is remembered; dates, revocation of the platform's certificate and everything a
/// quote says are checked every time. Nothing that failed is remembered.
#[derive(Debug)]
pub struct Cache {
    pub(super) chains: Bounded<PckChain>,
    pub(super) endorsed: Bounded<Endorsed>,
}

impl Default for Cache {
    /// 256 platforms (about 10 kB each) and 32 sets of collateral (about 100 kB each).
    fn default() -> Self {
        Cache::new(256, 32)
    }
}

impl Cache {
    /// A cache of at most so many platforms and sets of collateral; the oldest make room. Zero remembers nothing.
    pub fn new(platforms: usize, collateral: usize) -> Self {
        Cache { chains: Bounded::new(platforms), endorsed: Bounded::new(collateral) }
    }

    /// Number of platforms and of sets of collateral remembered.
    pub fn len(&self) -> (usize, usize) {
        (self.chains.len(), self.endorsed.len())
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }
}
