//! Tests of the embedded file: durability under kill, sharing, full disks, damaged files.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::{MemoryStore, PutMode, Store};

#[test]
fn what_was_written_is_there_after_reopening_in_either_mode() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    RedbStore::open_exclusive(&path).unwrap().put("n", "k", b"v", PutMode::Create).unwrap();
    let shared = RedbStore::open_shared(&path).unwrap();
    assert_eq!(shared.get("n", "k").unwrap().as_deref(), Some(&b"v"[..]));
    shared.put("n", "k", b"w", PutMode::Replace).unwrap();
    let exclusive = RedbStore::open_exclusive(&path).unwrap();
    assert_eq!(exclusive.get("n", "k").unwrap().as_deref(), Some(&b"w"[..]));
    use std::os::unix::fs::PermissionsExt;
    for file in ["state.redb", "state.redb.lock"] {
        let mode = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn an_exclusive_holder_makes_all_others_busy_for_a_bounded_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let limit = Duration::from_millis(50);
    let shared = RedbStore::open_shared_within(&path, limit).unwrap();
    let holder = RedbStore::open_exclusive(&path).unwrap();
    assert!(matches!(shared.get("n", "k"), Err(Error::Busy(_))));
    assert!(matches!(shared.put("n", "k", b"", PutMode::Upsert), Err(Error::Busy(_))));
    assert!(matches!(RedbStore::open_exclusive_within(&path, limit), Err(Error::Busy(_))));
    drop(holder);
    // The helpers of timed-out waits let go at once, so a normal wait succeeds.
    let shared = RedbStore::open_shared(&path).unwrap();
    shared.put("n", "k", b"", PutMode::Upsert).unwrap();
}

#[test]
fn of_many_sharers_exactly_one_wins_each_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let wins: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let path = &path;
                scope.spawn(move || {
                    let store = RedbStore::open_shared(path).unwrap();
                    (0..5).filter(|i| store.put_if_absent("n", &i.to_string(), b"").unwrap()).count()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(wins, 5);
}

/// Not a test of its own: the victim of the next test, in a process of its own.
#[test]
fn child_writer() {
    let Ok(path) = std::env::var("COCOON_STORE_TEST_CHILD") else { return };
    let shared = std::env::var_os("COCOON_STORE_TEST_SHARED").is_some();
    let path = Path::new(&path);
    let store = if shared { RedbStore::open_shared(path) } else { RedbStore::open_exclusive(path) }.unwrap();
    for i in 0..100_000 {
        store.put("n", &format!("{i:08}"), &[7; 3000], PutMode::Create).unwrap();
        println!("acknowledged {i}");
    }
}

#[test]
fn a_killed_writer_loses_no_acknowledged_write() {
    for shared in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "redb_store::tests::child_writer", "--nocapture"])
            .env("COCOON_STORE_TEST_CHILD", &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if shared {
            command.env("COCOON_STORE_TEST_SHARED", "1");
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = Vec::new();
        for line in lines.map_while(Result::ok) {
            // The harness prints its own words on the first line, before ours.
            if let Some((_, number)) = line.split_once("acknowledged ") {
                acknowledged.push(number.parse::<u32>().unwrap());
            }
            if acknowledged.len() == 25 {
                // The child goes on writing while the signal is on its way.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(acknowledged.len() >= 25, "the child wrote");
        for open in [RedbStore::open_shared, RedbStore::open_exclusive] {
            let store = open(&path).unwrap();
            for i in &acknowledged {
                let value = store.get("n", &format!("{i:08}")).unwrap();
                assert_eq!(value.as_deref(), Some(&[7u8; 3000][..]), "write {i} was acknowledged");
            }
        }
    }
}

/// A file that can run out of space on demand.
#[derive(Debug)]
struct Disk {
    file: File,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn room(&self) -> std::io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(std::io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()));
        }
        Ok(())
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read_exact_at(out, offset)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.room()?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.room()?;
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.room()?;
        self.file.write_all_at(data, offset)
    }
}

#[test]
fn a_full_disk_is_named_keeps_the_old_state_and_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let full = Arc::new(AtomicBool::new(false));
    let (opener_path, opener_full) = (path.clone(), full.clone());
    let open: Opener = Box::new(move || {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&opener_path);
        let file = file.map_err(Problem::Io)?;
        Ok(Builder::new().create_with_backend(Disk { file, full: opener_full.clone() })?)
    });
    let store = RedbStore::exclusive(&path, None, open).unwrap();
    store.put("n", "old", b"kept", PutMode::Create).unwrap();
    full.store(true, Ordering::SeqCst);
    let error = store.put("n", "new", &[1; 100_000], PutMode::Create).unwrap_err();
    assert_eq!(error.code(), cocoon_stage::Code::StoreFull, "{error}");
    full.store(false, Ordering::SeqCst);
    assert_eq!(store.get("n", "old").unwrap().as_deref(), Some(&b"kept"[..]));
    assert_eq!(store.get("n", "new").unwrap(), None);
    store.put("n", "new", b"2", PutMode::Create).unwrap();
    assert_eq!(store.get("n", "new").unwrap().as_deref(), Some(&b"2"[..]));
}

#[test]
fn a_damaged_file_is_reported_as_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    std::fs::write(&path, vec![0x5a; 8192]).unwrap();
    for error in
        [RedbStore::open_exclusive(&path).err().unwrap(), RedbStore::open_shared(&path).err().unwrap()]
    {
        assert_eq!(error.code(), cocoon_stage::Code::StoreCorrupt, "{error}");
    }

    let path = folder.path().join("cut.redb");
    let store = RedbStore::open_exclusive(&path).unwrap();
    store.put("n", "k", &[9; 50_000], PutMode::Create).unwrap();
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let value = whole.windows(64).position(|w| w == [9; 64]).expect("plain in an unsealed store");
    let mut flipped = whole.clone();
    flipped[value + 10] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    let error = RedbStore::open_exclusive(&path).err().expect("the integrity check sees one flipped bit");
    assert_eq!(error.code(), cocoon_stage::Code::StoreCorrupt, "{error}");
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = RedbStore::open_exclusive(&path).err().unwrap();
    assert_eq!(error.code(), cocoon_stage::Code::StoreCorrupt, "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn the_file_behaves_like_the_map(steps in proptest::collection::vec((0u8..4, "[a-c/]{1,3}", any::<[u8; 3]>()), 1..30)) {
        let folder = tempfile::tempdir().unwrap();
        let file = RedbStore::open_exclusive(&folder.path().join("state.redb")).unwrap();
        let map = MemoryStore::new();
        for (step, key, value) in &steps {
            let run = |store: &dyn Store| match step {
                0 => store.put("n", key, value, PutMode::Upsert).map(|()| None),
                1 => store.put_if_absent("n", key, value).map(|won| Some(vec![u8::from(won)])),
                2 => store.take("n", key),
                _ => store.list("n", key, 3).map(|keys| Some(keys.join(",").into_bytes())),
            };
            prop_assert_eq!(run(&file).unwrap(), run(&map).unwrap());
        }
    }
}

/// User and system time of this process in microseconds, in the kernel's steps of 10 ms.
fn cpu_micros() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10_000
}

/// Prints what one durable `apply_if` of two keys of 300 bytes costs; run it with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_small_durable_write() {
    use crate::{Change, Condition};
    let folder = tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
    let store = RedbStore::open_exclusive(&folder.path().join("state.redb")).unwrap();
    for filled in [0u32, 20_000] {
        let keys: Vec<_> = (0..filled).map(|i| format!("old/{i:08}")).collect();
        let changes: Vec<_> = keys.iter().map(|key| Change::Put { ns: "n", key, value: &[1; 300] }).collect();
        store.apply(&changes).unwrap();
        let (cpu, begun, count) = (cpu_micros(), std::time::Instant::now(), 1000u32);
        for i in 0..count {
            let (a, b) = (format!("a/{filled}/{}", i.wrapping_mul(2_654_435_761)), format!("b/{filled}/{i}"));
            let absent = [Condition { ns: "n", key: &a, value: None }];
            let put = |key| Change::Put { ns: "n", key, value: &[2; 300] };
            assert!(store.apply_if(&absent, &[put(a.as_str()), put(b.as_str())]).unwrap());
        }
        let (cpu, wall) = (cpu_micros() - cpu, begun.elapsed().as_micros());
        println!(
            "{filled} records before: {} µs CPU, {} µs in all per commit",
            cpu / u64::from(count),
            wall / u128::from(count)
        );
    }
}
