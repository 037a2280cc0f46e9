use std::collections::BTreeSet;
use std::time::Instant;

use cocoon_store::RedbStore;

use super::*;
use crate::layout::{MAX_CHECKPOINTS, signed_heads};
use crate::offline::{verify_entry, verify_growth, verify_head};
use crate::testing::{Bench, Hindered, NOW, clock, entry};
use crate::{LogKey, Outcome, rotate_key};

#[test]
fn entries_are_numbered_and_read_back() {
    let bench = Bench::new();
    let log = bench.open().unwrap();
    assert_eq!(log.size().unwrap(), 0);
    assert!(log.latest(10).unwrap().is_empty());
    for number in 0..600 {
        assert_eq!(log.append(entry(number)).unwrap(), Receipt { index: number });
    }
    assert_eq!(log.size().unwrap(), 600);
    for index in [0, 255, 256, 599] {
        assert_eq!(log.entry(index).unwrap(), entry(index));
    }
    assert!(matches!(log.entry(600), Err(Error::OutOfRange { asked: 600, size: 600 })));
    let page: Vec<u64> = log.entries(250, 300).unwrap().iter().map(|logged| logged.index).collect();
    assert_eq!(page, (250..550).collect::<Vec<_>>());
    assert_eq!(log.latest(2).unwrap()[0], Logged { index: 598, entry: entry(598) });
    assert_eq!(log.latest(5000).unwrap().len(), 600);
    assert!(log.entries(600, 10).unwrap().is_empty());
    assert!(log.entries(u64::MAX, usize::MAX).unwrap().is_empty());
}

#[test]
fn proofs_from_the_store_hold_offline() {
    let bench = Bench::filled(1300, 100);
    let log = bench.open().unwrap();
    let earlier = log.head().unwrap();
    assert_eq!((earlier.size, earlier.at_unix), (1300, NOW));
    for index in [0, 1, 255, 256, 511, 512, 1023, 1024, 1279, 1280, 1299] {
        let proof = log.inclusion_proof(index, 1300).unwrap();
        verify_entry(&bench.public(), &earlier, &entry(index), &proof).unwrap();
        let wrong = verify_entry(&bench.public(), &earlier, &entry(index + 1), &proof);
        assert!(matches!(wrong, Err(Error::ProofInvalid(_))));
    }
    for number in 1300..1800 {
        drop(log.submit(entry(number)));
    }
    assert_eq!(log.append(entry(1800)).unwrap().index, 1800);
    let later = log.head().unwrap();
    let proof = log.consistency_proof(1300, 1801).unwrap();
    verify_growth(&bench.public(), &earlier, &later, &proof).unwrap();
    assert!(verify_growth(&bench.public(), &later, &earlier, &proof).is_err());
    let past = log.inclusion_proof(7, 1300).unwrap();
    verify_entry(&bench.public(), &earlier, &entry(7), &past).unwrap();
    assert!(matches!(log.inclusion_proof(5, 1802), Err(Error::OutOfRange { asked: 1802, size: 1801 })));
    assert!(matches!(log.inclusion_proof(5, 5), Err(Error::OutOfRange { asked: 5, size: 5 })));
    assert!(matches!(log.consistency_proof(6, 5), Err(Error::OutOfRange { asked: 6, size: 5 })));
}

#[test]
fn every_pair_of_sizes_is_consistent_across_chunks() {
    let bench = Bench::filled(530, 53);
    let log = bench.open().unwrap();
    let mut tree = Tree::new(&*bench.store, 530);
    for (from, to) in
        [(1, 530), (255, 257), (256, 512), (256, 530), (257, 513), (511, 529), (512, 530), (0, 530)]
    {
        let proof = log.consistency_proof(from, to).unwrap();
        let roots = [from, to].map(|size| match size {
            0 => Hash::of_nothing(),
            size => crate::proof::Subtrees::subtree(&mut tree, 0, size).unwrap(),
        });
        crate::offline::verify_consistency(&roots[0], &roots[1], &proof).unwrap();
    }
}

#[test]
fn dropping_writes_what_waits_and_signs_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let key = Arc::new(LogKey::generate().unwrap());
    for round in 0..3u64 {
        let bench = Bench { store: Arc::new(RedbStore::open_exclusive(&path).unwrap()), key: key.clone() };
        let log = bench.open().unwrap();
        assert_eq!(log.size().unwrap(), round * 300);
        let pending: Vec<_> = (0..300).map(|i| log.submit(entry(round * 300 + i))).collect();
        drop(log);
        for (offset, pending) in (0..).zip(pending) {
            assert_eq!(pending.wait().unwrap().index, round * 300 + offset);
        }
        let report = bench.verify(None).unwrap();
        assert_eq!((report.size, report.signed_size), ((round + 1) * 300, (round + 1) * 300));
    }
}

#[test]
fn two_logs_on_one_shared_file_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let key = Arc::new(LogKey::generate().unwrap());
    let logs = [0, 1].map(|_| {
        let store = Arc::new(RedbStore::open_shared(&path).unwrap());
        Arc::new(AuditLog::open(store, key.clone(), clock()).unwrap())
    });
    let threads: Vec<_> = (0..4u64)
        .map(|thread| {
            let log = logs[thread as usize % 2].clone();
            std::thread::spawn(move || {
                let numbers = (0..40).map(|i| thread * 100 + i);
                numbers.map(|number| (log.append(entry(number)).unwrap().index, number)).collect::<Vec<_>>()
            })
        })
        .collect();
    let acknowledged: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(acknowledged.iter().map(|(index, _)| *index).collect::<BTreeSet<_>>(), (0..160).collect());
    let all = logs[0].entries(0, 1000).unwrap();
    for (index, number) in acknowledged {
        assert_eq!(all[index as usize].entry, entry(number));
    }
    drop(logs);
    let bench = Bench { store: Arc::new(RedbStore::open_shared(&path).unwrap()), key };
    let report = bench.verify(None).unwrap();
    assert_eq!((report.size, report.signed_size), (160, 160));
}

#[test]
fn sixteen_threads_share_commits() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::on(Arc::new(RedbStore::open_exclusive(&dir.path().join("state")).unwrap()));
    let log = Arc::new(bench.open().unwrap());
    let threads: Vec<_> = (0..16u64)
        .map(|thread| {
            let log = log.clone();
            std::thread::spawn(move || {
                let mut acknowledged = Vec::new();
                for round in 0..10 {
                    let numbers: Vec<_> = (0..20).map(|i| thread * 1000 + round * 20 + i).collect();
                    let pending: Vec<_> = numbers.iter().map(|number| log.submit(entry(*number))).collect();
                    for (number, pending) in numbers.into_iter().zip(pending) {
                        acknowledged.push((pending.wait().unwrap().index, number));
                    }
                }
                acknowledged
            })
        })
        .collect();
    let acknowledged: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(acknowledged.iter().map(|(index, _)| *index).collect::<BTreeSet<_>>(), (0..3200).collect());
    let all: Vec<_> = (0..4).flat_map(|page| log.entries(page * 1000, 1000).unwrap()).collect();
    for (index, number) in acknowledged {
        assert_eq!(all[index as usize].entry, entry(number));
    }
    drop(log);
    assert_eq!(bench.verify(None).unwrap().size, 3200);
    let packs = bench.store.list(ENTRIES, "", 10_000).unwrap().len();
    assert!(packs < 1600, "{packs} packs");
}

#[test]
fn a_full_queue_refuses_and_a_failing_store_is_survived() {
    let store = Arc::new(Hindered::default());
    let bench = Bench::on(store.clone());
    let log = bench.open_with(Options { queue: 2, ..Options::default() });
    let (gate, before) = (store.hold(), store.arrived());
    let first = log.submit(entry(0));
    while store.arrived() == before {
        std::thread::yield_now();
    }
    let queued = [log.submit(entry(1)), log.submit(entry(2))];
    for number in 3..50 {
        assert!(matches!(log.append(entry(number)), Err(Error::Overloaded)));
    }
    drop(gate);
    assert_eq!(first.wait().unwrap().index, 0);
    assert_eq!(queued.map(|pending| pending.wait().unwrap().index), [1, 2]);

    store.fail(true);
    for _ in 0..3 {
        let error = log.append(entry(9)).unwrap_err();
        assert!(matches!(&error, Error::Store(_)), "{error}");
        assert_eq!(error.code(), cocoon_stage::Code::StoreFull);
    }
    store.fail(false);
    assert_eq!(log.append(entry(10)).unwrap().index, 3);
    drop(log);
    assert_eq!(bench.verify(None).unwrap().size, 4);
}

#[test]
fn invalid_entries_are_refused_at_once() {
    let log = Bench::new().open().unwrap();
    let mut long = entry(1);
    long.subject = "x".repeat(401);
    assert!(matches!(log.append(long), Err(Error::EntryInvalid(_))));
    let forged = Entry::new(1, Kind::LogKeyRotation, Outcome::Granted);
    assert!(matches!(log.append(forged), Err(Error::EntryInvalid(_))));
    assert_eq!(log.size().unwrap(), 0);
}

#[test]
fn checkpoints_come_by_count_by_time_and_on_demand_and_stay_bounded() {
    let bench = Bench::new();
    let sizes = || -> Vec<u64> {
        signed_heads(&*bench.store, CHECKPOINTS).unwrap().iter().map(|head| head.size).collect()
    };
    let log = bench.open_with(Options { sign_every: 10, ..Options::default() });
    (0..25).for_each(|number| assert_eq!(log.append(entry(number)).unwrap().index, number));
    assert_eq!(sizes(), [0, 10, 20]);
    assert_eq!(
        verify_head(&bench.public(), &log.head().unwrap()).unwrap(),
        log.load().unwrap().0.frontier.root()
    );
    assert_eq!(sizes(), [0, 10, 20, 25]);
    drop(log);

    let log = bench.open_with(Options { sign_after: Duration::from_millis(20), ..Options::default() });
    log.append(entry(25)).unwrap();
    let begun = Instant::now();
    while sizes().last() != Some(&26) && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(sizes(), [0, 10, 20, 25, 26]);
    drop(log);

    let log = bench.open_with(Options { sign_every: 1, ..Options::default() });
    (26..400).for_each(|number| assert_eq!(log.append(entry(number)).unwrap().index, number));
    assert_eq!(sizes(), (401 - MAX_CHECKPOINTS as u64..=400).collect::<Vec<_>>());
}

#[test]
fn a_signer_that_fails_stops_what_must_be_signed() {
    struct Broken(LogKey, std::sync::atomic::AtomicBool);
    impl HeadSigner for Broken {
        fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
            if self.1.load(std::sync::atomic::Ordering::SeqCst) {
                return Err(Error::Signer("away".into()));
            }
            self.0.sign(bytes)
        }
        fn public_key(&self) -> crate::PublicKey {
            self.0.public_key()
        }
    }
    let bench = Bench::new();
    let signer = Arc::new(Broken(LogKey::generate().unwrap(), false.into()));
    let options = Options { sign_every: 3, ..Options::default() };
    let log = AuditLog::open_with(bench.store.clone(), signer.clone(), clock(), options).unwrap();
    signer.1.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(log.append(entry(0)).unwrap().index, 0);
    assert_eq!(log.append(entry(1)).unwrap().index, 1);
    assert!(matches!(log.append(entry(2)), Err(Error::Signer(_))));
    signer.1.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(log.append(entry(3)).unwrap().index, 2);
}

#[test]
fn a_rotated_key_is_followed_from_every_earlier_one() {
    let bench = Bench::filled(300, 50);
    let trusted = bench.open().unwrap().head().unwrap();
    let stale = bench.open_with(Options { sign_every: 1, ..Options::default() });
    let mut keys = vec![bench.key.clone()];
    for round in 0..2u64 {
        let next = Arc::new(LogKey::generate().unwrap());
        let old: Arc<dyn HeadSigner> = keys.last().unwrap().clone();
        let receipt = rotate_key(&*bench.store, &old, &*next, NOW, "alice").unwrap();
        assert_eq!(receipt.index, 300 + round * 11);
        keys.push(next.clone());
        Bench { store: bench.store.clone(), key: next }.fill(311 + round * 11, 5);
    }
    for (index, key) in keys.iter().enumerate() {
        let bench = Bench { store: bench.store.clone(), key: key.clone() };
        let report = bench.verify(None).unwrap();
        assert_eq!((report.size, report.signed_size, report.rotations), (322, 322, 2 - index));
        assert_eq!(report.key_id, keys[2].key_id());
        assert_eq!(bench.open().is_ok(), index == 2);
    }
    assert_eq!(bench.verify(Some(&trusted)).unwrap().trusted_size, Some(300));
    assert!(matches!(stale.append(entry(1)), Err(Error::KeyReplaced { .. })));
    let stranger = Bench { store: bench.store.clone(), key: Arc::new(LogKey::generate().unwrap()) };
    assert!(matches!(stranger.verify(None), Err(Error::KeyReplaced { .. })));
    let old: Arc<dyn HeadSigner> = keys[0].clone();
    assert!(rotate_key(&*bench.store, &old, &*stranger.key, NOW, "eve").is_err());
}
