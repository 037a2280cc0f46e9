//! Replacing the log's key: the log itself names the next key, under the last signature of the old one.

use std::sync::Arc;

use cocoon_store::Store;

use crate::commit::{Step, append, apply};
use crate::layout::{CHECKPOINTS, CHUNK, Head, Item, MAX_SIGNED, ROTATIONS, encode_signed, index_key};
use crate::merkle::Hash;
use crate::notary::Notary;
use crate::tree::Tree;
use crate::{Entry, Error, HeadSigner, Kind, Outcome, PublicKey, Receipt, SignedHead};

/// The detail of the entry that holds the new public key.
const NEW_KEY: &str = "new_key";

/// How often it is tried against running logs.
const ATTEMPTS: u32 = 100;

/// Makes `new` the log's key in place of `old`: appends an entry that names it, in the name of `actor`, and signs the
/// log up to there with both. An auditor who knows any earlier key can still verify all. Logs that are open with the
/// old key must be opened again with the new one: they refuse what they would have to sign
/// ([`Error::KeyReplaced`]). A log with a journal must be closed before, else it can not store what its journal holds
/// ([`Error::JournalConflict`]).
///
/// # Errors
/// As for [`crate::AuditLog::open`] with the old key; [`Error::Contended`]. The old key then stays in force.
pub fn rotate_key(
    store: &dyn Store,
    old: &Arc<dyn HeadSigner>,
    new: &dyn HeadSigner,
    at_unix: u64,
    actor: &str,
) -> Result<Receipt, Error> {
    let entry = Entry::new(at_unix, Kind::LogKeyRotation, Outcome::Granted)
        .actor(actor)
        .subject("audit log")
        .detail(NEW_KEY, &new.public_key().to_string());
    let bytes = entry.to_bytes()?;
    let item = Item { leaf: Hash::of_leaf(&bytes), bytes };
    for _ in 0..ATTEMPTS {
        let (head, stored) = Head::load(store)?.ok_or(Error::HeadMissing)?;
        let notary = Notary::open(store, old.clone(), &head)?;
        let (next, mut steps) = append(&head, std::slice::from_ref(&item))?;
        let last = notary.sign(store, &head, &next, at_unix)?;
        let key = index_key(last.size);
        steps.push(Step::put(ROTATIONS, key.clone(), encode_signed(&last)?));
        // The old key's last head covers all of its checkpoints.
        let checkpoints = store.list(CHECKPOINTS, "", MAX_SIGNED)?;
        steps.extend(checkpoints.into_iter().map(|key| Step { ns: CHECKPOINTS, key, value: None }));
        let first = SignedHead::sign(new, &next.log_id, last.size, &next.frontier.root(), at_unix)?;
        steps.push(Step::put(CHECKPOINTS, key, encode_signed(&first)?));
        if apply(store, Some((&head, &stored)), &next, &steps)? {
            return Ok(Receipt { index: head.frontier.size });
        }
    }
    Err(Error::Contended)
}

/// The key that the last of the first `size` entries names.
///
/// # Errors
/// [`Error::EntryAltered`] if that entry is no rotation.
pub(crate) fn replaced_key(store: &dyn Store, size: u64) -> Result<PublicKey, Error> {
    let index = size.checked_sub(1).ok_or(Error::CheckpointForged { size })?;
    let item = Tree::new(store, size).chunk(index / CHUNK)?.pop();
    let entry = item.and_then(|item| Entry::from_bytes(&item.bytes));
    let rotation = entry.filter(|entry| entry.kind == Kind::LogKeyRotation);
    let key = rotation.as_ref().and_then(|entry| entry.details.get(NEW_KEY)).and_then(|key| key.parse().ok());
    key.ok_or(Error::EntryAltered { index })
}
