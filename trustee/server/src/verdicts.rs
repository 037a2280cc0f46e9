//! Every verdict is kept twice: for people, as a tree of checks, and for good, as an entry of the audit log.

use cocoon_audit::{Entry, Kind, Outcome, Pending};
use cocoon_release::{Explanation, Subject};
use cocoon_stage::{Code, Failure};

use crate::inner::Inner;
use crate::metrics::{CodeLabel, Stage};

/// The entry of a verdict on its way to the disk.
pub(crate) struct Recorded(Pending);

impl Inner {
    /// Keeps a verdict. What it grants may leave only after [`Recorded::durable`] said so.
    pub fn record(&self, explanation: Explanation) -> Recorded {
        let outcome = match explanation.code {
            None => Outcome::Granted,
            Some(code) => {
                self.shared.metrics.refusals.get_or_create(&CodeLabel { code: code.as_str() }).inc();
                Outcome::Refused(Some(code))
            }
        };
        let (kind, subject) = match &explanation.subject {
            Subject::Attest { tee } => (Kind::Handshake, tee.as_str()),
            Subject::Release { path } => (Kind::Release, path.as_str()),
            Subject::Guest { stage } => (Kind::Refusal, stage.name()),
        };
        let kind = if explanation.code.is_some() { Kind::Refusal } else { kind };
        let mut entry = Entry::new(explanation.at_unix, kind, outcome)
            .request_id(&explanation.request_id)
            .actor("guest")
            .subject(subject);
        if let Some(init_data) = &explanation.init_data {
            entry = entry.init_data(init_data);
        }
        if let Some(workload) = &explanation.workload {
            entry = entry.detail("workload", workload);
        }
        if explanation.simulated {
            entry = entry.detail("simulated", "true");
        }
        self.explanations.keep(explanation);
        self.append(entry)
    }

    /// Keeps an administrator's act.
    pub fn record_admin(&self, id: &str, admin: &str, act: &str, refused: Option<Code>) -> Recorded {
        let outcome = refused.map_or(Outcome::Granted, |code| Outcome::Refused(Some(code)));
        self.append(Entry::new(self.now(), Kind::Admin, outcome).request_id(id).actor(admin).subject(act))
    }

    fn append(&self, entry: Entry) -> Recorded {
        self.shared.metrics.audit_entries.inc();
        Recorded(self.audit.submit(entry))
    }
}

impl Recorded {
    /// Waits until the entry is on the disk.
    ///
    /// # Errors
    /// It is not: nothing may be granted on it.
    pub async fn durable(self, inner: &Inner) -> Result<(), Failure> {
        let start = std::time::Instant::now();
        let outcome = self.0.await.map(drop);
        inner.shared.metrics.stage(Stage::audit, start.elapsed());
        outcome.map_err(Failure::from)
    }

    /// Does not wait: a refusal stands whether or not it could be written down.
    pub fn later(self) {
        drop(self.0);
    }
}
