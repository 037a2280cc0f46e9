//! Backups that are restored. The first byte says whether the input is the stream, or the content of a plain one whose
//! header and digest are added, or alterations of a good encrypted one; and whether there is a key.
#![no_main]

use std::io::Cursor;
use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use cocoon_store::{BackupKey, MemoryStore, PutMode, RestoreMode, Store, backup, restore, verify_backup};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let key = (choice & 1 == 1).then(|| BackupKey::from_key(&[7; 32]));
    if choice & 4 == 4 {
        return altered(rest);
    }
    let stream = if choice & 2 == 2 {
        let mut stream = b"COCOONBK\x01\x00".to_vec();
        stream.extend_from_slice(&[0; 32]);
        stream.extend_from_slice(rest);
        let end = digest(&SHA256, &stream);
        stream.extend_from_slice(end.as_ref());
        stream
    } else {
        rest.to_vec()
    };
    let store = MemoryStore::new();
    let verified = verify_backup(&mut Cursor::new(&stream), key.as_ref());
    let restored = restore(&mut Cursor::new(&stream), &store, RestoreMode::Replace, key.as_ref());
    let mut count = 0u64;
    let each = &mut |_| {
        count += 1;
        Ok(())
    };
    store.snapshot(each).expect("memory can be read");
    match (verified, restored) {
        (Ok(verified), Ok(restored)) => {
            assert_eq!((verified, verified.records), (restored, count));
            if key.is_none() {
                let mut again = Vec::new();
                backup(&store, &mut again, None).expect("memory can be written");
                assert_eq!(again, stream, "a plain backup has one form");
            }
        }
        (Err(_), Err(_)) => assert_eq!(count, 0, "something was restored from a bad backup"),
        (verified, restored) => panic!("verified {verified:?}, restored {restored:?}"),
    }
});

static ENCRYPTED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let store = MemoryStore::new();
    for number in 0..20_u8 {
        let value = vec![number; usize::from(number) * 300];
        store.put("secret", &format!("key{number}"), &value, PutMode::Create).expect("memory takes it");
    }
    let mut stream = Vec::new();
    backup(&store, &mut stream, Some(&BackupKey::from_key(&[7; 32]))).expect("memory can be written");
    stream
});

/// Steps of three bytes: where, and what is put, or that the stream ends there. Every alteration shows.
fn altered(steps: &[u8]) {
    let mut stream = ENCRYPTED.clone();
    for step in steps.chunks_exact(3) {
        let at = usize::from(step[0]) << 8 | usize::from(step[1]);
        match step[2] {
            0 => stream.truncate(at),
            by => {
                if let Some(byte) = stream.get_mut(at) {
                    *byte ^= by;
                }
            }
        }
    }
    let read = verify_backup(&mut Cursor::new(&stream), Some(&BackupKey::from_key(&[7; 32])));
    assert_eq!(read.is_ok(), stream == *ENCRYPTED);
}
