//! Backups that come back whole, and those that must not come back.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::{MemoryStore, PutMode, RedbStore, TenantStore};

fn filled() -> MemoryStore {
    let store = MemoryStore::new();
    for i in 0..300u32 {
        let value = vec![u8::try_from(i % 251).unwrap(); usize::try_from(i * 7).unwrap()];
        store
            .put(if i % 2 == 0 { "even" } else { "odd" }, &format!("k/{i}"), &value, PutMode::Create)
            .unwrap();
    }
    store.put("large", "l", &vec![7; 3 << 20], PutMode::Create).unwrap();
    store
}

fn all(store: &dyn Store) -> Vec<(String, String, Vec<u8>)> {
    let mut records = Vec::new();
    store
        .snapshot(&mut |r| {
            records.push((r.ns, r.key, r.value));
            Ok(())
        })
        .unwrap();
    records
}

fn written(store: &dyn Store, key: Option<&BackupKey>) -> (Vec<u8>, Summary) {
    let mut bytes = Vec::new();
    let summary = backup(store, &mut bytes, key).unwrap();
    (bytes, summary)
}

fn key(byte: u8) -> BackupKey {
    BackupKey::from_key(&[byte; 32])
}

#[test]
fn what_was_backed_up_is_what_comes_back() {
    let source = filled();
    let folder = tempfile::tempdir().unwrap();
    for key in [None, Some(key(1))] {
        let (bytes, summary) = written(&source, key.as_ref());
        assert_eq!((summary.records, summary.bytes), (301, bytes.len() as u64));
        assert_eq!(summary.sha256, digest_of(&bytes));
        let path = folder.path().join(if key.is_some() { "e.redb" } else { "p.redb" });
        for target in [&MemoryStore::new() as &dyn Store, &RedbStore::open_shared(&path).unwrap()] {
            let restored = restore(&mut Cursor::new(&bytes), target, RestoreMode::EmptyOnly, key.as_ref());
            assert_eq!(restored.unwrap(), summary);
            assert_eq!(all(target), all(&source));

            target.put("zzz", "new", b"", PutMode::Create).unwrap();
            let refused = restore(&mut Cursor::new(&bytes), target, RestoreMode::EmptyOnly, key.as_ref());
            assert!(matches!(refused, Err(Error::NotEmpty)));
            assert_eq!(all(target).len(), 302, "a refused restore changes nothing");
            restore(&mut Cursor::new(&bytes), target, RestoreMode::Replace, key.as_ref()).unwrap();
            assert_eq!(all(target), all(&source));
        }
    }
    let shows = |bytes: &[u8]| bytes.windows(5).any(|w| w == b"k/100");
    assert!(shows(&written(&source, None).0) && !shows(&written(&source, Some(&key(1))).0));
    assert_ne!(written(&source, Some(&key(1))).0, written(&source, Some(&key(1))).0, "each has its own salt");
}

fn digest_of(bytes: &[u8]) -> [u8; 32] {
    aws_lc_rs::digest::digest(&SHA256, bytes).as_ref().try_into().unwrap()
}

#[test]
fn a_tenant_is_backed_up_alone_and_an_empty_store_too() {
    let inner = std::sync::Arc::new(MemoryStore::new());
    let tenant = |name| TenantStore::new(inner.clone(), name).unwrap();
    tenant("a").put("n", "k", b"a", PutMode::Create).unwrap();
    tenant("b").put("n", "k", b"b", PutMode::Create).unwrap();
    let (bytes, summary) = written(&tenant("a"), None);
    assert_eq!(summary.records, 1);
    restore(&mut Cursor::new(&bytes), &tenant("b"), RestoreMode::Replace, None).unwrap();
    assert_eq!(tenant("b").get("n", "k").unwrap().unwrap(), b"a");
    let (empty, _) = written(&MemoryStore::new(), Some(&key(2)));
    restore(&mut Cursor::new(&empty), &tenant("b"), RestoreMode::Replace, Some(&key(2))).unwrap();
    assert_eq!(all(inner.as_ref()).len(), 1, "the other tenant's record is untouched");
}

/// A store with one record that must survive every failed restore.
fn untouched(bytes: &[u8], key: Option<&BackupKey>) -> Error {
    let target = MemoryStore::new();
    target.put("n", "old", b"kept", PutMode::Create).unwrap();
    let error = restore(&mut Cursor::new(bytes), &target, RestoreMode::Replace, key).unwrap_err();
    assert_eq!(all(&target), [("n".to_owned(), "old".to_owned(), b"kept".to_vec())]);
    assert_eq!(error.code(), cocoon_stage::Code::StoreCorrupt, "{error}");
    error
}

#[test]
fn every_altered_or_truncated_byte_is_seen_before_the_first_change() {
    let source = MemoryStore::new();
    source.put("n", "a", b"1", PutMode::Create).unwrap();
    source.put("n", "b", &[2; 100], PutMode::Create).unwrap();
    for key in [None, Some(key(1))] {
        let (bytes, _) = written(&source, key.as_ref());
        for i in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[i] ^= 1;
            untouched(&altered, key.as_ref());
            untouched(&bytes[..i], key.as_ref());
        }
        untouched(&[bytes.as_slice(), &[0]].concat(), key.as_ref());
    }
    let (plain, _) = written(&source, None);
    let (encrypted, _) = written(&source, Some(&key(1)));
    untouched(&plain, Some(&key(1)));
    untouched(&encrypted, None);
    untouched(&encrypted, Some(&key(2)));
}

#[test]
fn chunks_cannot_be_cut_off_swapped_or_taken_from_another_backup() {
    let (bytes, _) = written(&filled(), Some(&key(1)));
    let (other, _) = written(&filled(), Some(&key(1)));
    let chunk = (64 << 10) + 16;
    assert!(bytes.len() > HEADER + 3 * chunk);
    for count in 0..4 {
        untouched(&bytes[..HEADER + count * chunk], Some(&key(1)));
    }
    let mut swapped = bytes.clone();
    swapped[HEADER..HEADER + 2 * chunk].rotate_left(chunk);
    untouched(&swapped, Some(&key(1)));
    let mut mixed = bytes.clone();
    mixed[HEADER..HEADER + chunk].copy_from_slice(&other[HEADER..HEADER + chunk]);
    untouched(&mixed, Some(&key(1)));
    let mut doubled = bytes[..HEADER + chunk].to_vec();
    doubled.extend_from_slice(&bytes[HEADER..]);
    untouched(&doubled, Some(&key(1)));
}

#[test]
fn a_backup_that_changes_between_the_two_readings_is_reported() {
    struct Changing(Cursor<Vec<u8>>, Vec<u8>);
    impl Read for Changing {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buf)
        }
    }
    impl Seek for Changing {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            if matches!(to, SeekFrom::Start(_)) {
                self.0 = Cursor::new(std::mem::take(&mut self.1));
            }
            self.0.seek(to)
        }
    }
    let other = MemoryStore::new();
    other.put("n", "other", b"", PutMode::Create).unwrap();
    let mut input = Changing(Cursor::new(written(&filled(), None).0), written(&other, None).0);
    let result = restore(&mut input, &MemoryStore::new(), RestoreMode::EmptyOnly, None);
    assert!(matches!(result, Err(Error::Backup(_))), "{result:?}");
}

#[test]
fn a_writer_that_fails_is_reported() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(buf.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(buf.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    for key in [None, Some(key(1))] {
        let error = backup(&filled(), &mut Full(200_000), key.as_ref()).unwrap_err();
        assert!(matches!(error, Error::Full(_)), "{error}");
    }
}

#[test]
fn a_length_in_a_hostile_backup_allocates_nothing() {
    let mut bytes = header(false, &[0; SALT]);
    bytes.extend_from_slice(&[1, 0, 1, b'n', 0, 1, b'k', 0xff, 0xff, 0xff, 0xff]);
    assert!(matches!(untouched(&bytes, None), Error::Backup(reason) if reason.contains("too large")));
}

proptest! {
    #[test]
    fn no_input_panics_or_changes_anything(body in proptest::collection::vec(any::<u8>(), 0..200), whole: bool) {
        let bytes = if whole { body } else { [header(false, &[0; SALT]), body].concat() };
        untouched(&bytes, None);
    }

    #[test]
    fn any_records_come_back(records in proptest::collection::btree_map(("[a-z_]{1,4}", "[^\\x00]{1,20}"), any::<Vec<u8>>(), 0..20)) {
        let source = MemoryStore::new();
        for ((ns, key), value) in &records {
            source.put(ns, key, value, PutMode::Create).unwrap();
        }
        let target = MemoryStore::new();
        let (bytes, _) = written(&source, Some(&key(3)));
        restore(&mut Cursor::new(bytes), &target, RestoreMode::EmptyOnly, Some(&key(3))).unwrap();
        prop_assert_eq!(all(&target), all(&source));
    }
}
