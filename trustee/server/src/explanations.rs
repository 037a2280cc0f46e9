//! The newest verdicts, kept for their owner: in memory at once, in the store soon after.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cocoon_protocol::Tee;
use cocoon_release::Explanation;
use cocoon_store::{Change, Store};

use crate::request_id;

const NAMESPACE: &str = "explain";
/// Most verdicts kept in memory; how many the store keeps is set.
const MAX_KEPT: usize = 1000;
/// Most bytes of text they take in memory.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Written together at most, and gathered for at most so long: one disk flush then serves many verdicts.
const BATCH: usize = 256;
const GATHERING: Duration = Duration::from_millis(200);
/// Seconds between two handshakes of the same plan whose policy inputs are kept.
const INPUTS_EVERY: u64 = 60;

/// Keeps explanations without making a guest wait for a disk. If verdicts come faster than they can be written,
/// some are kept in memory only.
pub(crate) struct Explanations {
    recent: Mutex<Recent>,
    /// Of which guests policy inputs were kept lately, and when.
    kept_inputs: Mutex<BTreeMap<(Tee, Option<String>), u64>>,
    store: Arc<dyn Store>,
    /// How many the store keeps.
    stored: Arc<AtomicUsize>,
    writer: Option<(SyncSender<Arc<Explanation>>, JoinHandle<()>)>,
}

#[derive(Default)]
struct Recent {
    kept: VecDeque<(usize, Arc<Explanation>)>,
    bytes: usize,
}

impl Explanations {
    pub fn new(store: Arc<dyn Store>, kept: usize) -> Self {
        let (sender, receiver) = sync_channel(1024);
        let stored = Arc::new(AtomicUsize::new(kept));
        let (writer_store, writer_kept) = (store.clone(), stored.clone());
        let thread = std::thread::Builder::new()
            .name("cocoon-explain".into())
            .spawn(move || write_all(&receiver, writer_store.as_ref(), &writer_kept));
        // Without a thread the newest are still explained from memory.
        let writer = thread.ok().map(|thread| (sender, thread));
        Explanations { recent: Mutex::default(), kept_inputs: Mutex::default(), store, stored, writer }
    }

    /// Keeps a verdict. What was granted stays in memory only, unless policies can be tried on it: such verdicts are many,
    /// nobody asks why, and the audit log has them all.
    pub fn keep(&self, explanation: Explanation) {
        let explanation = Arc::new(explanation.bounded());
        let persist = explanation.code.is_some() || !explanation.inputs.is_empty();
        self.recent().push(explanation.clone());
        if let (true, Some((sender, _))) = (persist, &self.writer)
            && sender.try_send(explanation).is_err()
        {
            tracing::debug!("a verdict is kept in memory only: the disk is slower than the requests");
        }
    }

    /// Changes how many the store keeps.
    pub fn set_kept(&self, kept: usize) {
        self.stored.store(kept, Ordering::Relaxed);
    }

    /// Whether what policies were asked of this kind of guest should be kept: once in a while is enough to try a new
    /// policy on it, and each costs room.
    pub fn wants_inputs(&self, tee: &Tee, init_data: &Option<String>, now_unix: u64) -> bool {
        let mut kept = self.kept_inputs.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        let last = kept.entry((*tee, init_data.clone())).or_default();
        let wanted = now_unix >= last.saturating_add(INPUTS_EVERY) || now_unix < *last;
        if wanted {
            *last = now_unix;
        }
        wanted
    }

    /// The newest verdicts that keep what policies were asked, newest first.
    pub fn with_inputs(&self, limit: usize) -> Result<Vec<Explanation>, cocoon_store::Error> {
        let mut found = self.latest(MAX_KEPT)?;
        found.retain(|e| !e.inputs.is_empty());
        found.truncate(limit);
        Ok(found)
    }

    /// The verdict of a request.
    pub fn get(&self, id: &str) -> Result<Option<Explanation>, cocoon_store::Error> {
        if !request_id::is_id(id) {
            return Ok(None);
        }
        let recent = self.recent().kept.iter().rev().map(|(_, e)| e).find(|e| e.request_id == id).cloned();
        match recent {
            Some(explanation) => Ok(Some(explanation.as_ref().clone())),
            None => Ok(self.store.get(NAMESPACE, id)?.and_then(|json| serde_json::from_slice(&json).ok())),
        }
    }

    /// Up to `limit` verdicts, newest first: those of this process and those that are stored.
    pub fn latest(&self, limit: usize) -> Result<Vec<Explanation>, cocoon_store::Error> {
        let limit = limit.min(MAX_KEPT);
        let mut found: BTreeMap<String, Explanation> = self
            .recent()
            .kept
            .iter()
            .rev()
            .take(limit)
            .map(|(_, e)| (e.request_id.clone(), e.as_ref().clone()))
            .collect();
        // Ids sort by age.
        let most = 2 * self.stored.load(Ordering::Relaxed) + MAX_KEPT;
        for id in self.store.list(NAMESPACE, "", most)?.into_iter().rev().take(limit) {
            if !found.contains_key(&id)
                && let Some(stored) = self.get(&id)?
            {
                found.insert(id, stored);
            }
        }
        Ok(found.into_values().rev().take(limit).collect())
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Explanations {
    /// Waits until what was kept is written.
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.writer.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}

impl Recent {
    fn push(&mut self, explanation: Arc<Explanation>) {
        let size = size(&explanation);
        self.bytes += size;
        self.kept.push_back((size, explanation));
        while self.kept.len() > MAX_KEPT || (self.bytes > MAX_BYTES && self.kept.len() > 1) {
            let Some((size, _)) = self.kept.pop_front() else { break };
            self.bytes -= size;
        }
    }
}

fn size(explanation: &Explanation) -> usize {
    let step = |s: &cocoon_release::Step| {
        s.name.len() + s.expected.len() + s.got.len() + s.source.len() + size_of::<cocoon_release::Step>()
    };
    size_of::<Explanation>() + explanation.steps.iter().map(step).sum::<usize>()
}

fn write_all(receiver: &Receiver<Arc<Explanation>>, store: &dyn Store, kept: &AtomicUsize) {
    let mut since_sweep = usize::MAX / 2;
    while let Ok(first) = receiver.recv() {
        let mut batch = vec![first];
        let end = Instant::now() + GATHERING;
        while batch.len() < BATCH {
            // Ends early when the Trustee goes.
            match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(next) => batch.push(next),
                Err(_) => break,
            }
        }
        since_sweep += batch.len();
        let kept = kept.load(Ordering::Relaxed);
        let written = write(&batch, store).and_then(|()| {
            if since_sweep < (kept / 10).max(1) {
                return Ok(());
            }
            since_sweep = 0;
            sweep(store, kept)
        });
        if let Err(error) = written {
            tracing::warn!(%error, "verdicts could not be written; they are kept in memory only");
        }
    }
}

fn write(batch: &[Arc<Explanation>], store: &dyn Store) -> Result<(), cocoon_store::Error> {
    let encoded: Vec<(&str, Vec<u8>)> = batch
        .iter()
        .filter_map(|e| serde_json::to_vec(e.as_ref()).ok().map(|json| (e.request_id.as_str(), json)))
        .collect();
    let changes: Vec<Change<'_>> =
        encoded.iter().map(|(key, value)| Change::Put { ns: NAMESPACE, key, value }).collect();
    store.apply(&changes)
}

/// Removes the oldest above the limit; ids sort by age.
fn sweep(store: &dyn Store, kept: usize) -> Result<(), cocoon_store::Error> {
    let keys = store.list(NAMESPACE, "", kept.saturating_mul(2) + 4 * MAX_KEPT)?;
    let old = keys.get(..keys.len().saturating_sub(kept)).unwrap_or_default();
    let changes: Vec<Change<'_>> = old.iter().map(|key| Change::Delete { ns: NAMESPACE, key }).collect();
    if changes.is_empty() { Ok(()) } else { store.apply(&changes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_release::Subject;
    use cocoon_stage::Code;
    use cocoon_store::MemoryStore;

    fn refusal(now: u64) -> Explanation {
        Explanation {
            request_id: request_id::new(now),
            at_unix: now,
            subject: Subject::Attest { tee: "snp".into() },
            code: Some(Code::AttestMeasurementUnknown),
            reason: Some("why".into()),
            init_data: None,
            workload: None,
            simulated: false,
            steps: Vec::new(),
            inputs: Vec::new(),
        }
    }

    #[test]
    fn the_newest_are_kept_in_bounds_and_survive_their_process() {
        let store = Arc::new(MemoryStore::new());
        let explanations = Explanations::new(store.clone(), MAX_KEPT);
        let all: Vec<Explanation> = (0..1500).map(|i| refusal(1_000_000 + i)).collect();
        for explanation in &all {
            explanations.keep(explanation.clone());
        }
        assert_eq!(explanations.latest(5000).unwrap().len(), MAX_KEPT);
        assert_eq!(explanations.latest(1).unwrap(), [all[1499].clone()]);
        assert_eq!(explanations.get(&all[1499].request_id).unwrap(), Some(all[1499].clone()));
        assert_eq!(explanations.get("no-id").unwrap(), None);
        drop(explanations);
        let later = Explanations::new(store.clone(), MAX_KEPT);
        assert!(store.list(NAMESPACE, "", 9999).unwrap().len() <= MAX_KEPT + MAX_KEPT / 10 + BATCH);
        let last = store.list(NAMESPACE, "", 9999).unwrap().pop().unwrap();
        assert_eq!(later.get(&last).unwrap().unwrap().code, Some(Code::AttestMeasurementUnknown));
    }

    #[test]
    fn granted_releases_are_not_written() {
        let store = Arc::new(MemoryStore::new());
        let explanations = Explanations::new(store.clone(), MAX_KEPT);
        let granted =
            Explanation { subject: Subject::Release { path: "a/b/c".into() }, code: None, ..refusal(1) };
        explanations.keep(granted.clone());
        assert_eq!(explanations.get(&granted.request_id).unwrap(), Some(granted));
        drop(explanations);
        assert!(store.list(NAMESPACE, "", 9).unwrap().is_empty());
    }
}
