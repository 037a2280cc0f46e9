//! The service: memory, folder, sources, in this order, within the caller's budget.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cocoon_evidence::collateral::{Document, Need};
use futures::future::join_all;
use tokio::time::Instant;

use crate::Error;
use crate::config::Config;
use crate::entry::{Entry, State};
use crate::error::printable;
use crate::flight::{Flights, Landed, Ticket, wait};
use crate::folder::Offer;
use crate::gathered::{Found, Gathered, Note};
use crate::memory::Memory;
use crate::refusal::Refusals;
use crate::sources::Source;

/// Most documents of one attestation; evidence of a TEE with its devices needs about a dozen.
pub const MAX_NEEDS: usize = 64;
/// After so long the folder is looked at again for what memory has: another process may have put a newer one there.
const LOOK_AGAIN: u64 = 60;
/// Most documents remembered as doubtful.
const MAX_DOUBTS: usize = 1024;

/// Fetches, keeps and hands out documents. Cheap to clone; clones share everything. Must be used within a tokio runtime.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    config: Config,
    memory: Mutex<Memory>,
    flights: Flights,
    refusals: Mutex<Refusals>,
    /// Hashes of documents that did not verify.
    doubts: Mutex<HashMap<Need, [u8; 32]>>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("sources", &self.0.config.sources).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    /// A service with nothing in memory.
    pub fn new(config: Config) -> Self {
        Service(Arc::new(Inner {
            config,
            memory: Mutex::default(),
            flights: Flights::default(),
            refusals: Mutex::default(),
            doubts: Mutex::default(),
        }))
    }

    /// The documents for all needs, within `budget` altogether. What is good is given at once and renewed behind; what is
    /// over is given too, as the verifier judges dates.
    pub async fn gather(&self, needs: &[Need], budget: Duration) -> Gathered {
        let mut wanted: Vec<&Need> = Vec::new();
        let mut gathered = Gathered::default();
        for need in needs {
            if wanted.contains(&need) {
                continue;
            }
            if wanted.len() >= MAX_NEEDS {
                gathered.notes.push(Note::missing(need.kind(), "too many documents for one attestation"));
                break;
            }
            wanted.push(need);
        }
        let deadline = Instant::now() + budget;
        let found = join_all(wanted.iter().map(|need| self.get(need, deadline))).await;
        for (need, found) in wanted.into_iter().zip(found) {
            gathered.notes.push(Note::of(need, &found));
            if let Some(entry) = found.entry {
                gathered.collateral.insert(need.clone(), entry.document.clone());
            }
        }
        gathered
    }

    /// The best document for a need until `deadline`. Does not wait where one is at hand that is not over.
    pub async fn get(&self, need: &Need, deadline: Instant) -> Found {
        if let Err(e) = need.check() {
            return Found { entry: None, state: None, error: Some(Error::Need(e)) };
        }
        let inner = &self.0;
        let now = inner.now_unix();
        let known = lock(&inner.memory).get(need);
        if let Some((entry, looked)) = &known {
            let state = entry.state(now, &inner.config.policy);
            let found = |error| Found { entry: Some(entry.clone()), state: Some(state), error };
            let good = state != State::Expired && !inner.is_doubted(entry);
            let look = inner.config.folder.is_some() && now.saturating_sub(*looked) >= LOOK_AGAIN;
            if !look {
                if good && state == State::Fresh {
                    return found(None);
                }
                // Neither folder nor vendor has anything better for now.
                if let Some(error) = lock(&inner.refusals).get(need, inner.now()) {
                    return found(Some(error));
                }
            }
            if good {
                return found(self.launch(need, Some(entry)).err());
            }
        }
        let known = known.map(|(entry, _)| entry);
        let landed = match self.launch(need, known.as_ref()) {
            Err(error) => Landed { entry: None, error: Some(error) },
            Ok(ticket) => match tokio::time::timeout_at(deadline, wait(ticket)).await {
                Ok(landed) => landed,
                Err(_) => Landed { entry: None, error: Some(Error::TimedOut) },
            },
        };
        let entry = landed.entry.or(known);
        let state = entry.as_ref().map(|e| e.state(now, &inner.config.policy));
        Found { entry, state, error: landed.error }
    }

    /// The verifier found that a document's signature or form does not hold: it no longer counts as fresh, nor keeps a
    /// document that looks older out, and is asked for again, as its source's pace and failures remembered allow.
    pub fn doubt(&self, need: &Need) {
        let Some((entry, _)) = lock(&self.0.memory).get(need) else { return };
        let mut doubts = lock(&self.0.doubts);
        if doubts.len() >= MAX_DOUBTS && !doubts.contains_key(need) {
            doubts.clear();
        }
        doubts.insert(need.clone(), entry.digest());
    }

    /// Looks for newer ones of all documents in memory that are due, so that an outage finds them as new as can be. Call it
    /// now and then; it returns at once.
    pub fn renew(&self) {
        let now = self.0.now_unix();
        let entries = lock(&self.0.memory).all();
        for entry in entries {
            if entry.state(now, &self.0.config.policy) != State::Fresh {
                let _ = self.launch(&entry.need, Some(&entry));
            }
        }
    }

    fn launch(&self, need: &Need, known: Option<&Arc<Entry>>) -> Result<Ticket, Error> {
        self.0.flights.join(need, || {
            let (inner, need, known) = (self.0.clone(), need.clone(), known.cloned());
            async move { inner.fly(need, known).await }
        })
    }
}

impl Inner {
    fn now(&self) -> u64 {
        (self.config.clock)()
    }

    fn now_unix(&self) -> u64 {
        self.now() / 1000
    }

    fn is_doubted(&self, entry: &Entry) -> bool {
        let doubts = lock(&self.doubts);
        doubts.get(&entry.need).is_some_and(|digest| *digest == entry.digest())
    }

    /// Finds the best document: the folder's, else the sources'.
    async fn fly(&self, need: Need, known: Option<Arc<Entry>>) -> Landed {
        let looked = self.now_unix();
        let kept = self.kept(&need).await.map(Arc::new);
        let best = match (known, kept) {
            (Some(known), Some(kept)) if kept.is_older_than(&known) && !self.is_doubted(&known) => {
                Some(known)
            }
            (known, kept) => kept.or(known),
        };
        if let Some(best) = &best {
            lock(&self.memory).put(best.clone(), looked);
        }
        let sound = best.clone().filter(|entry| !self.is_doubted(entry));
        if sound.as_ref().is_some_and(|e| e.state(looked, &self.config.policy) == State::Fresh) {
            return Landed { entry: best, error: None };
        }
        if let Some(error) = lock(&self.refusals).get(&need, self.now()) {
            return Landed { entry: best, error: Some(error) };
        }
        match self.ask(&need, best.as_deref(), sound.as_deref()).await {
            Ok(entry) => {
                let entry = Arc::new(entry);
                self.keep(entry.clone(), sound.is_none()).await;
                lock(&self.memory).put(entry.clone(), looked);
                lock(&self.doubts).remove(&need);
                let over = entry.state(looked, &self.config.policy) == State::Expired;
                let error = over.then(|| Error::Answer {
                    at: entry.from.clone(),
                    problem: "the document is over by its own dates".into(),
                });
                let mut refusals = lock(&self.refusals);
                match &error {
                    // A mirror that is behind is not asked at every use.
                    Some(error) => refusals.note(&need, error, self.now(), &self.config.back_off),
                    None => refusals.forget(&need),
                }
                Landed { entry: Some(entry), error }
            }
            Err(error) => {
                tracing::info!(need = %need, %error, at_hand = best.is_some(), "collateral not fetched");
                lock(&self.refusals).note(&need, &error, self.now(), &self.config.back_off);
                Landed { entry: best, error: Some(error) }
            }
        }
    }

    /// The folder's document.
    async fn kept(&self, need: &Need) -> Option<Entry> {
        let (folder, need) = (self.config.folder.clone()?, need.clone());
        let read = move || {
            let entry = folder.read(&need)?;
            folder.touch(&need);
            Some(entry)
        };
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    async fn keep(&self, entry: Arc<Entry>, replace: bool) {
        let Some(folder) = self.config.folder.clone() else { return };
        let kept = tokio::task::spawn_blocking(move || folder.offer(&entry, replace)).await;
        match kept {
            Ok(Ok(Offer::Stored | Offer::Kept)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "collateral is kept in memory only"),
            Err(error) => tracing::warn!(%error, "collateral is kept in memory only"),
        }
    }

    /// Asks the sources in order. The error is that of the last source that may have the document at another time; where
    /// none may, that it is not found.
    async fn ask(&self, need: &Need, best: Option<&Entry>, sound: Option<&Entry>) -> Result<Entry, Error> {
        let mut reason = Error::NoSource(need.vendor());
        for source in self.config.sources.of(need) {
            let answer = match self.ask_one(source, need, best.is_some()).await {
                Ok(document) => self.accept(need, document, source.provider.name(), best, sound),
                Err(error) => Err(error),
            };
            match answer {
                Ok(entry) => return Ok(entry),
                Err(error @ Error::NotFound { .. }) => {
                    if matches!(reason, Error::NoSource(_)) {
                        reason = error;
                    }
                }
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    async fn ask_one(&self, source: &Source, need: &Need, known: bool) -> Result<Document, Error> {
        let at = || source.provider.name().to_owned();
        let limited = |millis: u64| Error::Limited { at: at(), seconds: millis.div_ceil(1000) };
        if let Some(turns) = source.turns(need, known) {
            let patience = u64::try_from(self.config.patience.as_millis()).unwrap_or(u64::MAX);
            let wait = turns.take(self.now(), patience).map_err(limited)?;
            if wait > 0 {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                // The answer to somebody else's request may have been to wait.
                if let Some(more) = turns.paused(self.now()) {
                    return Err(limited(more));
                }
            }
        }
        let limit = self.config.answer;
        let fetched = tokio::time::timeout(limit, source.provider.fetch(need)).await;
        let result = fetched.unwrap_or_else(|_| {
            Err(Error::Unreachable { at: at(), problem: format!("no whole answer within {limit:?}") })
        });
        if let Err(Error::Limited { seconds, .. }) = &result {
            source.pause(self.now(), seconds.saturating_mul(1000));
        }
        result
    }

    fn accept(
        &self,
        need: &Need,
        document: Document,
        from: &str,
        best: Option<&Entry>,
        sound: Option<&Entry>,
    ) -> Result<Entry, Error> {
        let now = self.now_unix();
        let wrong = |problem: &str| Error::Answer { at: from.to_owned(), problem: printable(problem) };
        let entry = Entry::new(need.clone(), document, from, now).map_err(|e| wrong(&e.to_string()))?;
        if entry.is_of_the_future(now) {
            return Err(wrong("the document begins in the future"));
        }
        if sound.is_some_and(|present| entry.is_older_than(present)) {
            return Err(wrong("the document is older than the one at hand"));
        }
        if sound.is_none() && best.is_some_and(|doubted| doubted.digest() == entry.digest()) {
            return Err(wrong("the same document, which does not verify"));
        }
        Ok(entry)
    }
}
