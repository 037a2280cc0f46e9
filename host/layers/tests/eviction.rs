//! Room: limits, leases, a full disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::process::Command;
use std::time::Duration;

use cocoon_layers::{Cache, Error};
use cocoon_stage::{Code, Failure};
use support::*;

/// Three of these fit, with their trees, four do not.
const BYTES: usize = 1 << 20;
const TIGHT: u64 = 3 * (1 << 20) + (1 << 19);

async fn pause() {
    tokio::time::sleep(Duration::from_millis(15)).await;
}

#[tokio::test]
async fn the_longest_unused_goes_first_and_what_is_in_use_never() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), TIGHT).unwrap();
    let layers: Vec<Layer> = (1..=5).map(|seed| layer(seed, BYTES)).collect();
    let mut roots = Vec::new();
    for layer in &layers[..3] {
        roots.push(layer.get(&cache).await.unwrap().root_hex());
        pause().await;
    }
    // The first is used again, so the second is the oldest.
    let first = layers[0].get(&cache).await.unwrap();
    assert!(!first.computed);
    pause().await;
    let fourth = layers[3].get(&cache).await.unwrap();
    let there = |root: &String| dir.path().join("layers").join(root).exists();
    assert_eq!([there(&roots[0]), there(&roots[1]), there(&roots[2])], [true, false, true]);
    let third = layers[2].get(&cache).await.unwrap();
    assert!(!third.computed);

    // All three are leased: nothing gives way, and nothing is left of the attempt.
    let usage = cache.usage().await.unwrap();
    assert_eq!((usage.layers, usage.in_use), (3, usage.bytes));
    let e = layers[4].get(&cache).await.unwrap_err();
    assert!(matches!(e, Error::Limit { .. }), "{e}");
    assert_eq!(Failure::from(e).code, Code::ImageCacheFailed);
    assert_tidy(dir.path());
    assert!(matches!(cache.remove(first.root).await, Err(Error::InUse(_))));
    assert_eq!(cache.prune(0).await.unwrap(), [""; 0]);

    // A lease of another Cache, as of another process, counts as well.
    let other = layers[0].get(&Cache::open(dir.path(), TIGHT).unwrap()).await.unwrap();
    drop(first);
    assert!(matches!(cache.remove(other.root).await, Err(Error::InUse(_))));
    drop(fourth);
    let fifth = layers[4].get(&cache).await.unwrap();
    assert!(other.path.exists() && third.path.exists() && fifth.path.exists());
    drop((other, third, fifth));
    assert_eq!(cache.prune(0).await.unwrap().len(), 3);
    assert_eq!(names(dir.path(), "index"), [""; 0]);
}

#[tokio::test]
async fn a_layer_larger_than_the_cache_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), 64 << 10).unwrap();
    let e = layer(1, BYTES).get(&cache).await.unwrap_err();
    assert_eq!(Failure::from(e).code, Code::ImageCacheFailed);
    assert_eq!(names(dir.path(), "layers").len(), 0);
    assert_tidy(dir.path());
}

#[tokio::test]
async fn what_cannot_fit_removes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), TIGHT).unwrap();
    let used = layer(1, BYTES).get(&cache).await.unwrap();
    layer(2, BYTES).get(&cache).await.unwrap();
    // Two and a half beside one in use that fits with two.
    let large = layer(3, 5 * BYTES / 2 + (1 << 18));
    let source = large.source();
    let e = cache.layer(&large.wanted(), &source).await.unwrap_err();
    assert!(matches!(e, Error::Limit { .. }), "{e}");
    assert_eq!(cache.list().await.unwrap().len(), 2, "the one that nobody uses is still there");
    assert_eq!(source.opened.load(std::sync::atomic::Ordering::SeqCst), 0, "nothing was fetched");
    drop(used);
    assert!(large.get(&cache).await.unwrap().computed);
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_in_the_making_count() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), TIGHT).unwrap();
    // Two that fit each, not both; the first goes slowly.
    let (one, two) = (layer(1, 2 * BYTES), layer(2, 2 * BYTES));
    let slow = Memory { pace: Duration::from_millis(15), ..one.source() };
    let making = tokio::spawn({
        let (cache, wanted) = (cache.clone(), one.wanted());
        async move { cache.layer(&wanted, &slow).await }
    });
    // Until it has more than the other would leave it.
    let claimed = || {
        let path = names(dir.path(), "locks").first().map(|name| dir.path().join("locks").join(name));
        path.and_then(|path| path.metadata().ok()).map_or(0, |m| m.len())
    };
    while claimed() < TIGHT - 2 * BYTES as u64 {
        assert!(!making.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(cache.list().await.unwrap().len(), 0, "it is not done");
    // Another process's Cache, as far as locks can tell.
    let e = two.get(&Cache::open(dir.path(), TIGHT).unwrap()).await.unwrap_err();
    assert!(matches!(e, Error::Limit { .. }), "{e}");
    let one = making.await.unwrap().unwrap();
    drop(one);
    assert!(two.get(&cache).await.unwrap().computed);
    assert_eq!(cache.list().await.unwrap().len(), 1);
    assert_tidy(dir.path());
}

/// A small file system in memory.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Option<Tmpfs> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=700");
        let done =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).output();
        if done.is_ok_and(|o| o.status.success()) { Some(Tmpfs(dir)) } else { None }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_a_coded_failure_and_takes_what_nobody_uses_first() {
    let Some(disk) = Tmpfs::mount("5m") else { return println!("skipped: a tmpfs cannot be mounted") };
    let path = disk.0.path();
    // The limit knows nothing of the disk.
    let cache = open(path);
    let layers: Vec<Layer> = (1..=4).map(|seed| layer(seed, 3 * BYTES / 2)).collect();
    for layer in &layers[..3] {
        layer.get(&cache).await.unwrap();
        pause().await;
    }
    // Free layers give way.
    let held = layers[3].get(&cache).await.unwrap();
    assert!(held.computed && held.path.exists());
    // Nothing does: the disk is full of something else.
    cache.prune(0).await.unwrap();
    std::fs::write(path.join("other"), vec![0; 3 << 20]).unwrap();
    let e = layers[0].get(&cache).await.unwrap_err();
    assert!(matches!(e, Error::Full(_)), "{e}");
    assert_eq!(Failure::from(e).code, Code::ImageCacheFailed);
    assert_eq!(names(path, "layers"), [held.root_hex()]);
    assert_tidy(path);
    std::fs::remove_file(path.join("other")).unwrap();
    layers[0].get(&cache).await.unwrap();
}
