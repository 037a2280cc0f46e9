//! Layers shared by images, containers and pulls at the same time; room, leases, keys.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

#[path = "../../../net/registry/tests/fake/mod.rs"]
mod fake;
mod image;
mod run;

use std::sync::Arc;
use std::time::Duration;

use cocoon_image::{Digest, Limits};
use cocoon_pull::{Error, OnProgress, Progress, PullRequest, Store};
use cocoon_signature::KeyPair;
use cocoon_stage::{Code, Failure};
use fake::{Fake, Fault};
use image::{Builder, KEK, OCI, file, gzip, raw, tar_of};
use run::{Keys, Place, Rootfs, Signed, patient, request, silent};
use tar::EntryType;

/// How often a blob was asked for.
fn fetched(fake: &Fake, blob: &[u8]) -> usize {
    let name = Digest::sha256(blob).to_string();
    fake.log().iter().filter(|l| l.contains("/blobs/") && l.contains(&name)).count()
}

/// An image of these uncompressed layers.
fn image_of(fake: &Fake, tars: &[&Vec<u8>]) -> Digest {
    let mut image = Builder::new(fake);
    for tar in tars {
        image.layer(OCI, tar.to_vec(), tar);
    }
    image.push()
}

fn one(name: &str, size: usize) -> Vec<u8> {
    tar_of(|b| file(b, name, &vec![7; size]))
}

#[tokio::test]
async fn layers_that_images_share_are_fetched_and_stored_once() {
    let (fake, place) = (Fake::start().await, Place::new());
    let (base, a, b) = (one("base", 100_000), one("a", 10), one("b", 10));
    let first = place.pull(request(&fake.name("one"), image_of(&fake, &[&base, &a]))).await.unwrap();
    let second = place.pull(request(&fake.name("two"), image_of(&fake, &[&base, &b]))).await.unwrap();
    assert_eq!(first.layers[0].path(), second.layers[0].path());
    assert_eq!((fetched(&fake, &base), place.names().len()), (1, 3));
    assert_eq!(first.layers[0].diff_id(), Digest::sha256(&base));
    assert_eq!(place.store.collect(), 0, "all is in use");
    drop(first);
    assert_eq!(place.store.collect(), 1, "only a");
    assert!(second.layers.iter().all(|l| l.path().exists()));
    drop(second);
    assert_eq!((place.store.collect(), place.store.used_bytes(), place.names().len()), (2, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_at_the_same_time_join() {
    let (fake, place) = (Fake::start().await, Place::new());
    let base = one("base", 4 << 20);
    let digest = image_of(&fake, &[&base]);
    let pulls: Vec<_> = (0..8)
        .map(|_| {
            let (store, request) = (place.store.clone(), request(&fake.name("app"), digest));
            tokio::spawn(async move { store.pull(request, &patient(), &Keys(None), silent()).await.unwrap() })
        })
        .collect();
    let mut paths = Vec::new();
    for pull in pulls {
        paths.push(pull.await.unwrap().layers[0].path().to_owned());
    }
    paths.dedup();
    assert_eq!((paths.len(), fetched(&fake, &base)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_takes_over_from_one_that_is_cancelled_or_fails() {
    let (fake, place) = (Fake::start().await, Place::new());
    let base = one("base", 4 << 20);
    let digest = image_of(&fake, &[&base]);
    for fault in [Fault::Stall(1 << 20), Fault::Body(b"wrong".to_vec())] {
        let cancel = matches!(fault, Fault::Stall(_));
        fake.fault(Digest::sha256(&base), fault, 1);
        let (some, mut began) = tokio::sync::mpsc::unbounded_channel();
        let hear: OnProgress = Arc::new(move |p| some.send(p).unwrap_or_default());
        let (store, wanted) = (place.store.clone(), request(&fake.name("app"), digest));
        let first = tokio::spawn(async move { store.pull(wanted, &patient(), &Keys(None), hear).await });
        while !matches!(began.recv().await, Some(Progress::Downloaded { .. })) {}
        let (store, wanted) = (place.store.clone(), request(&fake.name("app"), digest));
        let second = tokio::spawn(async move { store.pull(wanted, &patient(), &Keys(None), silent()).await });
        if cancel {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(!second.is_finished());
            first.abort();
            assert!(first.await.unwrap_err().is_cancelled());
        } else {
            assert!(first.await.unwrap().is_err());
        }
        let pulled = second.await.unwrap().map_err(Failure::from).unwrap();
        assert_eq!(place.names(), [Digest::sha256(&base).hex()]);
        drop(pulled);
        place.store.collect();
    }
}

#[tokio::test]
async fn the_signature_is_decided_for_every_pull_also_when_all_is_here() {
    let (fake, place) = (Fake::start().await, Place::new());
    let base = one("base", 10);
    let digest = image_of(&fake, &[&base]);
    let held = place.pull(request(&fake.name("app"), digest)).await.unwrap();
    let key_pem = KeyPair::generate().unwrap().public_pem;
    let signed = PullRequest { gate: Signed::by(&key_pem), ..request(&fake.name("app"), digest) };
    let failure = place.pull(signed).await.unwrap_err();
    assert_eq!(failure.code, Code::ImageSignatureMissing);
    drop(held);
}

#[tokio::test]
async fn an_encrypted_layer_needs_its_key_also_when_it_is_here() {
    let (fake, place) = (Fake::start().await, Place::new());
    let secret = one("secret", 1000);
    let mut image = Builder::new(&fake);
    image.encrypted(OCI, secret.clone(), &secret);
    let digest = image.push();
    let held = place.pull(request(&fake.name("app"), digest)).await.unwrap();
    // Without the key, or with another.
    let denied = place.pull_with(request(&fake.name("app"), digest), Keys(None)).await.unwrap_err();
    assert_eq!(denied.code, Code::ImageKeyUnavailable);
    let wrong = place.pull_with(request(&fake.name("app"), digest), Keys(Some([1; 32]))).await.unwrap_err();
    assert_eq!(wrong.code, Code::ImageUndecryptable);

    // The diff id is public. A plain image that claims it must bring the content, which its author does not have.
    let mut claims = Builder::new(&fake);
    claims.layer(OCI, b"something else".to_vec(), &secret);
    let thief = place.pull(request(&fake.name("thief"), claims.push())).await.unwrap_err();
    assert_eq!(thief.code, Code::ImageDigestMismatch);
    // So must an encrypted one, even of the same blob, under a key that its author chose.
    let mut other = Builder::new(&fake);
    other.encrypted(OCI, b"chosen".to_vec(), &secret);
    other.layers[0]["digest"] = image.layers[0]["digest"].clone();
    other.layers[0]["size"] = image.layers[0]["size"].clone();
    let thief = place.pull(request(&fake.name("thief"), other.push())).await.unwrap_err();
    assert_eq!(thief.code, Code::ImageUndecryptable);

    // The same image again shares; the same content in the clear is its own.
    let again = place.pull(request(&fake.name("app"), digest)).await.unwrap();
    assert_eq!(again.layers[0].path(), held.layers[0].path());
    let plain = place.pull(request(&fake.name("plain"), image_of(&fake, &[&secret]))).await.unwrap();
    assert_ne!(plain.layers[0].path(), held.layers[0].path());
    assert_eq!(place.names().len(), 2);
}

#[tokio::test]
async fn of_a_layer_that_occurs_twice_the_topmost_counts() {
    let (fake, place) = (Fake::start().await, Place::new());
    let a = tar_of(|b| {
        file(b, "f", b"a");
        file(b, ".wh.gone", b"");
    });
    let b = tar_of(|t| {
        file(t, "f", b"b");
        file(t, "gone", b"b");
        file(t, "kept", b"b");
    });
    let pulled = place.pull(request(&fake.name("app"), image_of(&fake, &[&a, &b, &a]))).await.unwrap();
    let order: Vec<_> = pulled.layers.iter().map(|l| l.diff_id()).collect();
    assert_eq!(order, [Digest::sha256(&b), Digest::sha256(&a)]);
    assert_eq!(fetched(&fake, &a), 1);
    if let Some(rootfs) = Rootfs::mount(&pulled.layers) {
        assert_eq!(std::fs::read(rootfs.at("f")).unwrap(), b"a");
        assert!(!rootfs.at("gone").exists() && rootfs.at("kept").exists());
    }
}

#[tokio::test]
async fn layers_below_an_opaque_root_do_not_show() {
    let (fake, place) = (Fake::start().await, Place::new());
    let (low, top) = (one("low", 1), one("top", 1));
    let cut = tar_of(|b| {
        file(b, ".wh..wh..opq", b"");
        file(b, "new", b"");
    });
    let pulled = place.pull(request(&fake.name("app"), image_of(&fake, &[&low, &cut, &top]))).await.unwrap();
    assert_eq!(pulled.layers.len(), 2);
    if let Some(rootfs) = Rootfs::mount(&pulled.layers) {
        assert!(!rootfs.at("low").exists() && rootfs.at("new").exists() && rootfs.at("top").exists());
    }
}

#[tokio::test]
async fn room_is_kept_to_and_made() {
    let (fake, place) = (Fake::start().await, Place::with(3 << 20));
    let (a, b, huge) = (one("a", 2 << 20), one("b", 2 << 20), one("huge", 4 << 20));
    let (a, b) = (image_of(&fake, &[&a]), image_of(&fake, &[&b]));
    let held = place.pull(request(&fake.name("app"), a)).await.unwrap();
    assert!(place.store.used_bytes() > 2 << 20);
    // The first is in use: there is no room.
    let failure = place.pull(request(&fake.name("app"), b)).await.unwrap_err();
    assert_eq!(failure.code, Code::ImageTooLarge);
    assert_eq!(place.names().len(), 1);
    drop(held);
    // It is not any more: room is made.
    let held = place.pull(request(&fake.name("app"), b)).await.unwrap();
    assert_eq!(place.names().len(), 1);
    drop(held);
    place
        .refused(request(&fake.name("app"), image_of(&fake, &[&huge])), Keys(None), Code::ImageTooLarge)
        .await;
    // Shared layers count for each image's own limits.
    place.pull(request(&fake.name("app"), a)).await.unwrap();
    let limits = Limits { total_bytes: 2 << 20, ..Limits::default() };
    let tight = PullRequest { limits, ..request(&fake.name("app"), a) };
    assert_eq!(place.pull(tight).await.unwrap_err().code, Code::ImageTooLarge);
}

#[tokio::test]
async fn a_full_file_system_is_said_before_it_is_full() {
    let (fake, dir) = (Fake::start().await, tempfile::tempdir().unwrap());
    let flags = rustix::mount::MountFlags::empty();
    if let Err(e) = rustix::mount::mount("tmpfs", dir.path(), "tmpfs", flags, c"size=16m") {
        println!("skipped: no tmpfs can be mounted: {e}");
        return;
    }
    let store = Store::open(&dir.path().join("images"), 1 << 40).unwrap();
    let big = tar_of(|b| file(b, "big", &vec![1; 14 << 20]));
    let result = store
        .pull(request(&fake.name("app"), image_of(&fake, &[&big])), &patient(), &Keys(None), silent())
        .await;
    let failure: Failure = result.unwrap_err().into();
    let used = store.used_bytes();
    drop(store);
    let left = std::fs::read_dir(dir.path().join("images/layers")).unwrap().count();
    rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::empty()).unwrap();
    assert_eq!(failure.code, Code::ImageTooLarge);
    assert!(failure.to_string().contains("free"), "{failure}");
    assert_eq!((used, left), (0, 0));
}

#[tokio::test]
async fn what_an_earlier_run_left_is_deleted_and_a_second_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("images");
    std::fs::create_dir_all(folder.join(format!("layers/{}/x/y", "a".repeat(64)))).unwrap();
    std::fs::create_dir_all(folder.join("layers/b.partial-7/x")).unwrap();
    let store = Store::open(&folder, 1).unwrap();
    assert_eq!(std::fs::read_dir(folder.join("layers")).unwrap().count(), 0);
    assert!(matches!(Store::open(&folder, 1), Err(Error::Directory { .. })));
    drop(store);
    Store::open(&folder, 1).unwrap();
}

#[tokio::test]
async fn a_hard_link_into_a_lower_layer_is_refused_with_its_reason() {
    let (fake, place) = (Fake::start().await, Place::new());
    let low = one("low", 1);
    let top = tar_of(|b| raw(b, "link", EntryType::Link, "low", b""));
    let wanted = request(&fake.name("app"), image_of(&fake, &[&low, &top]));
    let failure = place.refused(wanted, Keys(None), Code::ImageLayerUnsafe).await;
    assert!(failure.to_string().contains("not in the same layer"), "{failure}");
}

#[tokio::test]
async fn sixty_five_thousand_layers_are_refused_before_any_is_asked_for() {
    let (fake, place) = (Fake::start().await, Place::new());
    let tar = one("x", 1);
    let mut image = Builder::new(&fake);
    for _ in 0..129 {
        image.layer(OCI, tar.clone(), &tar);
    }
    place.refused(request(&fake.name("app"), image.push()), Keys(None), Code::ImageManifestInvalid).await;
    while image.layers.len() < 65_000 {
        image.layers.push(image.layers[0].clone());
    }
    let refused = place.pull(request(&fake.name("app"), image.push())).await.unwrap_err();
    assert!(
        matches!(refused.code, Code::ImageManifestInvalid | Code::ImageTooLarge | Code::ImageRegistryAnswer),
        "{refused}"
    );
    assert_eq!(fetched(&fake, &tar), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_layers_of_every_kind() {
    let (fake, place) = (Fake::start().await, Place::new());
    let mut image = Builder::new(&fake);
    for i in 0..100 {
        let tar = one(&format!("f{i}"), 10_000 + i);
        match i % 4 {
            0 => image.layer(OCI, tar.clone(), &tar),
            1 => image.layer(&format!("{OCI}+gzip"), gzip(&tar), &tar),
            2 => image.layer(&format!("{OCI}+zstd"), zstd::encode_all(&tar[..], 1).unwrap(), &tar),
            _ => drop(image.encrypted(&format!("{OCI}+gzip"), gzip(&tar), &tar)),
        }
    }
    let pulled = place.pull_with(request(&fake.name("app"), image.push()), Keys(Some(KEK))).await.unwrap();
    assert_eq!(pulled.layers.len(), 100);
    if let Some(rootfs) = Rootfs::mount(&pulled.layers) {
        assert_eq!(std::fs::read_dir(rootfs.path()).unwrap().count(), 100);
    }
}

#[tokio::test]
async fn a_layer_packed_with_a_large_window_is_taken_and_a_larger_one_is_not() {
    use std::io::Write;
    let (fake, place) = (Fake::start().await, Place::new());
    let tar = one("f", 40 << 20);
    let packed = |log: u32| {
        let mut e = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        e.window_log(log).unwrap();
        e.write_all(&tar).unwrap();
        e.finish().unwrap()
    };
    for (log, good) in [(25, true), (27, true), (28, false)] {
        let mut image = Builder::new(&fake);
        image.layer(&format!("{OCI}+zstd"), packed(log), &tar);
        let wanted = request(&fake.name("app"), image.push());
        if good {
            place.pull(wanted).await.unwrap();
            place.store.collect();
        } else {
            place.refused(wanted, Keys(None), Code::ImageLayerCorrupt).await;
        }
    }
}

#[tokio::test]
async fn a_layer_that_a_mirror_got_wrong_is_taken_from_the_next() {
    let (original, liar, honest, place) =
        (Fake::start().await, Fake::start().await, Fake::start().await, Place::new());
    // Large and hard to pack, so that the lie is met long before the blob's end.
    let noise: Vec<u8> = (0..3_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let tar = tar_of(|b| file(b, "noise", &noise));
    let packed = gzip(&tar);
    let mut image = Builder::new(&original);
    image.layer(&format!("{OCI}+gzip"), packed.clone(), &tar);
    let digest = image.push();
    let mut lie = packed.clone();
    let middle = lie.len() / 2;
    lie[middle] ^= 1;
    liar.blob(packed.clone());
    liar.fault(Digest::sha256(&packed), Fault::Body(lie), 99);
    honest.blob(packed.clone());
    original.fault(Digest::sha256(&packed), Fault::Status(404), 99);
    let conf = format!(
        "[[registry]]\nprefix='r.test/team'\nlocation='{}'\n\
         [[registry.mirror]]\nlocation='{}'\n[[registry.mirror]]\nlocation='{}'\n",
        original.address,
        liar.name("cache"),
        honest.name("cache")
    );
    let registry = run::client().with_registries(cocoon_image::registries::Registries::parse(&conf).unwrap());
    let pull = || place.store.pull(request("r.test/team/app:1", digest), &registry, &Keys(None), silent());
    let pulled = pull().await.unwrap();
    assert_eq!(std::fs::read(pulled.layers[0].path().join("noise")).unwrap(), noise);
    assert_eq!(fetched(&liar, &packed), 1, "the liar is not asked again");
    // Nobody honest is left: the refusal is the content's, and nothing stays.
    drop(pulled);
    place.store.collect();
    honest.fault(Digest::sha256(&packed), Fault::Body(vec![0; packed.len()]), 99);
    assert!(pull().await.is_err());
    assert_eq!(place.names(), Vec::<String>::new());
}
