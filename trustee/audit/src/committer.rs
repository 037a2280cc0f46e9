//! Commits to the store: appending, retry against other replicas, and checkpoints.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cocoon_store::Store;

use crate::Error;
use crate::commit::{append, apply};
use crate::layout::{Head, Item};
use crate::log::Options;
use crate::notary::Notary;
use crate::writer::Clock;

/// How often a commit is tried against other replicas that are faster.
const ATTEMPTS: u32 = 200;
/// Longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Committer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) notary: Arc<Notary>,
    pub(crate) clock: Clock,
    pub(crate) options: Options,
    /// The head after the last commit, with its stored form; `None` if it must be read again.
    pub(crate) head: Option<(Head, Vec<u8>)>,
    /// Entries that are known to be durable: the store may never have fewer.
    pub(crate) known: u64,
    /// Since when there are entries that no checkpoint covers.
    pub(crate) unsigned_since: Option<Instant>,
}

impl Committer {
    /// Appends `items` in one step, after whatever other replicas append; the index of the first.
    pub(crate) fn commit(&mut self, items: &[Item]) -> Result<u64, Error> {
        for attempt in 0..ATTEMPTS {
            let (head, bytes) = match self.head.take() {
                Some(cached) => cached,
                None => self.load()?,
            };
            let first = head.frontier.size;
            if self.step(&head, &bytes, items)? {
                return Ok(first);
            }
            let (now, stored) = self.load()?;
            if stored == bytes {
                return Err(Error::HeadBehind { size: first, found: first });
            }
            self.head = Some((now, stored));
            if attempt > 0 {
                std::thread::sleep(pause(attempt));
            }
        }
        Err(Error::Contended)
    }

    /// Appends `items` to this head, if it is the stored one, and signs if that is due; whether it did.
    pub(crate) fn step(&mut self, head: &Head, bytes: &[u8], items: &[Item]) -> Result<bool, Error> {
        let (next, mut steps) = append(head, items)?;
        let signs = self.due(next.frontier.size);
        if signs {
            let signed = self.notary.sign(&*self.store, head, &next, (self.clock)())?;
            steps.extend(self.notary.keep(&*self.store, &signed)?);
        }
        if !apply(&*self.store, Some((head, bytes)), &next, &steps)? {
            return Ok(false);
        }
        self.known = next.frontier.size;
        if signs {
            self.notary.remember(&next);
            self.unsigned_since = None;
        } else {
            self.unsigned_since.get_or_insert_with(Instant::now);
        }
        let encoded = next.encode();
        self.head = Some((next, encoded));
        Ok(true)
    }

    /// Whether a commit that leads to `size` must be signed.
    pub(crate) fn due(&self, size: u64) -> bool {
        size.saturating_sub(self.notary.signed_size()) >= self.options.sign_every || self.overdue()
    }

    /// Whether entries wait too long for a checkpoint.
    pub(crate) fn overdue(&self) -> bool {
        self.unsigned_since.is_some_and(|since| since.elapsed() >= self.options.sign_after)
    }

    /// The stored head with its bytes.
    pub(crate) fn load(&self) -> Result<(Head, Vec<u8>), Error> {
        let (head, bytes) = Head::load(&*self.store)?.ok_or(Error::HeadMissing)?;
        let size = head.frontier.size;
        if size < self.known { Err(Error::Truncated { size, signed: self.known }) } else { Ok((head, bytes)) }
    }

    /// Signs what the store holds and no checkpoint covers yet.
    pub(crate) fn sign_rest(&mut self) {
        match self.load().and_then(|(head, bytes)| {
            let signed = self.notary.sign(&*self.store, &head, &head, (self.clock)())?;
            let steps = self.notary.keep(&*self.store, &signed)?;
            Ok(apply(&*self.store, Some((&head, &bytes)), &head, &steps)?.then_some(head))
        }) {
            Ok(Some(head)) => {
                self.notary.remember(&head);
                self.unsigned_since = None;
            }
            // Another replica appended meanwhile; or the store or the signer is away: try again later.
            Ok(None) => self.unsigned_since = Some(Instant::now()),
            Err(error) => {
                self.unsigned_since = Some(Instant::now());
                tracing::error!(%error, "the audit log's head was not signed");
            }
        }
    }
}

/// A random pause, longer with each attempt, so that replicas do not keep meeting.
fn pause(attempt: u32) -> Duration {
    let mut random = [0];
    // Without randomness the pause is the longest: slower, not wrong.
    let part = if aws_lc_rs::rand::fill(&mut random).is_ok() { random[0] } else { u8::MAX };
    let most = MAX_PAUSE.min(Duration::from_millis(1) * 2u32.pow(attempt.min(6)));
    most * u32::from(part) / 255
}
