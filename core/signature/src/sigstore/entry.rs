//! An entry of a transparency log: the log's promise (SET), its proof, and what it recorded.

use super::body::{self, Expected};
use super::trust::{Log, Window};
use super::{merkle, note};

/// An entry as a bundle or an annotation carries it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// What was recorded, in the canonical form that the log hashed.
    pub body: Vec<u8>,
    /// The same, base64 as it was sent: it is part of what the promise signs.
    pub body_base64: String,
    /// Kind and version of the body.
    pub kind: (String, String),
    /// Index over all trees of the log.
    pub index: u64,
    /// The log's id.
    pub log_id: Vec<u8>,
    /// When it was recorded, Unix seconds. Only a promise proves it.
    pub integrated: u64,
    /// The promise's signature.
    pub promise: Option<Vec<u8>>,
    /// The proof.
    pub proof: Option<Proof>,
}

/// A proof that an entry is in a tree that the log vouches for.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    /// Index in this tree.
    pub index: u64,
    /// The tree's leaves.
    pub size: u64,
    /// The tree's root.
    pub root: Vec<u8>,
    /// Hashes from the leaf to the root.
    pub hashes: Vec<merkle::Hash>,
    /// The log's signature over the tree.
    pub checkpoint: String,
}

/// What an entry proves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proved {
    /// When the entry was made, where that is proved.
    pub at: Option<u64>,
    /// When its log was in use.
    pub window: Window,
}

impl Entry {
    /// Checks all that the entry brings along, against one of the logs; says why not.
    pub(super) fn verify(&self, logs: &[Log], expected: &Expected<'_>) -> Result<Proved, String> {
        if self.promise.is_none() && self.proof.is_none() {
            return Err("the log's entry has neither promise nor proof".to_owned());
        }
        let (kind, version) = &self.kind;
        body::check(&self.body, kind, version, expected)?;
        let mut fault = "no log is trusted".to_owned();
        for log in logs {
            match self.stands_in(log) {
                Ok(at) => return Ok(Proved { at, window: log.window }),
                // Of several logs the one that the entry names explains best.
                Err(why) if log.id.as_slice() == self.log_id || logs.len() == 1 => fault = why,
                Err(_) => {
                    fault =
                        format!("log {} is not trusted, or the entry is not its", hex::encode(&self.log_id))
                }
            }
        }
        Err(fault)
    }

    fn stands_in(&self, log: &Log) -> Result<Option<u64>, String> {
        if let Some(promise) = &self.promise {
            let signed = format!(
                r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":{}}}"#,
                self.body_base64,
                self.integrated,
                hex::encode(&self.log_id),
                self.index
            );
            if !log.key.verifies(signed.as_bytes(), promise) {
                return Err("the log's promise (signed entry timestamp) does not verify".to_owned());
            }
            if !log.window.contains(self.integrated) {
                return Err("the log was not in use when the entry was made".to_owned());
            }
        }
        if let Some(proof) = &self.proof {
            let checkpoint = note::open(&proof.checkpoint, &log.key)?;
            if checkpoint.size != proof.size || checkpoint.root.as_slice() != proof.root {
                return Err("the log's checkpoint is of another tree than the proof".to_owned());
            }
            let root = merkle::root(merkle::leaf(&self.body), proof.index, proof.size, &proof.hashes);
            if root != Some(checkpoint.root) {
                return Err("the proof does not lead from the entry to the log's tree".to_owned());
            }
        }
        Ok(self.promise.as_ref().map(|_| self.integrated))
    }
}
