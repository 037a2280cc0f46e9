//! One process and its cache: layers made, found, refused, repaired.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::Ordering;
use std::time::Duration;

use cocoon_layers::{BLOCK, Cache, Error, Pinned, Roots, SHARED_ENCRYPTED, Wanted};
use cocoon_stage::{Code, Failure};
use support::*;

fn code(e: Error) -> Code {
    Failure::from(e).code
}

#[tokio::test]
async fn a_layer_is_made_once_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, layer) = (open(dir.path()), layer(1, 300_000));
    let source = layer.source();
    let first = cache.layer(&layer.wanted(), &source).await.unwrap();
    assert!(first.computed);
    let found = first.path.metadata().unwrap();
    assert_eq!(found.mode() & 0o777, 0o400);
    assert!(found.len() > first.blocks * BLOCK && first.serial() == first.root_hex()[..20]);
    let again = open(dir.path()).layer(&layer.wanted(), &source).await.unwrap();
    assert_eq!((again.root, again.blocks, again.computed), (first.root, first.blocks, false));
    // By its root alone too: what the index knows is no matter.
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let pinned = Wanted { pinned: Some(Pinned { root: first.root, blocks: first.blocks }), ..layer.wanted() };
    open(dir.path()).layer(&pinned, &source).await.unwrap();
    assert_eq!(source.opened.load(Ordering::SeqCst), 1);
    let verdicts = cache.verify(&[]).await.unwrap();
    assert_eq!(verdicts.iter().map(|v| v.problem.clone()).collect::<Vec<_>>(), [None]);
    assert_tidy(dir.path());
}

#[tokio::test]
async fn another_root_than_the_plans_is_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, layer) = (open(dir.path()), layer(1, 50_000));
    let other = Wanted { pinned: Some(Pinned { root: [7; 32], blocks: 9 }), ..layer.wanted() };
    let e = cache.layer(&other, &layer.source()).await.unwrap_err();
    assert!(matches!(e, Error::WrongRoot { .. }), "{e}");
    assert_eq!(code(e), Code::ImageCacheFailed);
    assert_eq!((names(dir.path(), "layers").len(), names(dir.path(), "index").len()), (0, 0));
    assert_tidy(dir.path());
    // Nor with the right root and another length.
    let real = layer.get(&cache).await.unwrap();
    let long = Wanted { pinned: Some(Pinned { root: real.root, blocks: real.blocks + 1 }), ..layer.wanted() };
    assert!(matches!(cache.layer(&long, &layer.source()).await, Err(Error::WrongRoot { .. })));
}

#[tokio::test]
async fn what_lies_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, good) = (open(dir.path()), layer(1, 200_000));
    let mut flipped = good.source();
    *flipped.blob.last_mut().unwrap() ^= 1;
    let mut short = good.source();
    short.blob.truncate(100_000);
    let mut long = good.source();
    long.blob.extend([0; 100]);
    let mut unknown = good.source();
    unknown.descriptor.media_type = "application/x".into();
    let mut encrypted = good.source();
    encrypted.descriptor.media_type = format!("{GZIP}+encrypted");
    for (source, expected) in [
        (flipped, Code::ImageDigestMismatch),
        (short, Code::ImageSizeMismatch),
        (long, Code::ImageSizeMismatch),
        (unknown, Code::ImageManifestInvalid),
        (encrypted, Code::ImageUndecryptable),
    ] {
        let e = cache.layer(&good.wanted(), &source).await.unwrap_err();
        assert_eq!(code(e), expected, "{:?}", source.descriptor.media_type);
        assert_eq!(names(dir.path(), "layers").len(), 0);
        assert_tidy(dir.path());
    }
    // The right blob under another diff id.
    let wanted = Wanted { diff_id: layer(2, 1).diff_id, pinned: None };
    assert_eq!(code(cache.layer(&wanted, &good.source()).await.unwrap_err()), Code::ImageDigestMismatch);
    // A tar that leads out of its root.
    let evil = of_tar(&{
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..9].copy_from_slice(b"../escape");
        header.set_size(0);
        header.set_cksum();
        tar.append(&header, &[][..]).unwrap();
        tar.into_inner().unwrap()
    });
    assert_eq!(code(evil.get(&cache).await.unwrap_err()), Code::ImageLayerUnsafe);
    // A bomb: it would unpack to more than the whole cache.
    let small = tempfile::tempdir().unwrap();
    let bomb = of_tar(&{
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(64 << 20);
        header.set_cksum();
        tar.append_data(&mut header, "zero", std::io::Read::take(std::io::repeat(0), 64 << 20)).unwrap();
        tar.into_inner().unwrap()
    });
    assert!(bomb.blob.len() < 1 << 20);
    let tight = Cache::open(small.path(), 1 << 20).unwrap();
    assert_eq!(code(bomb.get(&tight).await.unwrap_err()), Code::ImageCacheFailed);
    assert_tidy(small.path());
    assert_tidy(dir.path());
    good.get(&cache).await.unwrap();
}

#[tokio::test]
async fn damaged_layers_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, layer) = (open(dir.path()), layer(1, 600_000));
    let source = layer.source();
    let first = cache.layer(&layer.wanted(), &source).await.unwrap();
    let path = layer_path(dir.path(), &first);
    let good = std::fs::read(&path).unwrap();
    drop(first);
    let replace = |content: &[u8]| {
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
    };
    let elsewhere = dir.path().join("elsewhere");
    std::fs::write(&elsewhere, &good).unwrap();
    let damages: [&dyn Fn(); 8] = [
        &|| replace(&good[..good.len() - 4096]),
        &|| replace(&good[..good.len() - 1]),
        &|| replace(b""),
        // As some file systems leave a file after a crash.
        &|| replace(&vec![0; good.len()]),
        &|| replace(&[&good[..], &[0; 4096]].concat()),
        &|| {
            std::fs::remove_file(&path).unwrap();
            symlink(&elsewhere, &path).unwrap();
        },
        &|| std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap(),
        &|| std::fs::remove_file(&path).unwrap(),
    ];
    for (i, damage) in damages.iter().enumerate() {
        damage();
        let again = cache.layer(&layer.wanted(), &source).await.unwrap();
        assert!(again.computed, "damage {i} was found");
        assert_eq!(std::fs::read(&path).unwrap(), good);
        assert_eq!(source.opened.load(Ordering::SeqCst), i + 2);
        assert_tidy(dir.path());
    }
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        assert!(cache.layer(&layer.wanted(), &source).await.unwrap().computed);
    }
    // A folder or a pipe by that name is not ours to remove, and does not hang us.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(code(cache.layer(&layer.wanted(), &source).await.unwrap_err()), Code::ImageCacheFailed);
    std::fs::remove_dir(&path).unwrap();
    assert_tidy(dir.path());
    cache.layer(&layer.wanted(), &source).await.unwrap();
}

#[tokio::test]
async fn a_flipped_bit_is_found_by_the_full_check() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, layer) = (open(dir.path()), layer(1, 600_000));
    let held = layer.get(&cache).await.unwrap();
    let root = held.root;
    let path = dir.path().join("layers").join(hex::encode(root));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let file = std::fs::File::options().write(true).read(true).open(&path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 300_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 300_000).unwrap();
    let verdicts = cache.verify(&[root]).await.unwrap();
    assert!(verdicts[0].problem.as_ref().unwrap().contains("block 73"), "{verdicts:?}");
    assert!(!verdicts[0].removed, "a pod uses it");
    // A hit does not find it: that is what the guest's dm-verity is for. A check when nobody uses it does away with it.
    assert!(!layer.get(&cache).await.unwrap().computed);
    drop(held);
    let verdicts = cache.verify(&[]).await.unwrap();
    assert!(verdicts[0].problem.is_some() && verdicts[0].removed);
    assert_eq!((names(dir.path(), "layers").len(), names(dir.path(), "index").len()), (0, 0));
    let gone = cache.verify(&[root]).await.unwrap();
    assert!(gone[0].problem.is_some() && !gone[0].removed);
    assert!(layer.get(&cache).await.unwrap().computed);
    assert!(cache.verify(&[]).await.unwrap()[0].problem.is_none());
}

#[tokio::test]
async fn a_damaged_index_only_costs_time() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, one, two) = (open(dir.path()), layer(1, 50_000), layer(2, 50_000));
    let (first, _) = (one.get(&cache).await.unwrap(), two.get(&cache).await.unwrap());
    let entry = |of: &Layer| dir.path().join("index").join(format!("diff-{}", of.diff_id).replace(':', "-"));
    let text = std::fs::read_to_string(entry(&one)).unwrap();
    for bad in [
        String::new(),
        "x".repeat(1 << 20),
        text.replace("\"format_version\":1", "\"format_version\":2"),
        text.replace(&first.root_hex(), &"0".repeat(64)),
        text.replace(&first.root_hex(), "../../etc/passwd"),
        std::fs::read_to_string(entry(&two)).unwrap(),
    ] {
        std::fs::write(entry(&one), bad).unwrap();
        let again = one.get(&cache).await.unwrap();
        assert_eq!((again.root, again.computed), (first.root, true));
        assert_eq!(std::fs::read_to_string(entry(&one)).unwrap(), text, "it is mended");
    }
    std::fs::remove_file(entry(&one)).unwrap();
    symlink("/dev/zero", entry(&one)).unwrap();
    assert!(one.get(&cache).await.unwrap().computed);
}

#[test]
fn folders_that_others_can_change_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = Cache::open(&path, LIMIT).unwrap();
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
    drop(cache);
    let mode = |name: &str, mode| {
        std::fs::set_permissions(path.join(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    for name in ["", "layers", "index", "tmp", "locks"] {
        mode(name, 0o777);
        assert!(matches!(Cache::open(&path, LIMIT), Err(Error::Unfit { .. })), "{name}");
        mode(name, 0o700);
    }
    let moved = dir.path().join("moved");
    std::fs::rename(path.join("layers"), &moved).unwrap();
    symlink(&moved, path.join("layers")).unwrap();
    assert!(matches!(Cache::open(&path, LIMIT), Err(Error::Unfit { reason: "it is a link", .. })));
    std::fs::remove_file(path.join("layers")).unwrap();
    std::fs::write(path.join("layers"), "").unwrap();
    assert!(Cache::open(&path, LIMIT).is_err());
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        assert!(matches!(Cache::open(&path, LIMIT), Err(Error::Unfit { .. })));
        assert!(matches!(Roots::open(&path), Err(Error::Unfit { .. })));
    }
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(Cache::open(&file, LIMIT).is_err());
}

#[tokio::test]
async fn foreign_files_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    let layer = layer(1, 50_000);
    layer.get(&cache).await.unwrap();
    for name in ["layers/notes.txt", "index/x", "layers/AAAA"] {
        std::fs::write(dir.path().join(name), "mine").unwrap();
    }
    assert_eq!(cache.list().await.unwrap().len(), 1);
    assert_eq!(cache.prune(0).await.unwrap().len(), 1);
    assert_eq!(names(dir.path(), "layers"), ["AAAA", "notes.txt"]);
    assert_eq!(names(dir.path(), "index"), ["x"]);
}

#[tokio::test]
async fn encrypted_layers_are_their_own_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    let plain = layer(1, 50_000).diff_id;
    // One plaintext under two keys: two layers.
    for seed in [1, 2] {
        let blob = noise(seed, 40 * 4096);
        let secret = Layer { diff_id: plain, descriptor: descriptor(SHARED_ENCRYPTED, &blob), blob };
        let lease = secret.get(&cache).await.unwrap();
        assert_eq!(lease.blocks, 40);
        let file = std::fs::read(&lease.path).unwrap();
        assert!(file.starts_with(&secret.blob) && file.len() == 41 * 4096);
        assert!(lease.computed && !secret.get(&cache).await.unwrap().computed);
        let mut flipped = secret.source();
        flipped.blob[100] ^= 1;
        drop(lease);
        cache.prune(0).await.unwrap();
        assert_eq!(
            code(cache.layer(&secret.wanted(), &flipped).await.unwrap_err()),
            Code::ImageDigestMismatch
        );
        secret.get(&cache).await.unwrap();
    }
    for bytes in [0, 4095, 4097] {
        let blob = noise(3, bytes);
        let odd = Layer { diff_id: plain, descriptor: descriptor(SHARED_ENCRYPTED, &blob), blob };
        assert_eq!(code(odd.get(&cache).await.unwrap_err()), Code::ImageLayerCorrupt, "{bytes}");
    }
    assert_tidy(dir.path());
}

#[tokio::test]
async fn what_only_a_guest_can_decrypt_is_refused_whatever_was_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, plain) = (open(dir.path()), layer(1, 50_000));
    let lease = plain.get(&cache).await.unwrap();
    let mut secret = plain.source();
    secret.descriptor.media_type = format!("{GZIP}+encrypted");
    let pinned = Some(Pinned { root: lease.root, blocks: lease.blocks });
    for wanted in [plain.wanted(), Wanted { pinned, ..plain.wanted() }] {
        for result in [
            cache.layer(&wanted, &secret).await.map(drop),
            cache.compute(&wanted, &secret).await.map(drop),
            cache.held(&wanted, &secret.descriptor).await.map(drop),
        ] {
            let failure = Failure::from(result.unwrap_err());
            assert_eq!(failure.code, Code::ImageUndecryptable);
            assert!(failure.to_string().contains("--layers shared"), "{failure}");
        }
    }
    assert_eq!(secret.opened.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn unfinished_entries_of_killed_processes_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let layer = layer(1, 50_000);
    layer.get(&open(dir.path())).await.unwrap();
    Roots::open(dir.path()).unwrap();
    for folder in ["index", "roots"] {
        std::fs::write(dir.path().join(folder).join(".0123"), "half").unwrap();
    }
    let _ = (open(dir.path()), Roots::open(dir.path()).unwrap());
    assert_eq!((names(dir.path(), "index").len(), names(dir.path(), "roots").len()), (1, 0));
}

#[tokio::test]
async fn a_conversion_that_nobody_waits_for_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, layer) = (open(dir.path()), layer(1, 4 << 20));
    let slow = Memory { pace: Duration::from_millis(20), ..layer.source() };
    let wanted = layer.wanted();
    let given_up = tokio::time::timeout(Duration::from_millis(200), cache.layer(&wanted, &slow)).await;
    assert!(given_up.is_err());
    // The whole of it would take over a second.
    for _ in 0..100 {
        if names(dir.path(), "tmp").is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(names(dir.path(), "layers").len(), 0);
    assert_tidy(dir.path());
}
