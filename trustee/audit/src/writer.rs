//! The thread that appends: it takes all that waits as one batch.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::committer::Committer;
use crate::journal::MAX_BATCH;
use crate::journaled::Journaled;
use crate::layout::Item;
use crate::pending::{Answer, Receipt};

/// An entry on its way.
pub(crate) struct Job {
    pub(crate) item: Item,
    pub(crate) answer: Answer,
}

/// What the thread is told.
pub(crate) enum Message {
    /// To append an entry.
    Append(Job),
    /// That a reader waits for the journal to be emptied.
    Wake,
}

/// Gives the time: seconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

pub(crate) struct Writer {
    pub(crate) committer: Committer,
    pub(crate) journaled: Option<Journaled>,
}

impl Writer {
    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self, queue: &Receiver<Message>) {
        loop {
            let received = match self.rest() {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(rest) => queue.recv_timeout(rest),
            };
            let idle = matches!(received, Err(RecvTimeoutError::Timeout));
            match received {
                Ok(first) => {
                    let messages = std::iter::once(first).chain(queue.try_iter()).take(MAX_BATCH);
                    let jobs = messages.filter_map(|message| match message {
                        Message::Append(Job { item, answer }) => Some((item, answer)),
                        Message::Wake => None,
                    });
                    let (items, answers): (Vec<_>, Vec<_>) = jobs.unzip();
                    if !items.is_empty() {
                        self.answer(items, answers);
                    }
                }
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let Some(journaled) = &mut self.journaled {
                journaled.tidy(&mut self.committer);
            }
            if idle && self.committer.overdue() {
                self.sign_rest();
            }
        }
        self.sign_rest();
    }

    /// How long nothing is to be done if no entry comes; `None`: for ever.
    fn rest(&self) -> Option<Duration> {
        let committer = &self.committer;
        let unsigned = committer
            .unsigned_since
            .map(|since| committer.options.sign_after.saturating_sub(since.elapsed()));
        let journalled = self.journaled.as_ref().and_then(Journaled::rest);
        unsigned.into_iter().chain(journalled).min()
    }

    fn answer(&mut self, items: Vec<Item>, answers: Vec<Answer>) {
        let outcome = match &mut self.journaled {
            Some(journaled) => journaled.append(&mut self.committer, items),
            None => self.committer.commit(&items),
        };
        if let Err(error) = &outcome {
            // Whether a failed commit was done after all shows in the head only.
            self.committer.head = None;
            tracing::error!(entries = answers.len(), %error, "audit entries were not written");
        }
        for (offset, answer) in (0..).zip(answers) {
            answer.give(outcome.clone().map(|first| Receipt { index: first + offset }));
        }
    }

    /// Stores what the journal holds, and signs what no checkpoint covers yet.
    fn sign_rest(&mut self) {
        if let Some(journaled) = &mut self.journaled {
            journaled.flush(&mut self.committer);
        }
        if self.committer.unsigned_since.is_some() {
            self.committer.sign_rest();
        }
    }
}
