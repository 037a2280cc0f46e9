//! Verified chains, remembered: the RSA work of a chip's certificate is done once.

use std::sync::Arc;

use super::collateral::Roots;
use super::verify::Endorsement;
use crate::memory::{Bounded, Key, key};

/// A bounded memory of leaf certificates whose chain to a trusted root was verified, of chips that signed a report.
///
/// An entry's key is the hash of the leaf, of the list of revoked certificates and of all roots trusted at that time, so
/// another leaf, list or set of roots never finds it. Only signatures are remembered; dates and everything the report says
/// are checked every time.
#[derive(Debug)]
pub struct ChainCache(Bounded<Endorsement>);

impl ChainCache {
    /// A cache of at most `capacity` chains (about 3 kB each); the oldest makes room. Zero remembers nothing.
    pub fn new(capacity: usize) -> Self {
        ChainCache(Bounded::new(capacity))
    }

    /// Number of chains remembered.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn key(leaf: &[u8], crl: Option<&[u8]>, roots: &Roots) -> Key {
        let flags = [u8::from(crl.is_some()), u8::from(roots.vendor)];
        let simulated = roots.simulated.iter().flat_map(|r| [r.ark_der.as_slice(), r.ask_der.as_slice()]);
        key([leaf, crl.unwrap_or_default(), &flags].into_iter().chain(simulated))
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Endorsement>> {
        self.0.get(key)
    }

    pub(super) fn put(&self, key: Key, endorsement: Arc<Endorsement>) {
        self.0.put(key, endorsement);
    }
}
