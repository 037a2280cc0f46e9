//! Signing of tree heads. Signing is what makes a tree binding, so a head is signed only if it continues the last
//! head that was signed: else whoever can write the store could have a rewritten log signed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cocoon_store::Store;

use crate::commit::Step;
use crate::layout::{
    CHECKPOINTS, Head, MAX_CHECKPOINTS, MAX_SIGNED, encode_signed, index_key, signed_head, signed_heads,
};
use crate::merkle::Hash;
use crate::offline::{verify_consistency, verify_head};
use crate::proof::consistency;
use crate::tree::Tree;
use crate::{Error, HeadSigner, PublicKey, SignedHead};

/// Signs heads of one log.
pub(crate) struct Notary {
    signer: Arc<dyn HeadSigner>,
    log_id: [u8; 16],
    /// Size and root of the last head that this process signed, or of the newest checkpoint when it began.
    last: Mutex<(u64, Hash)>,
}

impl Notary {
    /// Begins with the newest checkpoint, after checking that the log with this `head` continues it, and that the
    /// head is what the stored hashes lead to. Reads O(log size) values, not the entries.
    pub(crate) fn open(store: &dyn Store, signer: Arc<dyn HeadSigner>, head: &Head) -> Result<Self, Error> {
        let size = head.frontier.size;
        let checkpoints = signed_heads(store, CHECKPOINTS)?;
        let newest = checkpoints.last().ok_or(Error::Unsigned { size })?;
        let root = check_signed(&signer.public_key(), &head.log_id, newest)?;
        let notary = Notary { signer, log_id: head.log_id, last: Mutex::new((newest.size, root)) };
        notary.check(store, head)?;
        if Tree::new(store, size).root()? != head.frontier.root() {
            return Err(Error::HeadMismatch { from: newest.size, size });
        }
        Ok(notary)
    }

    /// Size of the last head that was signed.
    pub(crate) fn signed_size(&self) -> u64 {
        self.last().0
    }

    /// Checks that `head`, which is stored, continues what was signed last.
    ///
    /// # Errors
    /// [`Error::OtherLog`], [`Error::Truncated`], [`Error::Rewritten`], and what reading the proof meets.
    fn check(&self, store: &dyn Store, head: &Head) -> Result<(), Error> {
        let (signed, root) = *self.last();
        let size = head.frontier.size;
        if head.log_id != self.log_id {
            return Err(Error::OtherLog {
                expected: hex::encode(self.log_id),
                found: hex::encode(head.log_id),
            });
        }
        if size < signed {
            return Err(Error::Truncated { size, signed });
        }
        let proof = consistency(&mut Tree::new(store, size), signed, size)?;
        verify_consistency(&root, &head.frontier.root(), &proof)
            .map_err(|_| Error::Rewritten { from: 0, size: signed })
    }

    /// Signs `next`, which the caller made by appending to the stored head `base` (or which is `base`).
    pub(crate) fn sign(
        &self,
        store: &dyn Store,
        base: &Head,
        next: &Head,
        now: u64,
    ) -> Result<SignedHead, Error> {
        self.check(store, base)?;
        SignedHead::sign(&*self.signer, &self.log_id, next.frontier.size, &next.frontier.root(), now)
    }

    /// What keeping `head` as a checkpoint writes: the newest [`MAX_CHECKPOINTS`] stay.
    ///
    /// # Errors
    /// [`Error::KeyReplaced`] if another process has replaced the log's key.
    pub(crate) fn keep(&self, store: &dyn Store, head: &SignedHead) -> Result<Vec<Step>, Error> {
        let mut kept = store.list(CHECKPOINTS, "", MAX_SIGNED)?;
        if let Some(newest) = kept.last() {
            let value = store.get(CHECKPOINTS, newest)?.unwrap_or_default();
            check_signed(&self.signer.public_key(), &self.log_id, &signed_head(newest, &value)?)?;
        }
        kept.truncate((kept.len() + 1).saturating_sub(MAX_CHECKPOINTS));
        let old = kept.into_iter().map(|key| Step { ns: CHECKPOINTS, key, value: None });
        let new = Step::put(CHECKPOINTS, index_key(head.size), encode_signed(head)?);
        Ok(old.chain([new]).collect())
    }

    /// Remembers that a signed head is in the store or was given away.
    pub(crate) fn remember(&self, head: &Head) {
        let mut last = self.last();
        if head.frontier.size > last.0 {
            *last = (head.frontier.size, head.frontier.root());
        }
    }

    fn last(&self) -> MutexGuard<'_, (u64, Hash)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks a stored signed head of the log `log_id`; gives its root.
///
/// # Errors
/// [`Error::KeyReplaced`], [`Error::OtherLog`], [`Error::CheckpointForged`].
pub(crate) fn check_signed(key: &PublicKey, log_id: &[u8; 16], head: &SignedHead) -> Result<Hash, Error> {
    let root = verify_head(key, head).map_err(|error| match error {
        Error::ProofInvalid(_) => Error::CheckpointForged { size: head.size },
        other => other,
    })?;
    let expected = hex::encode(log_id);
    if head.log_id == expected {
        Ok(root)
    } else {
        Err(Error::OtherLog { expected: head.log_id.clone(), found: expected })
    }
}
