use std::sync::Arc;

use cocoon_store::PutMode::Replace;

use super::*;
use crate::layout::{decode_pack, encode_pack, encode_signed};
use crate::testing::{Bench, NOW, entry};
use crate::{HeadSigner, LogKey, Options};

/// Rewrites the pack that begins at `first`.
fn edit(bench: &Bench, first: u64, change: impl FnOnce(&mut Vec<u8>)) {
    let mut pack = bench.store.get(ENTRIES, &index_key(first)).unwrap().unwrap();
    change(&mut pack);
    bench.store.put(ENTRIES, &index_key(first), &pack, Replace).unwrap();
}

/// Replaces one byte of text in a pack.
fn alter(pack: &mut [u8]) {
    let at = pack.windows(5).position(|part| part == b"guest").unwrap();
    pack[at] = b'G';
}

/// Makes an altered pack agree with itself, as an attacker who knows the format would.
fn rehash(pack: &mut [u8]) {
    let length = u32::from_be_bytes(pack[1..5].try_into().unwrap()) as usize;
    let leaf = Hash::of_leaf(&pack[37..37 + length]);
    pack[5..37].copy_from_slice(&leaf.0);
    assert!(decode_pack(pack, 0, 256).is_ok());
}

/// Swaps the whole packs of two single entries.
fn swap(bench: &Bench, a: u64, b: u64) {
    let [one, two] = [a, b].map(|index| bench.store.get(ENTRIES, &index_key(index)).unwrap().unwrap());
    bench.store.put(ENTRIES, &index_key(a), &two, Replace).unwrap();
    bench.store.put(ENTRIES, &index_key(b), &one, Replace).unwrap();
}

fn cut_checkpoints(bench: &Bench, from: u64) {
    for key in bench.store.list(CHECKPOINTS, "", 1000).unwrap() {
        if key >= index_key(from) {
            bench.store.delete(CHECKPOINTS, &key).unwrap();
        }
    }
}

/// Writes entries, inner hashes and head anew, all consistent, with entry `changed` altered; signs nothing.
fn rewrite(bench: &Bench, size: u64, changed: u64) {
    let (old, _) = Head::load(&*bench.store).unwrap().unwrap();
    for ns in [ENTRIES, NODES] {
        for key in bench.store.list(ns, "", 10_000).unwrap() {
            bench.store.delete(ns, &key).unwrap();
        }
    }
    let items: Vec<_> = (0..size)
        .map(|i| {
            let bytes = entry(if i == changed { 9999 } else { i }).to_bytes().unwrap();
            crate::layout::Item { leaf: Hash::of_leaf(&bytes), bytes }
        })
        .collect();
    bench.store.delete(HEAD.0, HEAD.1).unwrap();
    let empty = Head { log_id: old.log_id, frontier: Frontier::default() };
    let (next, steps) = crate::commit::append(&empty, &items).unwrap();
    assert!(crate::commit::apply(&*bench.store, None, &next, &steps).unwrap());
}

#[test]
fn an_untouched_log_is_verified_with_progress() {
    let bench = Bench::filled(600, 7);
    let trusted = bench.open().unwrap().head().unwrap();
    let mut told = Vec::new();
    let report =
        verify(&*bench.store, &bench.public(), Some(&trusted), &mut |done, all| told.push((done, all)));
    let report = report.unwrap();
    assert_eq!((report.size, report.signed_size, report.trusted_size), (600, 600, Some(600)));
    assert_eq!(report.root, trusted.root().unwrap());
    assert_eq!(told, [(256, 600), (512, 600), (600, 600)]);
    assert_eq!(Bench::filled(0, 1).verify(None).unwrap().size, 0);
}

#[test]
fn an_edited_entry_is_named() {
    let bench = Bench::filled(600, 1);
    edit(&bench, 300, |pack| alter(pack));
    assert!(matches!(bench.verify(None), Err(Error::EntryAltered { index: 300 })));
    edit(&bench, 300, |pack| rehash(pack));
    assert!(matches!(bench.verify(None), Err(Error::EntriesReplaced { from: 256, last: 511 })));
    assert!(bench.verify(None).unwrap_err().is_tampering());

    let tail = Bench::filled(600, 1);
    edit(&tail, 590, |pack| {
        alter(pack);
        rehash(pack);
    });
    assert!(matches!(tail.verify(None), Err(Error::Rewritten { from: 0, size: 600 })));
    assert!(tail.open().is_err());
}

#[test]
fn a_deleted_entry_is_named() {
    for index in [0, 255, 256, 300, 599] {
        let bench = Bench::filled(600, 1);
        assert!(bench.store.delete(ENTRIES, &index_key(index)).unwrap());
        let found = bench.verify(None).unwrap_err();
        assert!(matches!(found, Error::EntryMissing { index: i } if i == index), "{found}");
        let page = bench.open().and_then(|log| log.entries(0, 1000));
        assert!(matches!(page, Err(Error::EntryMissing { index: i }) if i == index));
    }
}

#[test]
fn swapped_entries_are_noticed() {
    let bench = Bench::filled(600, 1);
    swap(&bench, 10, 20);
    assert!(matches!(bench.verify(None), Err(Error::EntriesReplaced { from: 0, last: 255 })));
    let across = Bench::filled(600, 1);
    swap(&across, 300, 599);
    assert!(matches!(across.verify(None), Err(Error::EntriesReplaced { from: 256, last: 511 })));
    let tail = Bench::filled(600, 1);
    swap(&tail, 520, 521);
    assert!(matches!(tail.verify(None), Err(Error::Rewritten { from: 0, size: 600 })));
}

#[test]
fn a_truncated_log_is_noticed() {
    let bench = Bench::filled(300, 1);
    let before = bench.copy();
    bench.fill(400, 1);
    let trusted = bench.open().unwrap().head().unwrap();
    let after = bench.copy();

    // Everything put back except the checkpoint of 400: it tells.
    bench.put_back(&before);
    let kept = after.iter().find(|r| r.ns == CHECKPOINTS && r.key == index_key(400)).unwrap();
    bench.store.put(&kept.ns, &kept.key, &kept.value, cocoon_store::PutMode::Create).unwrap();
    assert!(matches!(bench.verify(None), Err(Error::Truncated { size: 300, signed: 400 })));
    assert!(matches!(bench.open(), Err(Error::Truncated { size: 300, signed: 400 })));

    // All put back: only the remembered head tells.
    bench.put_back(&before);
    assert_eq!(bench.verify(None).unwrap().size, 300);
    assert!(matches!(bench.verify(Some(&trusted)), Err(Error::Truncated { size: 300, signed: 400 })));

    // Head and checkpoints put back, entries left: the entries tell.
    bench.put_back(&after);
    let head = before.iter().find(|r| r.ns == HEAD.0).unwrap();
    bench.store.put(HEAD.0, HEAD.1, &head.value, Replace).unwrap();
    cut_checkpoints(&bench, 301);
    assert!(matches!(bench.verify(None), Err(Error::HeadBehind { size: 300, found: 300 })));
    let log = bench.open().unwrap();
    assert!(matches!(log.append(entry(1)), Err(Error::HeadBehind { size: 300, found: 300 })));
}

#[test]
fn a_forged_head_is_noticed() {
    let bench = Bench::filled(600, 10);
    let (mut head, _) = Head::load(&*bench.store).unwrap().unwrap();
    head.frontier.peaks[1].0[0] ^= 1;
    bench.store.put(HEAD.0, HEAD.1, &head.encode(), Replace).unwrap();
    assert!(matches!(bench.verify(None), Err(Error::HeadForged { size: 600 })));
    assert!(matches!(bench.open(), Err(Error::Rewritten { size: 600, .. })));
    cut_checkpoints(&bench, 1);
    assert!(matches!(bench.verify(None), Err(Error::HeadMismatch { from: 0, size: 600 })));
    assert!(matches!(bench.open(), Err(Error::HeadMismatch { from: 0, size: 600 })));
    bench.store.put(HEAD.0, HEAD.1, b"\x01nonsense", Replace).unwrap();
    assert!(matches!(bench.verify(None), Err(Error::HeadMalformed)));
    bench.store.delete(HEAD.0, HEAD.1).unwrap();
    assert!(matches!(bench.verify(None), Err(Error::HeadMissing)));
    assert!(matches!(bench.open(), Err(Error::HeadMissing)));
}

#[test]
fn a_replaced_key_or_forged_checkpoint_is_noticed() {
    let bench = Bench::filled(20, 10);
    let stored = bench.store.get(CHECKPOINTS, &index_key(20)).unwrap().unwrap();
    let genuine: SignedHead = serde_json::from_slice(&stored).unwrap();
    let put = |head: &SignedHead| {
        bench.store.put(CHECKPOINTS, &index_key(20), &encode_signed(head).unwrap(), Replace).unwrap();
    };
    let eve = LogKey::generate().unwrap();
    let (head, _) = Head::load(&*bench.store).unwrap().unwrap();
    put(&SignedHead::sign(&eve, &head.log_id, 20, &head.frontier.root(), NOW).unwrap());
    assert!(matches!(
        bench.verify(None),
        Err(Error::KeyReplaced { size: 20, expected, found }) if expected == bench.key.key_id() && found == eve.key_id()
    ));
    assert!(matches!(bench.open(), Err(Error::KeyReplaced { size: 20, .. })));
    put(&SignedHead {
        key_id: bench.key.key_id(),
        ..SignedHead::sign(&eve, &head.log_id, 20, &head.frontier.root(), NOW).unwrap()
    });
    assert!(matches!(bench.verify(None), Err(Error::CheckpointForged { size: 20 })));
    put(&SignedHead { at_unix: 1, ..genuine.clone() });
    assert!(matches!(bench.verify(None), Err(Error::CheckpointForged { size: 20 })));
    put(&SignedHead { size: 10, ..genuine.clone() });
    assert!(matches!(bench.verify(None), Err(Error::CheckpointForged { size: 20 })));
    put(&SignedHead::sign(&*bench.key, &[1; 16], 20, &head.frontier.root(), NOW).unwrap());
    assert!(matches!(bench.verify(None), Err(Error::OtherLog { .. })));
    put(&genuine);
    bench.verify(None).unwrap();
    cut_checkpoints(&bench, 0);
    assert!(matches!(bench.verify(None), Err(Error::Unsigned { size: 20 })));
    assert!(matches!(bench.open(), Err(Error::Unsigned { size: 20 })));
}

#[test]
fn a_forged_inner_hash_is_told_from_altered_entries() {
    let bench = Bench::filled(600, 10);
    bench.store.put(NODES, &node_key(8, 1), &[7; 32], Replace).unwrap();
    assert!(matches!(bench.verify(None), Err(Error::NodeAltered { level: 8, index: 1 })));
    bench.store.delete(NODES, &node_key(9, 0)).unwrap();
    assert!(matches!(bench.open(), Err(Error::NodeAltered { level: 9, index: 0 })));
}

#[test]
fn a_consistent_rewrite_contradicts_what_was_signed() {
    let bench = Bench::filled(600, 10);
    let trusted = bench.open().unwrap().head().unwrap();
    rewrite(&bench, 600, 3);
    assert!(matches!(bench.verify(None), Err(Error::Rewritten { from: 0, size: 600 })));
    assert!(matches!(bench.open(), Err(Error::Rewritten { from: 0, size: 600 })));

    // With the log key too, only the remembered head tells.
    let (head, _) = Head::load(&*bench.store).unwrap().unwrap();
    let forged = SignedHead::sign(&*bench.key, &head.log_id, 600, &head.frontier.root(), NOW).unwrap();
    bench.store.put(CHECKPOINTS, &index_key(600), &encode_signed(&forged).unwrap(), Replace).unwrap();
    assert_eq!(bench.verify(None).unwrap().signed_size, 600);
    assert!(matches!(bench.verify(Some(&trusted)), Err(Error::Rewritten { size: 600, .. })));
}

#[test]
fn a_running_log_signs_no_rewritten_history() {
    let bench = Bench::filled(300, 10);
    let log = bench.open_with(Options { sign_every: 1, ..Options::default() });
    log.append(entry(300)).unwrap();
    rewrite(&bench, 301, 3);
    assert!(matches!(log.head(), Err(Error::Rewritten { size: 301, .. })));
    assert!(matches!(log.append(entry(301)), Err(Error::Rewritten { size: 301, .. })));
    rewrite(&bench, 200, 3);
    assert!(matches!(log.head(), Err(Error::Truncated { size: 200, signed: 301 })));
    assert!(matches!(log.append(entry(301)), Err(Error::Truncated { size: 200, signed: 301 })));
}

#[test]
fn a_trusted_head_of_another_log_or_key_is_refused() {
    let bench = Bench::filled(5, 5);
    let stranger = Bench::filled(5, 5);
    let foreign = stranger.open().unwrap().head().unwrap();
    assert!(matches!(bench.verify(Some(&foreign)), Err(Error::KeyReplaced { size: 5, .. })));
    let own = bench.open().unwrap().head().unwrap();
    let twin = Bench { store: Arc::new(cocoon_store::MemoryStore::new()), key: bench.key.clone() };
    twin.fill(9, 9);
    assert!(matches!(twin.verify(Some(&own)), Err(Error::OtherLog { .. })));
    let forged = SignedHead { size: 4, ..own };
    assert!(matches!(bench.verify(Some(&forged)), Err(Error::ProofInvalid(_))));
}

#[test]
fn entries_swapped_inside_a_pack_are_noticed() {
    let bench = Bench::filled(20, 20);
    rewrite(&bench, 20, u64::MAX);
    bench.verify(None).unwrap();
    edit(&bench, 0, |pack| {
        let mut items = decode_pack(pack, 0, 256).unwrap();
        items.reverse();
        *pack = encode_pack(items.iter()).unwrap();
    });
    assert!(matches!(bench.verify(None), Err(Error::Rewritten { from: 0, size: 20 })));
}
