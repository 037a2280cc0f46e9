//! Inclusion and consistency proofs (RFC 9162 §2.1.3 and §2.1.4): made from any source of subtree roots.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::merkle::Hash;

/// Longest path of a proof that is read: trees have at most 2^48 entries.
pub(crate) const MAX_PATH: usize = 2 * 48;

/// That an entry is at `index` of the tree of `size` entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InclusionProof {
    /// The entry's index.
    pub index: u64,
    /// The tree's size.
    pub size: u64,
    /// Roots of the sibling subtrees from the leaf up.
    pub path: Vec<Hash>,
}

/// That the tree of `from` entries is the beginning of the tree of `to` entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsistencyProof {
    /// Size of the earlier tree.
    pub from: u64,
    /// Size of the later tree.
    pub to: u64,
    /// Subtree roots, in the order of RFC 9162.
    pub path: Vec<Hash>,
}

/// Where subtree roots come from.
pub(crate) trait Subtrees {
    /// The root of the tree of the entries `from..to`. Only asked for ranges that are subtrees of some tree: `from`
    /// is a multiple of the smallest power of two that is at least `to - from`.
    fn subtree(&mut self, from: u64, to: u64) -> Result<Hash, Error>;
}

/// Where a tree of `width` > 1 entries parts: the largest power of two below it.
pub(crate) fn split(width: u64) -> u64 {
    1 << (width.saturating_sub(1) | 1).ilog2()
}

/// Proves the entry `index` < `size`.
pub(crate) fn inclusion(tree: &mut impl Subtrees, index: u64, size: u64) -> Result<InclusionProof, Error> {
    let (mut from, mut to) = (0, size);
    let mut path = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            path.push(tree.subtree(middle, to)?);
            to = middle;
        } else {
            path.push(tree.subtree(from, middle)?);
            from = middle;
        }
    }
    path.reverse();
    Ok(InclusionProof { index, size, path })
}

/// Proves that the tree of `earlier` ≤ `later` entries is the beginning of that of `later`.
pub(crate) fn consistency(
    tree: &mut impl Subtrees,
    earlier: u64,
    later: u64,
) -> Result<ConsistencyProof, Error> {
    let mut path = Vec::new();
    if earlier != 0 && earlier != later {
        let (mut from, mut to) = (0, later);
        while earlier != to {
            let middle = from + split(to - from);
            if earlier <= middle {
                path.push(tree.subtree(middle, to)?);
                to = middle;
            } else {
                path.push(tree.subtree(from, middle)?);
                from = middle;
            }
        }
        // A whole earlier tree is known to the verifier already.
        if from != 0 {
            path.push(tree.subtree(from, to)?);
        }
        path.reverse();
    }
    Ok(ConsistencyProof { from: earlier, to: later, path })
}
