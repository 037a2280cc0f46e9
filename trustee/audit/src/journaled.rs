//! A journal and the store in step: entries are acknowledged when the journal holds them, and move to the store later,
//! many in one commit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Error;
use crate::committer::Committer;
use crate::journal::{Journal, Room};
use crate::layout::{Head, Item};
use crate::progress::Progress;

/// So many entries in the journal are moved to the store without delay.
const FLUSH_AT: usize = 512;
/// A batch of so many goes to the store at once: a commit of its own costs less than both.
const DIRECT: usize = 256;
/// More entries than this wait for no store that fails.
const MAX_PENDING: usize = 2048;
/// Entries move to the store when none came for so long,
const IDLE: Duration = Duration::from_millis(200);
/// or when the oldest is so old.
const OLDEST: Duration = Duration::from_secs(1);
/// Pause after the store did not take them.
const RETRY: Duration = Duration::from_secs(1);

/// Beside a [`Committer`] whose store no other process uses.
pub(crate) struct Journaled {
    journal: Journal,
    progress: Arc<Progress>,
    /// Entries in the journal that the store does not hold: they follow the stored head.
    pending: Vec<Item>,
    /// When they are to be moved.
    oldest: Instant,
    newest: Instant,
    retry: Instant,
    /// The heads before and after a commit of which it is not known whether it was done.
    doubt: Option<(Head, Head)>,
}

impl Journaled {
    /// With an empty journal, or one whose entries the store holds.
    pub(crate) fn new(journal: Journal, progress: Arc<Progress>, committer: &Committer) -> Self {
        progress.stored(committer.known);
        let now = Instant::now();
        Journaled {
            journal,
            progress,
            pending: Vec::new(),
            oldest: now,
            newest: now,
            retry: now,
            doubt: None,
        }
    }

    /// Makes `items` durable; the index of the first.
    pub(crate) fn append(&mut self, committer: &mut Committer, items: Vec<Item>) -> Result<u64, Error> {
        self.settle(committer)?;
        self.journal.repair()?;
        let (head, bytes) = match committer.head.take() {
            Some(cached) => cached,
            None => committer.load()?,
        };
        let first = head.frontier.size + self.pending.len() as u64;
        let size = first + items.len() as u64;
        let room = self.journal.room(first, &items);
        // What must be signed with these entries is signed before they are acknowledged.
        let direct = items.len() >= DIRECT
            || committer.due(size)
            || self.pending.len() >= MAX_PENDING
            || room == Room::Never
            || room == Room::Anew && !self.pending.is_empty();
        if direct {
            self.store(committer, head, &bytes, items)?;
            return Ok(first);
        }
        let written = match room {
            Room::Anew => self.journal.begin(&head).and_then(|()| self.journal.append(&items)),
            _ => self.journal.append(&items),
        };
        committer.head = Some((head, bytes));
        written?;
        self.newest = Instant::now();
        if self.pending.is_empty() {
            self.oldest = self.newest;
        }
        committer.unsigned_since.get_or_insert(self.newest);
        self.pending.extend(items);
        self.progress.durable(size);
        Ok(first)
    }

    /// How long nothing needs to be moved; `None` if nothing waits.
    pub(crate) fn rest(&self) -> Option<Duration> {
        let due = (self.newest + IDLE).min(self.oldest + OLDEST).max(self.retry);
        (!self.pending.is_empty()).then(|| due.saturating_duration_since(Instant::now()))
    }

    /// Moves the entries if it is time or a reader waits for it.
    pub(crate) fn tidy(&mut self, committer: &mut Committer) {
        let many = self.pending.len() >= FLUSH_AT && Instant::now() >= self.retry;
        if many || self.rest().is_some_and(|rest| rest.is_zero()) || self.progress.wanted() {
            self.flush(committer);
        }
    }

    /// Moves all entries to the store and tells the readers.
    pub(crate) fn flush(&mut self, committer: &mut Committer) {
        let moved = self.settle(committer).and_then(|()| {
            if self.pending.is_empty() {
                return Ok(());
            }
            let (head, bytes) = match committer.head.take() {
                Some(cached) => cached,
                None => committer.load()?,
            };
            self.store(committer, head, &bytes, Vec::new())
        });
        match moved {
            Ok(()) => self.progress.stored(committer.known),
            Err(error) => {
                self.retry = Instant::now() + RETRY;
                self.progress.failed(&error);
                tracing::error!(entries = self.pending.len(), %error, "journalled audit entries were not stored yet");
            }
        }
    }

    /// Commits what is pending, and `more` after it, to this head.
    fn store(
        &mut self,
        committer: &mut Committer,
        head: Head,
        bytes: &[u8],
        more: Vec<Item>,
    ) -> Result<(), Error> {
        let (journalled, extra) = (self.pending.len(), !more.is_empty());
        self.pending.extend(more);
        let error = match committer.step(&head, bytes, &self.pending) {
            Ok(true) => {
                self.pending.clear();
                if extra {
                    self.journal.end();
                }
                self.progress.stored(committer.known);
                return Ok(());
            }
            // Nobody else may append, and what is pending has its place.
            Ok(false) => Error::JournalConflict { from: head.frontier.size, size: head.frontier.size },
            Err(error) => error,
        };
        let mut after = head.clone();
        self.pending.iter().for_each(|item| after.frontier.push(item.leaf, |_, _, _| ()));
        self.pending.truncate(journalled);
        self.doubt = Some((head, after));
        Err(error)
    }

    /// Finds out whether a commit that failed was done after all.
    fn settle(&mut self, committer: &mut Committer) -> Result<(), Error> {
        let Some((before, after)) = &self.doubt else { return Ok(()) };
        let (now, bytes) = committer.load()?;
        if now == *after {
            self.pending.clear();
            self.journal.end();
            committer.unsigned_since.get_or_insert_with(Instant::now);
        } else if now != *before {
            return Err(Error::JournalConflict { from: before.frontier.size, size: now.frontier.size });
        }
        committer.known = now.frontier.size;
        committer.head = Some((now, bytes));
        self.doubt = None;
        if self.pending.is_empty() {
            self.progress.stored(committer.known);
        }
        Ok(())
    }
}
