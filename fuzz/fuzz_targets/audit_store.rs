//! A stored audit log that somebody else could write: verified, opened, appended to. The input says what is altered:
//! records of five bytes (which record, where, by what), then bytes that replace a value.
#![no_main]

use std::sync::{Arc, LazyLock};

use cocoon_audit::{AuditLog, Entry, HeadSigner, Kind, LogKey, Outcome, SignedHead, verify};
use cocoon_fuzz::NOW;
use cocoon_store::{MemoryStore, PutMode, Record, Store};
use libfuzzer_sys::fuzz_target;

struct Log {
    key: Arc<LogKey>,
    records: Vec<Record>,
    head: SignedHead,
}

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let (key, store) = (Arc::new(LogKey::generate().expect("randomness")), Arc::new(MemoryStore::new()));
    let log = AuditLog::open(store.clone(), key.clone(), Arc::new(|| NOW)).expect("a new log");
    for number in 0..300 {
        log.append(Entry::new(number, Kind::Release, Outcome::Granted).subject("s"))
            .expect("memory takes it");
    }
    let head = log.head().expect("it can be signed");
    drop(log);
    let mut records = Vec::new();
    let each = &mut |record| {
        records.push(record);
        Ok(())
    };
    store.snapshot(each).expect("memory can be read");
    Log { key, records, head }
});

fuzz_target!(|bytes: &[u8]| {
    let mut records = LOG.records.clone();
    let mut rest = bytes;
    while let Some(([which_high, which, at, how, by], after)) = rest.split_first_chunk() {
        rest = after;
        // The newest records, which hold the head and the checkpoints, are as often hit as the many entries.
        let count = records.len();
        if count == 0 {
            break;
        }
        let which = usize::from(*which_high) * 256 + usize::from(*which);
        let record = &mut records[which % count];
        match how % 4 {
            0 => {
                let length = record.value.len().max(1);
                if let Some(byte) = record.value.get_mut(usize::from(*at) % length) {
                    *byte ^= by;
                }
            }
            1 => record.value.truncate(usize::from(*at)),
            2 => {
                let taken = usize::from(*at).min(rest.len());
                record.value = rest[..taken].to_vec();
                rest = &rest[taken..];
            }
            _ => {
                records.remove(which % count);
            }
        }
    }
    let altered = records != LOG.records;
    let store = Arc::new(MemoryStore::new());
    for record in &records {
        store.put(&record.ns, &record.key, &record.value, PutMode::Upsert).expect("memory takes it");
    }
    let key = LOG.key.public_key();
    let report = verify(store.as_ref(), &key, Some(&LOG.head), &mut |_, _| ());
    if let Ok(report) = report {
        assert!(report.size == LOG.head.size, "an altered log was taken for good");
    } else {
        assert!(altered, "a good log was refused: {report:?}");
    }
    if let Ok(log) = AuditLog::open(store, LOG.key.clone(), Arc::new(|| NOW)) {
        let _ = log.append(Entry::new(1, Kind::Admin, Outcome::Granted));
        let _ = (log.entry(3), log.latest(5), log.entries(250, 100), log.head());
        let _ = (log.inclusion_proof(7, 300), log.consistency_proof(100, 300));
    }
});
