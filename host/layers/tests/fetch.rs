//! The shared layers of a plan, as a pod's host has them made before the pod boots.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/registry.rs"]
mod registry;
mod support;

use cocoon_image::{Config, Digest, Manifest};
use cocoon_layers::{Known, Roots, fetch, plan_roots, silent};
use cocoon_plan::Plan;
use cocoon_registry::Auth;
use cocoon_stage::{Code, Failure};
use registry::{Registry, client};
use serde_json::{Value, json};
use support::*;

/// An image of these layers that is wholly in the registry; the digest that pins it.
fn publish(registry: &Registry, layers: &[Layer]) -> (Digest, Manifest, Config) {
    let diff_ids: Vec<Digest> = layers.iter().map(|l| l.diff_id).collect();
    for layer in layers {
        registry.put(&layer.descriptor.digest, layer.blob.clone());
    }
    let platform = (cocoon_image::Platform::host().architecture, "linux");
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    let config = json!({"architecture": platform.0, "os": platform.1, "rootfs": rootfs}).to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": layers.iter().map(|l| l.descriptor.clone()).collect::<Vec<_>>(),
    })
    .to_string();
    registry.put(&Digest::sha256(config.as_bytes()), config.clone().into());
    let digest = Digest::sha256(manifest.as_bytes());
    registry.put(&digest, manifest.clone().into());
    (digest, Manifest::parse(manifest.as_bytes()).unwrap(), Config::parse(config.as_bytes()).unwrap())
}

/// What an owner pins.
async fn roots(registry: &Registry, manifest: &Manifest, config: &Config) -> Vec<Known> {
    let folder = tempfile::tempdir().unwrap();
    let roots = Roots::open(folder.path()).unwrap();
    let reference = registry.reference();
    plan_roots(&roots, None, &client(), &reference, manifest, config, silent()).await.unwrap().layers
}

fn container(name: &str, registry: &Registry, digest: &Digest, layers: Option<&[Known]>) -> Value {
    let one = |k: &Known| json!({"diff_id": k.diff_id, "root": hex::encode(k.root), "blocks": k.blocks});
    let mut image = json!({"reference": format!("{}/image", registry.address), "digest": digest});
    if let Some(layers) = layers {
        image["layers"] = layers.iter().map(one).collect();
    }
    json!({
        "name": name, "image": image, "args": ["/x"], "cwd": "/", "no_new_privileges": true,
        "seccomp": "runtime-default", "logs": true, "restart": "never", "stop_signal": 15,
    })
}

fn plan(containers: &[Value]) -> Plan {
    let plan = json!({"version": 1, "name": "pod", "containers": containers});
    Plan::parse(plan.to_string().as_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_s_layers_are_made_once_and_found_again() {
    let registry = Registry::start().await;
    let (one, two, three) = (layer(1, 300_000), layer(2, 50_000), layer(3, 9_000));
    let (web, web_manifest, web_config) = publish(&registry, &[one.clone(), two.clone()]);
    let (db, db_manifest, db_config) = publish(&registry, &[one.clone(), three.clone()]);
    let (plain, _, _) = publish(&registry, &[layer(4, 10)]);
    let web_roots = roots(&registry, &web_manifest, &web_config).await;
    let db_roots = roots(&registry, &db_manifest, &db_config).await;
    let plan = plan(&[
        container("web", &registry, &web, Some(&web_roots)),
        container("guest-pulled", &registry, &plain, None),
        container("db", &registry, &db, Some(&db_roots)),
        container("web-2", &registry, &web, Some(&web_roots)),
    ]);
    let node = tempfile::tempdir().unwrap();
    let before = registry.requests();
    let owner = [&one, &two, &three].map(|layer| registry.asked_for(&layer.descriptor.digest));

    // Several pods of this plan at once, each with the cache open for itself.
    let pods = (0..6).map(|_| {
        let (cache, plan) = (open(node.path()), plan.clone());
        tokio::spawn(async move { fetch(&cache, &plan, Auth::anonymous(), silent()).await.unwrap() })
    });
    let mut pods_leases = Vec::new();
    for pod in pods.collect::<Vec<_>>() {
        pods_leases.push(pod.await.unwrap());
    }
    let wanted = [web_roots[0].root, web_roots[1].root, db_roots[1].root];
    for leases in &pods_leases {
        assert_eq!(leases.iter().map(|l| l.root).collect::<Vec<_>>(), wanted);
        assert!(leases.iter().all(|l| l.path.is_file() && l.serial().len() == 20));
    }
    assert_eq!(names(node.path(), "layers").len(), 3);
    // Each of three blobs once more than when the owner computed its root.
    let blobs = |layer: &Layer| registry.asked_for(&layer.descriptor.digest);
    assert_eq!([&one, &two, &three].map(blobs), [owner[0] + 1, owner[1] + 1, owner[2] + 1]);
    drop(pods_leases);
    assert_tidy(node.path());

    // All there: nobody is asked.
    let before_again = registry.requests();
    assert!(before_again > before);
    let again = fetch(&open(node.path()), &plan, Auth::anonymous(), silent()).await.unwrap();
    assert_eq!((again.len(), registry.requests()), (3, before_again));
    // Without shared layers there is nothing to do.
    let none = self::plan(&[container("guest-pulled", &registry, &plain, None)]);
    assert!(fetch(&open(node.path()), &none, Auth::anonymous(), silent()).await.unwrap().is_empty());
    assert_eq!(registry.requests(), before_again);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_plan_does_not_say_is_refused_by_its_code() {
    let registry = Registry::start().await;
    let (one, two) = (layer(1, 300_000), layer(2, 50_000));
    let (digest, manifest, config) = publish(&registry, &[one.clone(), two.clone()]);
    let good = roots(&registry, &manifest, &config).await;
    let node = tempfile::tempdir().unwrap();
    let run = async |layers: &[Known]| -> Failure {
        let plan = plan(&[container("web", &registry, &digest, Some(layers))]);
        let failure = fetch(&open(node.path()), &plan, Auth::anonymous(), silent()).await.unwrap_err();
        assert_tidy(node.path());
        failure
    };
    let mut wrong = good.clone();
    wrong[1].root[0] ^= 1;
    let failure = run(&wrong).await;
    assert_eq!(failure.code, Code::ImageCacheFailed, "{failure:?}");
    assert!(failure.reason.contains("but the plan names"), "{}", failure.reason);
    assert!(!names(node.path(), "layers").contains(&hex::encode(wrong[1].root)));

    let mut wrong = good.clone();
    wrong[0].blocks += 1;
    assert_eq!(run(&wrong).await.code, Code::ImageCacheFailed);
    let mut wrong = good.clone();
    wrong[0].diff_id = Digest::sha256(b"another");
    wrong[0].root = [7; 32];
    assert_eq!(run(&wrong).await.code, Code::ImageManifestInvalid);

    // A registry that lies about the manifest, or has lost it.
    let other = tempfile::tempdir().unwrap();
    registry.put(&digest, b"{}".to_vec());
    let plan = plan(&[container("web", &registry, &digest, Some(&good))]);
    let lied = fetch(&open(other.path()), &plan, Auth::anonymous(), silent()).await.unwrap_err();
    assert_ne!(lied.code, Code::Internal, "{lied:?}");
    registry.remove(&digest);
    let lost = fetch(&open(other.path()), &plan, Auth::anonymous(), silent()).await.unwrap_err();
    assert_eq!(lost.code, Code::ImageNotFound, "{lost:?}");
    assert_eq!(names(other.path(), "layers"), [""; 0]);
    assert_tidy(other.path());
}
