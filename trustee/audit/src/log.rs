//! The log as Trustee uses it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use cocoon_store::Store;
use serde::{Deserialize, Serialize};

use crate::commit::{Step, apply};
use crate::committer::Committer;
use crate::journal::{self, Contents, Journal};
use crate::journaled::Journaled;
use crate::layout::{CHECKPOINTS, CHUNK, ENTRIES, Head, Item, encode_signed, index_key};
use crate::merkle::Hash;
use crate::notary::Notary;
use crate::pending::{self, Pending, Receipt};
use crate::progress::Progress;
use crate::tree::Tree;
use crate::writer::{Clock, Job, Message, Writer};
use crate::{ConsistencyProof, Entry, Error, HeadSigner, InclusionProof, Kind, SignedHead, proof};

/// Most entries that [`AuditLog::entries`] gives at once.
pub const MAX_PAGE: usize = 1000;

/// Limits of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// A checkpoint is signed at the latest after so many entries. Default 1024.
    pub sign_every: u64,
    /// A checkpoint is signed at the latest so long after an entry. Default 60 s.
    pub sign_after: Duration,
    /// So many entries may wait; more are [`Error::Overloaded`]. Default 8192.
    pub queue: usize,
    /// A file beside the store in which entries become durable at less cost than by a commit of the store; created
    /// (8 MiB, 0600) if absent. Only for a store that outlives the process. On one that other processes share,
    /// entries that an existing journal still holds are moved to the store, and it is not used further. Default:
    /// none.
    pub journal: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options { sign_every: 1024, sign_after: Duration::from_secs(60), queue: 8192, journal: None }
    }
}

/// An entry with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// Its index, from 0.
    pub index: u64,
    /// The entry.
    pub entry: Entry,
}

/// An open log. Several in one or more processes may share a store; calls other than [`AuditLog::submit`] read the
/// store and block as it does. Dropping it writes what waits, signs the head, and ends its thread.
pub struct AuditLog {
    store: Arc<dyn Store>,
    notary: Arc<Notary>,
    clock: Clock,
    progress: Option<Arc<Progress>>,
    queue: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<()>>,
}

impl AuditLog {
    /// Opens the log in `store`, or creates it there; `clock` gives seconds since 1970 for signed heads.
    ///
    /// # Errors
    /// Those of the store and the signer; every error of tampering that shows without reading all entries: the newest
    /// checkpoint, the log's growth since then, and the head are checked.
    pub fn open(store: Arc<dyn Store>, signer: Arc<dyn HeadSigner>, clock: Clock) -> Result<Self, Error> {
        Self::open_with(store, signer, clock, Options::default())
    }

    /// [`AuditLog::open`] with other limits. Entries that a journal holds are moved to the store first.
    ///
    /// # Errors
    /// As there; [`Error::Journal`], [`Error::JournalDamaged`], [`Error::JournalAhead`], [`Error::JournalConflict`].
    pub fn open_with(
        store: Arc<dyn Store>,
        signer: Arc<dyn HeadSigner>,
        clock: Clock,
        options: Options,
    ) -> Result<Self, Error> {
        let journal = match &options.journal {
            Some(path) if !store.shared() || path.exists() => Some(Journal::open(path)?),
            _ => None,
        };
        Self::start(store, signer, clock, options, journal)
    }

    /// Opens the log with what an earlier process left in the journal.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        signer: Arc<dyn HeadSigner>,
        clock: Clock,
        options: Options,
        journal: Option<(Journal, Option<Contents>)>,
    ) -> Result<Self, Error> {
        let stored = match Head::load(&*store)? {
            Some(stored) => stored,
            None => create(&*store, &*signer, clock())?,
        };
        let known = stored.0.frontier.size;
        let notary = Arc::new(Notary::open(&*store, signer, &stored.0)?);
        let queue_length = options.queue;
        let mut committer = Committer {
            store: store.clone(),
            notary: notary.clone(),
            clock: clock.clone(),
            options,
            // What an earlier process left unsigned counts as appended now.
            unsigned_since: (notary.signed_size() < known).then(std::time::Instant::now),
            head: Some(stored),
            known,
        };
        let journal =
            journal.map(|(journal, left)| recover(&mut committer, left).map(|()| journal)).transpose()?;
        let journal = journal.filter(|_| !store.shared());
        let progress = journal.as_ref().map(|_| Arc::new(Progress::default()));
        let journaled = journal
            .zip(progress.clone())
            .map(|(journal, progress)| Journaled::new(journal, progress, &committer));
        let (queue, waiting) = sync_channel(queue_length);
        let thread = std::thread::Builder::new()
            .name("cocoon-audit".into())
            .spawn(move || Writer { committer, journaled }.run(&waiting))
            .map_err(|_| Error::System("no thread could be started"))?;
        Ok(AuditLog { store, notary, clock, progress, queue: Some(queue), thread: Some(thread) })
    }

    /// Hands over an entry; returns at once. The answer comes when the entry is durable, or says why it is not:
    /// [`Error::EntryInvalid`], [`Error::Overloaded`], [`Error::Contended`], those of store and signer, or of tampering
    /// that the append met. After a failure later entries are tried anew.
    pub fn submit(&self, entry: Entry) -> Pending {
        let (answer, pending) = pending::pair();
        match prepare(&entry) {
            Err(error) => answer.give(Err(error)),
            Ok(item) => match &self.queue {
                None => answer.give(Err(Error::Closed)),
                Some(queue) => {
                    let sent = queue.try_send(Message::Append(Job { item, answer }));
                    // A message that is dropped tells its waiter that the log is closed.
                    if let Err(TrySendError::Full(Message::Append(job))) = sent {
                        job.answer.give(Err(Error::Overloaded));
                    }
                }
            },
        }
        pending
    }

    /// [`AuditLog::submit`], then waits.
    ///
    /// # Errors
    /// As there.
    pub fn append(&self, entry: Entry) -> Result<Receipt, Error> {
        self.submit(entry).wait()
    }

    /// Moves all entries that are acknowledged to the store, e.g. before a backup of it. Returns at once if the journal
    /// holds none. The other calls do it by themselves.
    ///
    /// # Errors
    /// Those of the store, the signer, and of tampering that the commit met; [`Error::Unflushed`] after 10 s.
    pub fn flush(&self) -> Result<(), Error> {
        let Some(progress) = &self.progress else { return Ok(()) };
        // If the queue is full, the writer is awake.
        progress.flush(|| drop(self.queue.as_ref().map(|queue| queue.try_send(Message::Wake))))
    }

    /// How many entries there are now, other replicas' included.
    ///
    /// # Errors
    /// Those of the store and of [`AuditLog::flush`]; [`Error::HeadMissing`], [`Error::HeadMalformed`].
    pub fn size(&self) -> Result<u64, Error> {
        Ok(self.load()?.0.frontier.size)
    }

    /// The entry at `index`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; those of the store; [`Error::EntryMissing`], [`Error::EntryAltered`].
    pub fn entry(&self, index: u64) -> Result<Entry, Error> {
        let size = self.size()?;
        let found = self.page(index, 1, size)?.pop();
        found.map(|logged| logged.entry).ok_or(Error::OutOfRange { asked: index, size })
    }

    /// Up to `limit` (at most [`MAX_PAGE`]) entries from index `from` on; none past the end.
    ///
    /// # Errors
    /// Those of the store; [`Error::EntryMissing`], [`Error::EntryAltered`].
    pub fn entries(&self, from: u64, limit: usize) -> Result<Vec<Logged>, Error> {
        self.page(from, limit, self.size()?)
    }

    /// The last `limit` (at most [`MAX_PAGE`]) entries, oldest first.
    ///
    /// # Errors
    /// As for [`AuditLog::entries`].
    pub fn latest(&self, limit: usize) -> Result<Vec<Logged>, Error> {
        let size = self.size()?;
        self.page(size.saturating_sub(limit.min(MAX_PAGE) as u64), limit, size)
    }

    /// A head of the log as it is now, signed now, and kept as a checkpoint if there is none of this size.
    ///
    /// # Errors
    /// Those of the store and the signer; [`Error::Truncated`], [`Error::Rewritten`], [`Error::KeyReplaced`] and what
    /// else contradicts the last signed head.
    pub fn head(&self) -> Result<SignedHead, Error> {
        let (head, bytes) = self.load()?;
        let signed = self.notary.sign(&*self.store, &head, &head, (self.clock)())?;
        if self.store.get(CHECKPOINTS, &index_key(signed.size))?.is_none() {
            let steps = self.notary.keep(&*self.store, &signed)?;
            // Not done if others appended meanwhile; the next checkpoint covers this one.
            apply(&*self.store, Some((&head, &bytes)), &head, &steps)?;
        }
        self.notary.remember(&head);
        Ok(signed)
    }

    /// Proves that the entry `index` is in the tree of `size` entries.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; those of the store and of entries or inner hashes that are missing or altered.
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<InclusionProof, Error> {
        self.check_range(size, self.size()?)?;
        if index >= size {
            return Err(Error::OutOfRange { asked: index, size });
        }
        proof::inclusion(&mut Tree::new(&*self.store, size), index, size)
    }

    /// Proves that the tree of `from` entries is the beginning of that of `to` entries.
    ///
    /// # Errors
    /// As for [`AuditLog::inclusion_proof`].
    pub fn consistency_proof(&self, from: u64, to: u64) -> Result<ConsistencyProof, Error> {
        self.check_range(to, self.size()?)?;
        self.check_range(from, to)?;
        proof::consistency(&mut Tree::new(&*self.store, to), from, to)
    }

    fn check_range(&self, asked: u64, size: u64) -> Result<(), Error> {
        if asked > size { Err(Error::OutOfRange { asked, size }) } else { Ok(()) }
    }

    /// The stored head, with all that is acknowledged.
    fn load(&self) -> Result<(Head, Vec<u8>), Error> {
        self.flush()?;
        Head::load(&*self.store)?.ok_or(Error::HeadMissing)
    }

    fn page(&self, from: u64, limit: usize, size: u64) -> Result<Vec<Logged>, Error> {
        let tree = Tree::new(&*self.store, size);
        let end = from.saturating_add(limit.min(MAX_PAGE) as u64).min(size);
        let mut found = Vec::new();
        let mut next = from;
        while next < end {
            let chunk = next / CHUNK;
            for (index, item) in (chunk * CHUNK..).zip(tree.chunk(chunk)?) {
                if index == next && index < end {
                    let entry = Entry::from_bytes(&item.bytes).ok_or(Error::EntryAltered { index })?;
                    found.push(Logged { index, entry });
                    next += 1;
                }
            }
        }
        Ok(found)
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn prepare(entry: &Entry) -> Result<Item, Error> {
    if entry.kind == Kind::LogKeyRotation {
        return Err(Error::EntryInvalid("only the rotation of the log's key writes this kind".into()));
    }
    let bytes = entry.to_bytes()?;
    Ok(Item { leaf: Hash::of_leaf(&bytes), bytes })
}

/// Moves what an earlier process left in the journal to the store.
fn recover(committer: &mut Committer, left: Option<Contents>) -> Result<(), Error> {
    let Some(contents) = left else { return Ok(()) };
    let (head, bytes) = committer.load()?;
    let items = journal::missing(&*committer.store, &head, contents)?;
    if items.is_empty() {
        return Ok(());
    }
    tracing::info!(entries = items.len(), "audit entries are moved from the journal to the store");
    let size = head.frontier.size;
    let moved = committer.step(&head, &bytes, &items)?;
    if moved { Ok(()) } else { Err(Error::JournalConflict { from: size, size }) }
}

/// Writes the first head with its checkpoint; of several that do, all end with one.
fn create(store: &dyn Store, signer: &dyn HeadSigner, now: u64) -> Result<(Head, Vec<u8>), Error> {
    let head = Head::new()?;
    let signed = SignedHead::sign(signer, &head.log_id, 0, &head.frontier.root(), now)?;
    let checkpoint = Step::put(CHECKPOINTS, index_key(0), encode_signed(&signed)?);
    let leftover = |ns| Ok::<_, Error>(!store.list(ns, "", 1)?.is_empty());
    if (leftover(ENTRIES)? || leftover(CHECKPOINTS)?) && Head::load(store)?.is_none() {
        return Err(Error::HeadMissing);
    }
    apply(store, None, &head, &[checkpoint])?;
    Head::load(store)?.ok_or(Error::HeadMissing)
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the sizes in these tests are small")]
#[path = "log_tests.rs"]
mod tests;
