//! Verification of a whole stored log, by an auditor or after a restore.

use cocoon_store::Store;
use serde::{Deserialize, Serialize};

use crate::layout::{
    CHECKPOINTS, CHUNK, ENTRIES, HEAD, Head, NODE_LEVEL, NODES, ROTATIONS, index_key, node_key, signed_heads,
};
use crate::merkle::{Frontier, Hash};
use crate::notary::check_signed;
use crate::offline::verify_head;
use crate::rotate::replaced_key;
use crate::tree::Tree;
use crate::{Error, PublicKey, SignedHead};

/// A size and the root that was signed for it.
type Signed = (u64, Hash);

/// What [`verify`] found to be true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The log's id, 32 hex digits.
    pub log_id: String,
    /// Entries that were read; all are those that the head stands for.
    pub size: u64,
    /// Root of the tree of these entries.
    pub root: Hash,
    /// Entries that a signature covers; those after it are protected by hashes only.
    pub signed_size: u64,
    /// Checkpoints whose signature and root are right.
    pub checkpoints: usize,
    /// Id of the log's present key.
    pub key_id: String,
    /// How often the log's key was replaced, by the log, since the key that was given.
    pub rotations: usize,
    /// Size of the trusted head that was given.
    pub trusted_size: Option<u64>,
}

/// Reads every entry, recomputes the tree, and compares it with the stored head, inner hashes and checkpoints, and with
/// `trusted`: a signed head that the auditor remembers from before. `key` is the log's key, or one that it had before
/// rotations. `progress` is told entries read and entries in all. The log may be in use meanwhile: it is verified as
/// it was at the beginning.
///
/// # Errors
/// Those of the store; one of tampering that says where. What cannot be seen without `trusted` is said at the top of
/// this crate.
pub fn verify(
    store: &dyn Store,
    key: &PublicKey,
    trusted: Option<&SignedHead>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, Error> {
    // Signed heads are read before the head, which therefore can not be behind any of them.
    let rotations = signed_heads(store, ROTATIONS)?;
    let checkpoints = signed_heads(store, CHECKPOINTS)?;
    let (head, bytes) = Head::load(store)?.ok_or(Error::HeadMissing)?;
    let size = head.frontier.size;
    let newest = rotations.iter().chain(&checkpoints).chain(trusted).map(|signed| signed.size).max();
    match newest {
        Some(signed) if signed > size => return Err(Error::Truncated { size, signed }),
        _ if checkpoints.is_empty() => return Err(Error::Unsigned { size }),
        _ => (),
    }
    let (keys, mut signed) = key_chain(store, &head, key, &rotations)?;
    let present = keys.last().unwrap_or(key);
    for checkpoint in &checkpoints {
        signed.push((checkpoint.size, check_signed(present, &head.log_id, checkpoint)?));
    }
    if let Some(trusted) = trusted {
        signed.push((trusted.size, check_trusted(&keys, &head, trusted)?));
    }
    signed.sort_unstable();
    let signed_size = Walk::new(store, &head, &signed).run(progress)?;
    check_end(store, size, &bytes)?;
    Ok(Report {
        log_id: hex::encode(head.log_id),
        size,
        root: head.frontier.root(),
        signed_size,
        checkpoints: checkpoints.len(),
        key_id: present.key_id(),
        rotations: keys.len() - 1,
        trusted_size: trusted.map(|trusted| trusted.size),
    })
}

/// The keys from the given one to the present one, and the sizes and roots that the earlier ones signed last. That
/// the entries which name the new keys are the signed ones, the walk finds out.
fn key_chain(
    store: &dyn Store,
    head: &Head,
    first: &PublicKey,
    rotations: &[SignedHead],
) -> Result<(Vec<PublicKey>, Vec<Signed>), Error> {
    let (mut keys, mut signed) = (vec![first.clone()], Vec::new());
    let mut present = first.clone();
    for rotation in rotations {
        // Rotations before the given key was the log's are covered by its own heads.
        if rotation.key_id == present.key_id() {
            signed.push((rotation.size, check_signed(&present, &head.log_id, rotation)?));
            present = replaced_key(store, rotation.size)?;
            keys.push(present.clone());
        }
    }
    Ok((keys, signed))
}

fn check_trusted(keys: &[PublicKey], head: &Head, trusted: &SignedHead) -> Result<Hash, Error> {
    let key = keys.iter().find(|key| key.key_id() == trusted.key_id).or(keys.last());
    let root = verify_head(key.ok_or(Error::Key("none was given"))?, trusted)?;
    let found = hex::encode(head.log_id);
    if trusted.log_id == found {
        Ok(root)
    } else {
        Err(Error::OtherLog { expected: trusted.log_id.clone(), found })
    }
}

/// Entries past the end belong to a log that grew meanwhile, or to one whose head was put back.
fn check_end(store: &dyn Store, size: u64, bytes: &[u8]) -> Result<(), Error> {
    let last = size.checked_sub(1).map(index_key).unwrap_or_default();
    let Some((key, _)) = store.scan_from(ENTRIES, "", &last, 1)?.pop() else { return Ok(()) };
    if store.get(HEAD.0, HEAD.1)?.as_deref() == Some(bytes) {
        let found = u64::from_str_radix(&key, 16).unwrap_or(u64::MAX);
        return Err(Error::HeadBehind { size, found });
    }
    Ok(())
}

/// One reading of all entries.
struct Walk<'a> {
    store: &'a dyn Store,
    head: &'a Head,
    /// Signed sizes and roots that are still ahead, ascending.
    signed: &'a [Signed],
    frontier: Frontier,
    /// Entries that a signed root has proven.
    proven: u64,
    /// The first inner hash that is not stored as computed.
    wrong_node: Option<(u32, u64)>,
}

impl<'a> Walk<'a> {
    fn new(store: &'a dyn Store, head: &'a Head, signed: &'a [Signed]) -> Self {
        Walk { store, head, signed, frontier: Frontier::default(), proven: 0, wrong_node: None }
    }

    /// How many entries signatures cover.
    fn run(mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<u64, Error> {
        let size = self.head.frontier.size;
        let tree = Tree::new(self.store, size);
        self.compare_signed()?;
        for chunk in 0..size.div_ceil(CHUNK) {
            for item in tree.chunk(chunk)? {
                let mut completed = Vec::new();
                self.frontier.push(item.leaf, |level, index, root| completed.push((level, index, root)));
                for (level, index, root) in completed {
                    self.compare_node(level, index, &root)?;
                }
                self.compare_signed()?;
            }
            progress(self.frontier.size, size);
        }
        self.finish()
    }

    fn compare_node(&mut self, level: u32, index: u64, root: &Hash) -> Result<(), Error> {
        if level >= NODE_LEVEL && self.wrong_node.is_none() {
            let stored = self.store.get(NODES, &node_key(level, index))?;
            if stored.as_deref() != Some(root.0.as_slice()) {
                self.wrong_node = Some((level, index));
            }
        }
        Ok(())
    }

    fn compare_signed(&mut self) -> Result<(), Error> {
        while let Some(((size, root), rest)) = self.signed.split_first() {
            if *size != self.frontier.size {
                break;
            }
            if *root != self.frontier.root() {
                return Err(self.replaced().unwrap_or(Error::Rewritten { from: self.proven, size: *size }));
            }
            self.proven = *size;
            self.signed = rest;
        }
        Ok(())
    }

    /// The narrowest range in which entries differ from what was appended, if an inner hash tells.
    fn replaced(&self) -> Option<Error> {
        let (level, index) = self.wrong_node?;
        let from = index << level;
        let last = from + (1 << level) - 1;
        (last >= self.proven).then_some(Error::EntriesReplaced { from: from.max(self.proven), last })
    }

    fn finish(self) -> Result<u64, Error> {
        let size = self.head.frontier.size;
        if self.frontier != self.head.frontier {
            return Err(if self.proven == size {
                Error::HeadForged { size }
            } else {
                self.replaced().unwrap_or(Error::HeadMismatch { from: self.proven, size })
            });
        }
        match (self.replaced(), self.wrong_node) {
            (Some(error), _) => Err(error),
            (None, Some((level, index))) => Err(Error::NodeAltered { level, index }),
            (None, None) => Ok(self.proven),
        }
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
