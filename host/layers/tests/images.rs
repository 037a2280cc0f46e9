//! Whole images from a registry: what a pod is prepared with, and the roots that an owner pins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/registry.rs"]
mod registry;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use cocoon_image::Digest;
use cocoon_layers::{
    BLOCK, Error, OnProgress, Pinned, Progress, Roots, SHARED_ENCRYPTED, Wanted, plan_roots, prepare,
};
use cocoon_stage::{Code, Failure};
use registry::{Registry, client};
use support::*;

fn silent() -> OnProgress {
    Arc::new(|_| {})
}

fn pinned(known: &[cocoon_layers::Known]) -> Vec<Wanted> {
    let one = |k: &cocoon_layers::Known| Wanted {
        diff_id: k.diff_id,
        pinned: Some(Pinned { root: k.root, blocks: k.blocks }),
    };
    known.iter().map(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roots_that_an_owner_plans_are_those_that_any_node_makes() {
    let (owner, node, far) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let registry = Registry::start().await;
    // The last layer is there twice, as the empty one often is.
    let (one, two) = (layer(1, 300_000), layer(2, 700_000));
    let (manifest, config) = registry.image(&[one.clone(), two.clone(), two.clone()]);
    let (roots, cache) = (Roots::open(owner.path()).unwrap(), open(node.path()));
    let (client, reference) = (client(), registry.reference());

    // Owner and node on one machine: one pass for both.
    let planned =
        plan_roots(&roots, Some(&cache), &client, &reference, &manifest, &config, silent()).await.unwrap();
    assert_eq!((planned.layers.len(), planned.leases.len(), registry.requests()), (3, 2, 2));
    assert_eq!(planned.layers[1], planned.layers[2]);
    let wanted = pinned(&planned.layers);
    let leases = prepare(&cache, &client, &reference, &manifest, &config, &wanted, silent()).await.unwrap();
    assert_eq!((leases.len(), registry.requests()), (2, 2), "all are there, each is attached once");
    assert_eq!(leases[1].root, planned.layers[1].root);

    // Records are the owner's word from now on; the node's cache is looked at for nothing but leases.
    let again = plan_roots(&roots, None, &client, &reference, &manifest, &config, silent()).await.unwrap();
    assert_eq!((&again.layers, registry.requests()), (&planned.layers, 2));

    // An owner elsewhere, without a node, computes the same.
    let elsewhere = Roots::open(&far.path().join("owner")).unwrap();
    let same = plan_roots(&elsewhere, None, &client, &reference, &manifest, &config, silent()).await.unwrap();
    assert_eq!((&same.layers, same.leases.len(), registry.requests()), (&planned.layers, 0, 4));
    assert_eq!(names(&far.path().join("owner"), "tmp"), [""; 0]);

    // And a node elsewhere makes the same.
    let (bytes, ready) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, counted_ready) = (bytes.clone(), ready.clone());
    let progress: OnProgress = Arc::new(move |p| match p {
        Progress::Downloaded { bytes } => drop(counted.fetch_add(bytes, Ordering::SeqCst)),
        Progress::Ready { .. } => drop(counted_ready.fetch_add(1, Ordering::SeqCst)),
    });
    let other = open(&far.path().join("node"));
    let made = prepare(&other, &client, &reference, &manifest, &config, &wanted, progress).await.unwrap();
    assert!(made.iter().all(|l| l.computed) && made.len() == 2);
    assert_eq!(bytes.load(Ordering::SeqCst), one.descriptor.size + two.descriptor.size);
    assert_eq!(ready.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_takes_no_nodes_word_for_a_root() {
    let (owner, node) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let registry = Registry::start().await;
    let (good, evil) = (layer(1, 100_000), layer(66, 100_000));
    let (manifest, config) = registry.image(std::slice::from_ref(&good));
    let cache = open(node.path());
    // The node says that the layer is another one.
    let planted = evil.get(&cache).await.unwrap();
    let entry = |of: &Layer| node.path().join("index").join(format!("diff-{}", of.diff_id).replace(':', "-"));
    let lie = std::fs::read_to_string(entry(&evil)).unwrap();
    let (from, to) = (evil.diff_id.to_string(), good.diff_id.to_string());
    std::fs::write(
        entry(&good),
        lie.replace(&from, &to).replace(&from.replace(':', "-"), &to.replace(':', "-")),
    )
    .unwrap();
    assert_eq!(good.get(&cache).await.unwrap().root, planted.root, "the lie is a good one");

    let roots = Roots::open(owner.path()).unwrap();
    let planned =
        plan_roots(&roots, Some(&cache), &client(), &registry.reference(), &manifest, &config, silent())
            .await;
    let planned = planned.unwrap();
    assert_ne!(planned.layers[0].root, planted.root);
    // With a root of the owner's the node's lie has no hold either.
    let wanted = pinned(&planned.layers);
    let (client, reference) = (client(), registry.reference());
    let leases = prepare(&cache, &client, &reference, &manifest, &config, &wanted, silent()).await.unwrap();
    assert_eq!(leases[0].root, planned.layers[0].root);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_registry_is_refused() {
    let node = tempfile::tempdir().unwrap();
    let (registry, cache) = (Registry::start().await, open(node.path()));
    let (one, two) = (layer(1, 100_000), layer(2, 100_000));
    let (manifest, config) = registry.image(&[one.clone(), two.clone()]);
    let (client, reference) = (client(), registry.reference());
    let wanted = [one.wanted(), two.wanted()];
    let get = async || prepare(&cache, &client, &reference, &manifest, &config, &wanted, silent()).await;
    let code = |r: Result<_, Error>| r.map(|_: Vec<_>| ()).map_err(|e| Failure::from(e).code).unwrap_err();

    let mut blob = two.blob.clone();
    *blob.last_mut().unwrap() ^= 1;
    registry.put(&two.descriptor.digest, blob);
    assert_eq!(code(get().await), Code::ImageDigestMismatch);
    registry.put(&two.descriptor.digest, two.blob[..1000].to_vec());
    assert_eq!(code(get().await), Code::ImageSizeMismatch);
    registry.remove(&two.descriptor.digest);
    assert_eq!(code(get().await), Code::ImageNotFound);
    // The good one was kept, nothing of the bad one was.
    assert_eq!(names(node.path(), "layers").len(), 1);
    assert_tidy(node.path());

    let gone = cocoon_image::Reference::parse("127.0.0.1:1/image").unwrap();
    let result = prepare(&cache, &client, &gone, &manifest, &config, &wanted[1..], silent()).await;
    assert_eq!(code(result), Code::ImageCacheFailed);
    let absent = Wanted { diff_id: Digest::sha256(b"x"), pinned: None };
    let result = prepare(&cache, &client, &reference, &manifest, &config, &[absent], silent()).await;
    assert_eq!(code(result), Code::ImageManifestInvalid);
    registry.put(&two.descriptor.digest, two.blob.clone());
    assert_eq!(get().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_node_a_layer_has_a_limit_too() {
    let owner = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let (manifest, config) = registry.image(&[layer(1, 2 << 20)]);
    let (client, reference) = (client(), registry.reference());
    let roots = Roots::open(owner.path()).unwrap();
    let tight = roots.clone().with_limit(1 << 20);
    let result = plan_roots(&tight, None, &client, &reference, &manifest, &config, silent()).await;
    assert_eq!(Failure::from(result.unwrap_err()).code, Code::ImageCacheFailed);
    assert_eq!(names(owner.path(), "tmp"), [""; 0]);
    plan_roots(&roots, None, &client, &reference, &manifest, &config, silent()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_layers_have_roots_over_their_ciphertext() {
    let (owner, node) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let registry = Registry::start().await;
    let secret = |seed| {
        let blob = noise(seed, 50 * usize::try_from(BLOCK).unwrap());
        Layer { diff_id: layer(1, 10).diff_id, descriptor: descriptor(SHARED_ENCRYPTED, &blob), blob }
    };
    // The same plaintext under two keys.
    let (manifest, config) = registry.image(&[secret(1), secret(2)]);
    let (roots, cache) = (Roots::open(owner.path()).unwrap(), open(node.path()));
    let (client, reference) = (client(), registry.reference());
    let planned = plan_roots(&roots, None, &client, &reference, &manifest, &config, silent()).await.unwrap();
    assert_eq!(planned.layers.iter().map(|l| l.blocks).collect::<Vec<_>>(), [50, 50]);
    let wanted = pinned(&planned.layers);
    let leases = prepare(&cache, &client, &reference, &manifest, &config, &wanted, silent()).await.unwrap();
    assert_eq!(
        leases.iter().map(|l| l.root).collect::<Vec<_>>(),
        [planned.layers[0].root, planned.layers[1].root]
    );
}
