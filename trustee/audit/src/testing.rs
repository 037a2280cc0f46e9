//! What the tests of this crate share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use cocoon_store::{Change, Condition, MemoryStore, PutMode, Record, Store};

use crate::writer::Clock;
use crate::{
    AuditLog, Entry, Error, HeadSigner, Kind, LogKey, Options, Outcome, PublicKey, Report, SignedHead, verify,
};

pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) fn clock() -> Clock {
    Arc::new(|| NOW)
}

pub(crate) fn entry(number: u64) -> Entry {
    Entry::new(number, Kind::Release, Outcome::Granted)
        .actor("guest")
        .subject(&format!("default/key/{number}"))
}

/// A log in memory with a key.
pub(crate) struct Bench {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) key: Arc<LogKey>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::on(Arc::new(MemoryStore::new()))
    }

    pub(crate) fn on(store: Arc<dyn Store>) -> Self {
        Bench { store, key: Arc::new(LogKey::generate().unwrap()) }
    }

    pub(crate) fn open(&self) -> Result<AuditLog, Error> {
        AuditLog::open(self.store.clone(), self.key.clone(), clock())
    }

    pub(crate) fn open_with(&self, options: Options) -> AuditLog {
        AuditLog::open_with(self.store.clone(), self.key.clone(), clock(), options).unwrap()
    }

    /// A closed log of the entries `0..size`, in packs of at most `pack`.
    pub(crate) fn filled(size: u64, pack: u64) -> Self {
        let bench = Self::new();
        bench.fill(size, pack);
        bench
    }

    pub(crate) fn fill(&self, size: u64, pack: u64) {
        let log = self.open().unwrap();
        for first in (log.size().unwrap()..size).step_by(pack as usize) {
            let pending: Vec<_> = (first..size.min(first + pack)).map(|i| log.submit(entry(i))).collect();
            for (index, pending) in (first..).zip(pending) {
                assert_eq!(pending.wait().unwrap().index, index);
            }
        }
    }

    pub(crate) fn public(&self) -> PublicKey {
        self.key.public_key()
    }

    pub(crate) fn verify(&self, trusted: Option<&SignedHead>) -> Result<Report, Error> {
        verify(&*self.store, &self.public(), trusted, &mut |_, _| ())
    }

    /// All records, to be put back later.
    pub(crate) fn copy(&self) -> Vec<Record> {
        let mut records = Vec::new();
        self.store
            .snapshot(&mut |record| {
                records.push(record);
                Ok(())
            })
            .unwrap();
        records
    }

    /// Makes the store hold exactly these records.
    pub(crate) fn put_back(&self, records: &[Record]) {
        for Record { ns, key, .. } in self.copy() {
            self.store.delete(&ns, &key).unwrap();
        }
        for Record { ns, key, value } in records {
            self.store.put(ns, key, value, PutMode::Upsert).unwrap();
        }
    }
}

/// A store in memory whose commits can be made to fail or to wait.
#[derive(Default)]
pub(crate) struct Hindered {
    inner: MemoryStore,
    failing: AtomicBool,
    lying: AtomicBool,
    after: Mutex<Option<Box<dyn Fn() + Send>>>,
    gate: Mutex<()>,
    arrived: AtomicUsize,
}

impl Hindered {
    pub(crate) fn fail(&self, fails: bool) {
        self.failing.store(fails, Ordering::SeqCst);
    }

    /// Whether commits are done, but told to be uncertain.
    pub(crate) fn lie(&self, lies: bool) {
        self.lying.store(lies, Ordering::SeqCst);
    }

    /// What is called after each commit that was done.
    pub(crate) fn after_commit(&self, call: impl Fn() + Send + 'static) {
        *self.after.lock().unwrap() = Some(Box::new(call));
    }

    /// How many commits have begun.
    pub(crate) fn arrived(&self) -> usize {
        self.arrived.load(Ordering::SeqCst)
    }

    pub(crate) fn hold(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap()
    }
}

type Outcomes<T> = Result<T, cocoon_store::Error>;

impl Store for Hindered {
    fn get(&self, ns: &str, key: &str) -> Outcomes<Option<Vec<u8>>> {
        self.inner.get(ns, key)
    }

    fn put(&self, ns: &str, key: &str, value: &[u8], mode: PutMode) -> Outcomes<()> {
        self.inner.put(ns, key, value, mode)
    }

    fn delete(&self, ns: &str, key: &str) -> Outcomes<bool> {
        self.inner.delete(ns, key)
    }

    fn list(&self, ns: &str, prefix: &str, limit: usize) -> Outcomes<Vec<String>> {
        self.inner.list(ns, prefix, limit)
    }

    fn scan(&self, ns: &str, prefix: &str, limit: usize) -> Outcomes<Vec<(String, Vec<u8>)>> {
        self.inner.scan(ns, prefix, limit)
    }

    fn scan_from(
        &self,
        ns: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Outcomes<Vec<(String, Vec<u8>)>> {
        self.inner.scan_from(ns, prefix, after, limit)
    }

    fn take(&self, ns: &str, key: &str) -> Outcomes<Option<Vec<u8>>> {
        self.inner.take(ns, key)
    }

    fn put_if_absent(&self, ns: &str, key: &str, value: &[u8]) -> Outcomes<bool> {
        self.inner.put_if_absent(ns, key, value)
    }

    fn apply_if(&self, conditions: &[Condition<'_>], changes: &[Change<'_>]) -> Outcomes<bool> {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        let _gate = self.gate.lock().unwrap();
        if self.failing.load(Ordering::SeqCst) {
            return Err(cocoon_store::Error::Full("test".into()));
        }
        let done = self.inner.apply_if(conditions, changes)?;
        if let Some(call) = &*self.after.lock().unwrap() {
            call();
        }
        if self.lying.load(Ordering::SeqCst) {
            return Err(cocoon_store::Error::OutcomeUnknown("test".into()));
        }
        Ok(done)
    }

    fn snapshot(&self, each: &mut dyn FnMut(Record) -> Outcomes<()>) -> Outcomes<()> {
        self.inner.snapshot(each)
    }

    fn shared(&self) -> bool {
        self.inner.shared()
    }
}
