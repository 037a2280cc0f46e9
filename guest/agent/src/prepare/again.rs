//! Another try, where Trustee could not be reached: a passing outage of it or of the network must not cost the pod.
//!
//! Only what never reached Trustee, or got no answer, is tried again: a refusal is final. And only when the host asks for a
//! container again, so that nothing runs by itself in a pod that nobody waits for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cocoon_stage::{Code, Failure};
use tokio::sync::oneshot;

use super::{Documents, Sender};
use crate::container::SecretFile;

/// The least time between the end of a try and the next; until then its failure is the answer.
pub(super) const PAUSE: Duration = Duration::from_secs(5);

/// Whether this may pass: nobody answered.
pub(super) fn is_passing(failure: &Failure) -> bool {
    failure.code == Code::AttestTrusteeUnreachable
}

/// Where the results of a try go.
#[derive(Debug)]
pub(super) struct Senders {
    pub(super) files: Sender<Arc<Vec<SecretFile>>>,
    pub(super) documents: Sender<Documents>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    senders: Senders,
    go: oneshot::Sender<Senders>,
}

/// What failed and waits for being asked for again. Who asks takes it out, so that there is one try at a time.
#[derive(Debug, Default)]
pub(super) struct Again(Mutex<Option<Waiting>>);

impl Again {
    fn lock(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what failed. Where it is asked for again its results are open, and it comes back; an error where nobody is
    /// left to ask.
    pub(super) fn put(&self, senders: Senders) -> oneshot::Receiver<Senders> {
        let (go, asked) = oneshot::channel();
        *self.lock() = Some(Waiting { since: Instant::now(), senders, go });
        asked
    }

    /// Asks for another try, where one is due.
    pub(super) fn ask(&self) {
        if let Some(Waiting { senders, go, .. }) = self.lock().take_if(|w| w.since.elapsed() >= PAUSE) {
            // Before anybody looks: who asks now waits for the new results.
            senders.files.send_replace(None);
            senders.documents.send_replace(None);
            let _ = go.send(senders);
        }
    }

    /// Whether something waits; its pause is over then.
    #[cfg(test)]
    pub(super) fn pass_time(&self) -> bool {
        let mut waiting = self.lock();
        if let Some(waiting) = waiting.as_mut() {
            waiting.since = waiting.since.checked_sub(PAUSE).unwrap();
        }
        waiting.is_some()
    }
}
