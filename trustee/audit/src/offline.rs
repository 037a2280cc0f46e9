//! What an auditor checks without any store: proofs and signed heads, as fetched from Trustee.
//!
//! All input is hostile. Every function is bounded by the length of the given path.

use crate::merkle::Hash;
use crate::proof::MAX_PATH;
use crate::{ConsistencyProof, Entry, Error, InclusionProof, PublicKey, SignedHead};

/// Checks that the entry with the leaf hash `leaf` ([`Hash::of_leaf`]) is at `proof.index` of the tree with `root`
/// (RFC 9162 §2.1.3.2).
///
/// # Errors
/// [`Error::ProofInvalid`].
pub fn verify_inclusion(leaf: &Hash, proof: &InclusionProof, root: &Hash) -> Result<(), Error> {
    if proof.index >= proof.size || proof.path.len() > MAX_PATH {
        return Err(Error::ProofInvalid("index or path exceeds the tree"));
    }
    let (mut node, mut last) = (proof.index, proof.size - 1);
    let mut found = *leaf;
    for sibling in &proof.path {
        if last == 0 {
            return Err(Error::ProofInvalid("the path is too long"));
        }
        if node & 1 == 1 || node == last {
            found = Hash::of_node(sibling, &found);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            found = Hash::of_node(&found, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(Error::ProofInvalid("the path is too short"));
    }
    if found == *root { Ok(()) } else { Err(Error::ProofInvalid("the entry does not lead to the root")) }
}

/// Checks that the tree `from_root` of `proof.from` entries is the beginning of the tree `to_root` of `proof.to`
/// entries (RFC 9162 §2.1.4.2). The tree without entries is the beginning of every tree.
///
/// # Errors
/// [`Error::ProofInvalid`].
pub fn verify_consistency(from_root: &Hash, to_root: &Hash, proof: &ConsistencyProof) -> Result<(), Error> {
    let (from, to) = (proof.from, proof.to);
    if from > to || proof.path.len() > MAX_PATH {
        return Err(Error::ProofInvalid("the sizes or the path are impossible"));
    }
    if from == 0 && *from_root != Hash::of_nothing() {
        return Err(Error::ProofInvalid("an empty tree has another root"));
    }
    if from == 0 || from == to {
        let holds = proof.path.is_empty() && (from == 0 && to != 0 || from_root == to_root);
        return if holds { Ok(()) } else { Err(Error::ProofInvalid("trees of one size differ")) };
    }
    let (mut node, mut last) = (from - 1, to - 1);
    while node & 1 == 1 {
        (node, last) = (node >> 1, last >> 1);
    }
    let known = from.is_power_of_two().then_some(from_root);
    let mut path = known.into_iter().chain(&proof.path);
    let Some(first) = path.next() else { return Err(Error::ProofInvalid("the path is too short")) };
    let (mut earlier, mut later) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return Err(Error::ProofInvalid("the path is too long"));
        }
        if node & 1 == 1 || node == last {
            earlier = Hash::of_node(sibling, &earlier);
            later = Hash::of_node(sibling, &later);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            later = Hash::of_node(&later, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(Error::ProofInvalid("the path is too short"));
    }
    if earlier == *from_root && later == *to_root {
        Ok(())
    } else {
        Err(Error::ProofInvalid("the earlier tree is not the beginning of the later one"))
    }
}

/// Checks a head's signature; gives its root.
///
/// # Errors
/// [`Error::KeyReplaced`] if it names another key; [`Error::ProofInvalid`] if a field is malformed or the signature
/// is not that of the key.
pub fn verify_head(key: &PublicKey, head: &SignedHead) -> Result<Hash, Error> {
    let expected = key.key_id();
    if head.key_id != expected {
        return Err(Error::KeyReplaced { size: head.size, expected, found: shown(&head.key_id) });
    }
    let root = head.root()?;
    if key.verify(&head.signed_bytes()?, &head.signature()?) {
        Ok(root)
    } else {
        Err(Error::ProofInvalid("the head's signature is not that of the key"))
    }
}

/// Checks that `entry` is in the log that `head` signs.
///
/// # Errors
/// Those of [`verify_head`] and [`verify_inclusion`]; [`Error::ProofInvalid`] if the proof is for another size.
pub fn verify_entry(
    key: &PublicKey,
    head: &SignedHead,
    entry: &Entry,
    proof: &InclusionProof,
) -> Result<(), Error> {
    let root = verify_head(key, head)?;
    if proof.size != head.size {
        return Err(Error::ProofInvalid("the proof is for another size than the head"));
    }
    verify_inclusion(&Hash::of_leaf(&entry.to_bytes()?), proof, &root)
}

/// Checks that the log of `earlier` was only appended to until `later`.
///
/// # Errors
/// Those of [`verify_head`] and [`verify_consistency`]; [`Error::OtherLog`]; [`Error::ProofInvalid`] if the proof is
/// for other sizes.
pub fn verify_growth(
    key: &PublicKey,
    earlier: &SignedHead,
    later: &SignedHead,
    proof: &ConsistencyProof,
) -> Result<(), Error> {
    let (from, to) = (verify_head(key, earlier)?, verify_head(key, later)?);
    if earlier.log_id != later.log_id {
        return Err(Error::OtherLog { expected: earlier.log_id.clone(), found: later.log_id.clone() });
    }
    if (proof.from, proof.to) != (earlier.size, later.size) {
        return Err(Error::ProofInvalid("the proof is for other sizes than the heads"));
    }
    verify_consistency(&from, &to, proof)
}

/// A foreign key id, short enough for a message.
fn shown(key_id: &str) -> String {
    key_id.chars().take(64).collect()
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the sizes in these tests are small")]
#[path = "offline_tests.rs"]
mod tests;
