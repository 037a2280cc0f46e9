//! The process or the machine stops at any moment.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::*;

/// What a crash leaves.
struct Shot {
    journal: Vec<u8>,
    records: Vec<Record>,
    /// Entries that were acknowledged before it, at least.
    acknowledged: u64,
}

#[test]
fn every_write_may_be_the_last() {
    let store = Arc::new(Hindered::default());
    let bench = Bench::on(store.clone());
    let tape = Tape::of(vec![0; format::DATA + 6000]);
    let (shots, acknowledged) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
    let log = tape.open(&bench, Options { sign_every: 40, ..Options::default() }).unwrap();
    let shoot = {
        let (store, shots, acknowledged) = (store.clone(), shots.clone(), acknowledged.clone());
        let key = bench.key.clone();
        move |journal: &[u8]| {
            let acknowledged = acknowledged.load(Ordering::SeqCst);
            let records = Bench { store: store.clone(), key: key.clone() }.copy();
            shots.lock().unwrap().push(Shot { journal: journal.to_vec(), records, acknowledged });
        }
    };
    tape.0.lock().unwrap().each = Box::new(shoot.clone());
    let seen = tape.clone();
    store.after_commit(move || shoot(&seen.bytes()));
    let mut next = 0;
    for round in 0..60u64 {
        let batch = if round % 7 == 3 { 4 } else { 1 };
        let pending: Vec<_> = (next..next + batch).map(|number| log.submit(entry(number))).collect();
        for pending in pending {
            assert_eq!(pending.wait().unwrap().index, next);
            next += 1;
            acknowledged.store(next, Ordering::SeqCst);
        }
        if round % 13 == 12 {
            assert_eq!(log.size().unwrap(), next);
        }
    }
    drop(log);
    let shots = std::mem::take(&mut *shots.lock().unwrap());
    let (mut unstored, mut generations) = (0, std::collections::BTreeSet::new());
    for (number, Shot { journal, records, acknowledged }) in shots.iter().enumerate() {
        let killed = revived(records, &bench.key);
        let stored = stored_size(&killed);
        let log = Tape::of(journal.clone()).open(&killed, Options::default()).unwrap();
        let size = log.size().unwrap();
        assert!((*acknowledged..=next).contains(&size), "{number}: {size} of {acknowledged}");
        unstored += size - stored;
        generations.extend(format::read(journal).unwrap().map(|contents| contents.generation.number));
        drop(log);
        check(&killed, 0..size);
        // Killed again right after the entries were moved; then the log is used.
        let again = Tape::of(journal.clone());
        let log = again.open(&killed, Options::default()).unwrap();
        assert_eq!(log.append(entry(size)).unwrap().index, size);
        let twice = revived(&killed.copy(), &bench.key);
        drop(Tape::of(again.bytes()).open(&twice, Options::default()).unwrap());
        check(&twice, 0..=size);
        drop(log);
        check(&killed, 0..=size);
    }
    // It was worth it: many shots held entries in the journal only, and the journal began anew several times.
    assert!(shots.len() > 150 && unstored > 300 && generations.len() > 3, "{} {unstored}", shots.len());
}

/// Set for the process that is killed: the folder of its state.
const FOLDER: &str = "COCOON_AUDIT_TEST_FOLDER";
const ROUNDS: u64 = 40;

/// Appends without end; tells on standard output what was acknowledged, two numbers a line.
fn victim(folder: &Path) {
    let key = Arc::new(LogKey::from_pkcs8(&std::fs::read(folder.join("key")).unwrap()).unwrap());
    let store = Arc::new(RedbStore::open_exclusive(&folder.join("state")).unwrap());
    let log = Arc::new(Bench { store, key }.open_with(with_journal(&folder.join("journal"))));
    let start = u64::from(std::process::id()) << 32;
    for thread in 1..3u64 {
        let log = log.clone();
        std::thread::spawn(move || {
            for number in start + (thread << 24).. {
                if number % 50 == 7 {
                    assert!(log.size().unwrap() > 0);
                }
                let index = log.append(entry(number)).unwrap().index;
                writeln!(std::io::stdout(), "\nack {index} {number}").unwrap();
            }
        });
    }
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn kills_at_any_moment_lose_nothing() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return victim(Path::new(&folder));
    }
    let dir = tempfile::tempdir().unwrap();
    let key = LogKey::generate().unwrap();
    std::fs::write(dir.path().join("key"), key.to_pkcs8().unwrap()).unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "journal::tests::crash::kills_at_any_moment_lose_nothing",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(FOLDER, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("ack ") {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the child ended by itself");
        }
        std::thread::sleep(Duration::from_micros(round * 7919 % 30_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let rest = output.lines().map(Result::unwrap);
        for line in std::iter::once(line).chain(rest).filter(|line| line.starts_with("ack ")) {
            let numbers: Vec<u64> =
                line[4..].trim().split(' ').filter_map(|part| part.parse().ok()).collect();
            acknowledged.push((numbers[0], numbers[1]));
        }
    }
    let store = Arc::new(RedbStore::open_exclusive(&dir.path().join("state")).unwrap());
    let bench = Bench { store, key: Arc::new(key) };
    let log = bench.open_with(with_journal(&dir.path().join("journal")));
    let size = log.size().unwrap();
    let pages = (0..size.div_ceil(1000)).flat_map(|page| log.entries(page * 1000, 1000).unwrap());
    let found: Vec<_> = pages.map(|logged| logged.entry).collect();
    for (index, number) in &acknowledged {
        assert_eq!(found[*index as usize], entry(*number), "{index}");
    }
    let different: std::collections::HashSet<_> = found.iter().map(|entry| entry.at_unix).collect();
    assert_eq!(different.len() as u64, size);
    drop(log);
    assert_eq!(bench.verify(None).unwrap().size, size);
    assert!(acknowledged.len() as u64 >= ROUNDS && size >= acknowledged.len() as u64);
}
