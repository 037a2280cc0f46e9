use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cocoon_stage::Code;
use cocoon_store::{MemoryStore, Record, RedbStore};

use super::*;
use crate::testing::{Bench, Hindered, NOW, clock, entry};
use crate::{AuditLog, HeadSigner, LogKey, Options, rotate_key};

#[path = "crash_tests.rs"]
mod crash;

type Watcher = Box<dyn FnMut(&[u8]) + Send>;

/// A journal in memory: what is durable, and how writing fails.
#[derive(Clone)]
struct Tape(Arc<Mutex<Image>>);

struct Image {
    bytes: Vec<u8>,
    fails: Option<Fail>,
    /// Called with every state in which a crash may leave the bytes.
    each: Watcher,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fail {
    Write,
    HalfOfWrite,
    Sync,
}

impl Tape {
    fn of(bytes: Vec<u8>) -> Self {
        Tape(Arc::new(Mutex::new(Image { bytes, fails: None, each: Box::new(|_| ()) })))
    }

    fn fail(&self, fails: Option<Fail>) {
        self.0.lock().unwrap().fails = fails;
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
    }

    /// The log with this journal.
    fn open(&self, bench: &Bench, options: Options) -> Result<AuditLog, Error> {
        let bytes = self.bytes();
        let contents = parse(Path::new("tape"), &bytes)?;
        let number = contents.as_ref().map_or(0, |contents| contents.generation.number);
        let journal = Journal::on(Box::new(self.clone()), Path::new("tape"), bytes.len() as u64, number);
        AuditLog::start(bench.store.clone(), bench.key.clone(), clock(), options, Some((journal, contents)))
    }
}

impl Medium for Tape {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut image = self.0.lock().unwrap();
        let Image { bytes: all, fails, each } = &mut *image;
        let (place, half) = (&mut all[offset as usize..][..bytes.len()], bytes.len() / 2);
        if *fails == Some(Fail::Write) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let old = place.to_vec();
        place[half..].copy_from_slice(&bytes[half..]);
        each(all);
        let place = &mut all[offset as usize..][..bytes.len()];
        place[half..].copy_from_slice(&old[half..]);
        place[..half].copy_from_slice(&bytes[..half]);
        each(all);
        if *fails == Some(Fail::HalfOfWrite) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        all[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        each(all);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let fails = self.0.lock().unwrap().fails;
        if fails == Some(Fail::Sync) { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }
}

fn with_journal(path: &Path) -> Options {
    Options { journal: Some(path.to_path_buf()), ..Options::default() }
}

fn stored_size(bench: &Bench) -> u64 {
    Head::load(&*bench.store).unwrap().unwrap().0.frontier.size
}

/// That the log holds exactly the entries with these numbers, and verifies.
fn check(bench: &Bench, numbers: impl IntoIterator<Item = u64>) {
    let size = bench.verify(None).unwrap().size;
    let log = bench.open().unwrap();
    let pages = (0..size.div_ceil(1000)).flat_map(|page| log.entries(page * 1000, 1000).unwrap());
    let found: Vec<_> = pages.map(|logged| logged.entry).collect();
    assert_eq!(found, numbers.into_iter().map(entry).collect::<Vec<_>>());
}

/// A store in memory with these records.
fn revived(records: &[Record], key: &Arc<LogKey>) -> Bench {
    let store = Arc::new(MemoryStore::new());
    let bench = Bench { store, key: key.clone() };
    bench.put_back(records);
    bench
}

#[test]
fn readers_see_what_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let bench = Bench::new();
    let log = bench.open_with(with_journal(&path));
    for number in 0..40 {
        assert_eq!(log.append(entry(number)).unwrap().index, number);
        match number % 5 {
            0 => assert_eq!(log.size().unwrap(), number + 1),
            1 => assert_eq!(log.entry(number).unwrap(), entry(number)),
            2 => assert_eq!(log.latest(1).unwrap()[0].entry, entry(number)),
            3 => assert_eq!(log.head().unwrap().size, number + 1),
            _ => drop(log.inclusion_proof(number, number + 1).unwrap()),
        }
    }
    log.append(entry(40)).unwrap();
    log.flush().unwrap();
    assert_eq!(stored_size(&bench), 41);
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (LENGTH, 0o600));
    drop(log);
    check(&bench, 0..41);
}

#[test]
fn entries_move_to_the_store_by_themselves_in_few_commits() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Hindered::default());
    let bench = Bench::on(store.clone());
    let log = bench.open_with(with_journal(&dir.path().join("journal")));
    let before = store.arrived();
    (0..1100).for_each(|number| assert_eq!(log.append(entry(number)).unwrap().index, number));
    let begun = Instant::now();
    while stored_size(&bench) < 1100 && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(stored_size(&bench), 1100);
    let commits = store.arrived() - before;
    assert!(commits < 100, "{commits} commits");
    drop(log);
    check(&bench, 0..1100);
}

#[test]
fn batches_beyond_the_journal_go_to_the_store() {
    let bench = Bench::new();
    let tape = Tape::of(vec![0; format::DATA + 2048]);
    let log = Arc::new(tape.open(&bench, Options::default()).unwrap());
    let mut next = 0;
    for round in 0..40u64 {
        let pending: Vec<_> = (0..1 + round * 7).map(|i| log.submit(entry(next + i))).collect();
        for pending in pending {
            assert_eq!(pending.wait().unwrap().index, next);
            next += 1;
        }
    }
    drop(log);
    check(&bench, 0..next);
}

#[test]
fn a_failing_journal_fails_its_batch_only() {
    for fail in [Fail::Write, Fail::HalfOfWrite, Fail::Sync] {
        for later in [1, 300] {
            let bench = Bench::new();
            let tape = Tape::of(vec![0; 1 << 17]);
            let log = tape.open(&bench, Options::default()).unwrap();
            log.append(entry(0)).unwrap();
            tape.fail(Some(fail));
            for _ in 0..2 {
                let error = log.append(entry(9999)).unwrap_err();
                let expected = if fail == Fail::Sync { Code::StoreCorrupt } else { Code::StoreFull };
                assert_eq!(error.code(), expected, "{error}");
            }
            tape.fail(None);
            let pending: Vec<_> = (1..=later).map(|number| log.submit(entry(number))).collect();
            for (index, pending) in (1..).zip(pending) {
                assert_eq!(pending.wait().unwrap().index, index);
            }
            // As if it were killed now.
            let killed = revived(&bench.copy(), &bench.key);
            drop(Tape::of(tape.bytes()).open(&killed, Options::default()).unwrap());
            check(&killed, 0..=later);
            drop(log);
            check(&bench, 0..=later);
        }
    }
}

#[test]
fn a_failing_store_is_waited_for_until_a_head_must_be_signed() {
    let store = Arc::new(Hindered::default());
    let bench = Bench::on(store.clone());
    let tape = Tape::of(vec![0; 1 << 17]);
    let log = tape.open(&bench, Options { sign_every: 20, ..Options::default() }).unwrap();
    store.fail(true);
    (0..19).for_each(|number| assert_eq!(log.append(entry(number)).unwrap().index, number));
    assert_eq!(log.size().unwrap_err().code(), Code::StoreFull);
    assert_eq!(log.append(entry(9999)).unwrap_err().code(), Code::StoreFull);
    let pending = format::read(&tape.bytes()).unwrap().unwrap().items.len();
    assert_eq!(pending, 19);
    store.fail(false);
    assert_eq!(log.append(entry(19)).unwrap().index, 19);
    assert_eq!(log.head().unwrap().size, 20);
    drop(log);
    check(&bench, 0..20);
}

#[test]
fn a_commit_of_unknown_outcome_is_not_done_twice() {
    for sign_every in [1000, 3] {
        let store = Arc::new(Hindered::default());
        let bench = Bench::on(store.clone());
        let tape = Tape::of(vec![0; 1 << 17]);
        let log = tape.open(&bench, Options { sign_every, ..Options::default() }).unwrap();
        (0..2).for_each(|number| assert_eq!(log.append(entry(number)).unwrap().index, number));
        store.lie(true);
        let doubtful = if sign_every == 3 {
            assert!(matches!(log.append(entry(2)), Err(Error::Store(_))));
            1
        } else {
            assert!(matches!(log.size(), Err(Error::Store(_))));
            0
        };
        store.lie(false);
        for number in 2 + doubtful..30 {
            assert_eq!(log.append(entry(number)).unwrap().index, number);
        }
        drop(log);
        check(&bench, 0..30);
    }
}

#[test]
fn a_killed_log_shows_its_unstored_entries_and_recovers_them_once() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("journal"), dir.path().join("copy"));
    let bench = Bench::filled(10, 3);
    let log = bench.open_with(with_journal(&path));
    let records = bench.copy();
    (10..15).for_each(|number| assert_eq!(log.append(entry(number)).unwrap().index, number));
    std::fs::copy(&path, &copy).unwrap();
    let killed = revived(&records, &bench.key);
    assert_eq!(killed.verify(None).unwrap().size, 10);
    let pending = pending_in_journal(&copy, &*killed.store).unwrap();
    assert_eq!(pending, (10..15).map(|index| Logged { index, entry: entry(index) }).collect::<Vec<_>>());
    for _ in 0..2 {
        drop(killed.open_with(with_journal(&copy)));
        check(&killed, 0..15);
        assert!(pending_in_journal(&copy, &*killed.store).unwrap().is_empty());
    }
    // Used without the journal for a while, and then with it.
    killed.fill(20, 2);
    drop(killed.open_with(with_journal(&copy)));
    check(&killed, 0..20);
    assert!(pending_in_journal(&dir.path().join("absent"), &*killed.store).is_err());
}

#[test]
fn a_store_and_a_journal_that_do_not_belong_together_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("journal"), dir.path().join("copy"));
    let bench = Bench::filled(10, 3);
    let early = bench.copy();
    let log = bench.open_with(with_journal(&path));
    let refused = |records: &[Record], key: &Arc<LogKey>| {
        let bench = revived(records, key);
        let opened =
            AuditLog::open_with(bench.store.clone(), bench.key.clone(), clock(), with_journal(&copy));
        let error = opened.map(drop).unwrap_err();
        assert!(error.is_tampering(), "{error}");
        assert_eq!(pending_in_journal(&copy, &*bench.store).unwrap_err().to_string(), error.to_string());
        error
    };
    (10..13).for_each(|number| assert!(log.append(entry(number)).unwrap().index < 100));
    std::fs::copy(&path, &copy).unwrap();
    // Others appended in the place of the journal's entries, fewer, as many, and more.
    for extra in [1, 3, 9] {
        let other = revived(&early, &bench.key);
        let log = other.open().unwrap();
        (0..extra).for_each(|number| assert!(log.append(entry(500 + number)).unwrap().index < 100));
        drop(log);
        assert!(matches!(refused(&other.copy(), &bench.key), Error::JournalConflict { from: 10, .. }));
    }
    // A new generation begins at 13; then the store is put back.
    log.flush().unwrap();
    drop(log);
    let log = bench.open_with(with_journal(&path));
    log.append(entry(13)).unwrap();
    std::fs::copy(&path, &copy).unwrap();
    assert!(matches!(refused(&early, &bench.key), Error::JournalAhead { size: 10, base: 13 }));
    // Another log.
    let stranger = Bench::filled(13, 4);
    assert!(matches!(refused(&stranger.copy(), &stranger.key), Error::OtherLog { .. }));
    // Damaged before its end.
    log.append(entry(14)).unwrap();
    let now = bench.copy();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[format::DATA + format::RECORD] ^= 1;
    std::fs::write(&copy, &bytes).unwrap();
    assert!(matches!(refused(&now, &bench.key), Error::JournalDamaged { at: 8192, .. }));
}

#[test]
fn a_record_of_the_right_form_with_a_wrong_entry_is_refused() {
    let bench = Bench::filled(1, 1);
    let (head, _) = Head::load(&*bench.store).unwrap().unwrap();
    let rotation = Entry::new(1, Kind::LogKeyRotation, crate::Outcome::Granted).to_bytes().unwrap();
    for bytes in [rotation, vec![b'x'; 200]] {
        let tape = Tape::of(vec![0; 1 << 14]);
        let mut journal = Journal::on(Box::new(tape.clone()), Path::new("tape"), 1 << 14, 0);
        journal.begin(&head).unwrap();
        journal.append(&[Item { leaf: Hash::of_leaf(&bytes), bytes }]).unwrap();
        let opened = tape.open(&bench, Options::default());
        assert!(matches!(opened, Err(Error::EntryAltered { index: 1 })));
    }
}

#[test]
fn appending_past_an_open_journal_is_noticed() {
    let bench = Bench::new();
    let tape = Tape::of(vec![0; 1 << 17]);
    let log = tape.open(&bench, Options::default()).unwrap();
    let next = LogKey::generate().unwrap();
    let old: Arc<dyn HeadSigner> = bench.key.clone();
    rotate_key(&*bench.store, &old, &next, NOW, "alice").unwrap();
    log.append(entry(0)).unwrap();
    assert!(matches!(log.size(), Err(Error::JournalConflict { .. })));
    assert!(matches!(log.append(entry(1)), Err(Error::JournalConflict { .. })));
    assert!(matches!(log.head(), Err(Error::JournalConflict { .. })));
}

#[test]
fn an_unsafe_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new();
    let refused = |path: &Path, part: &str| {
        let opened = AuditLog::open_with(bench.store.clone(), bench.key.clone(), clock(), with_journal(path));
        let error = opened.map(drop).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        error.code()
    };
    let path = dir.path().join("journal");
    let log = bench.open_with(with_journal(&path));
    assert_eq!(refused(&path, "has it open"), Code::ConfigInvalid);
    drop(log);
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    assert_eq!(refused(&link, "symbolic link"), Code::ConfigInvalid);
    assert!(matches!(pending_in_journal(&link, &*bench.store), Err(Error::Journal { .. })));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(refused(&path, "others may read it"), Code::ConfigInvalid);
    let fifo = dir.path().join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(refused(&fifo, "not a regular file"), Code::ConfigInvalid);
    assert_eq!(refused(dir.path(), ""), Code::StoreCorrupt);
    let long = dir.path().join("long");
    std::fs::File::create(&long).unwrap().set_len(LENGTH + 1).unwrap();
    std::fs::set_permissions(&long, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(refused(&long, "longer"), Code::ConfigInvalid);
}

#[test]
fn a_store_that_is_shared_later_takes_the_journal_over() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let key = Arc::new(LogKey::generate().unwrap());
    let bench = Bench { store: Arc::new(RedbStore::open_exclusive(&at("state")).unwrap()), key: key.clone() };
    let log = bench.open_with(with_journal(&at("journal")));
    std::fs::copy(at("state"), at("state2")).unwrap();
    (0..5).for_each(|number| assert!(log.append(entry(number)).unwrap().index < 100));
    std::fs::copy(at("journal"), at("journal2")).unwrap();
    let shared = Bench { store: Arc::new(RedbStore::open_shared(&at("state2")).unwrap()), key };
    let logs = [0, 1].map(|_| shared.open_with(with_journal(&at("journal2"))));
    assert_eq!(logs.each_ref().map(|log| log.size().unwrap()), [5, 5]);
    (5..9).for_each(|number| assert!(logs[number as usize % 2].append(entry(number)).unwrap().index < 100));
    drop(logs);
    check(&shared, 0..9);
    let absent = at("absent");
    drop(shared.open_with(with_journal(&absent)));
    assert!(!absent.exists());
}
