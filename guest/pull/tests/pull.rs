//! Pulling from a registry on loopback that can lie.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

#[path = "../../../net/registry/tests/fake/mod.rs"]
mod fake;
mod image;
mod run;

use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex};

use cocoon_image::{Digest, Limits, Platform, Reference};
use cocoon_pull::{OnProgress, Progress, PullRequest};
use cocoon_signature::KeyPair;
use cocoon_signature::cosign::{Payload, sign, signature_manifest, signature_tag};
use cocoon_stage::Code;
use fake::{Fake, Fault};
use image::{Builder, INDEX, KEK, MANIFEST, OCI, file, gzip, raw, tar_of};
use run::{Keys, Place, Rootfs, Signed, client, patient, request};
use tar::EntryType;

#[tokio::test]
async fn layers_of_every_kind_land_on_top_of_each_other() {
    let (fake, place) = (Fake::start().await, Place::new());
    let gz = format!("{OCI}+gzip");
    let zs = format!("{OCI}+zstd");
    let mut image = Builder::new(&fake);
    let one = tar_of(|b| {
        file(b, "etc/one", b"1");
        file(b, "etc/gone", b"1");
        raw(b, "bin", EntryType::Symlink, "/usr/bin", b"");
    });
    image.layer(OCI, one.clone(), &one);
    let two = tar_of(|b| {
        file(b, "usr/bin/tool", &vec![7; 3 << 20]);
        file(b, "etc/.wh.gone", b"");
    });
    image.layer(&gz, gzip(&two), &two);
    let three = tar_of(|b| file(b, "usr/bin/late", b"3"));
    image.layer(&zs, zstd::encode_all(&three[..], 1).unwrap(), &three);
    for i in 0..6 {
        let secret = tar_of(|b| file(b, &format!("secret{i}"), &vec![b's'; 100_000]));
        image.encrypted(&gz, gzip(&secret), &secret);
    }
    let digest = image.push();

    let seen = Arc::new(Mutex::new(Vec::new()));
    let hear: OnProgress = Arc::new({
        let seen = seen.clone();
        move |p| seen.lock().unwrap().push(p)
    });
    let pulled = place
        .store
        .pull(request(&fake.name("app"), digest), &client(), &Keys(Some(KEK)), hear)
        .await
        .unwrap();
    assert_eq!((pulled.layers.len(), pulled.manifest_digest), (9, digest));
    assert_eq!(pulled.config.config.cmd, ["/bin/tool"]);
    if let Some(rootfs) = Rootfs::mount(&pulled.layers) {
        assert_eq!(std::fs::read(rootfs.at("etc/one")).unwrap(), b"1");
        assert!(!rootfs.at("etc/gone").exists());
        assert_eq!(std::fs::metadata(rootfs.at("usr/bin/tool")).unwrap().size(), 3 << 20);
        assert_eq!(std::fs::read(rootfs.at("usr/bin/late")).unwrap(), b"3");
        assert_eq!(std::fs::read(rootfs.at("secret5")).unwrap().len(), 100_000);
    }
    assert_eq!(place.names().len(), 9, "no partial directory");
    let seen = seen.lock().unwrap();
    let Progress::Started { layers: 9, bytes } = seen[0] else { panic!("{:?}", seen[0]) };
    let downloaded: u64 =
        seen.iter().map(|p| if let Progress::Downloaded { bytes } = p { *bytes } else { 0 }).sum();
    assert_eq!(downloaded, bytes);
    let done: Vec<_> = seen.iter().filter(|p| matches!(p, Progress::LayerDone { .. })).collect();
    assert_eq!(done.len(), 9);
}

#[tokio::test]
async fn the_index_leads_to_this_platforms_image() {
    let (fake, place) = (Fake::start().await, Place::new());
    let mut image = Builder::new(&fake);
    let tar = tar_of(|b| file(b, "f", b"x"));
    image.layer(OCI, tar.clone(), &tar);
    let digest = image.push();
    let size = image.manifest().len();
    let index = |arch: &str| {
        let entry = serde_json::json!({"mediaType": MANIFEST, "digest": digest, "size": size,
            "platform": {"os": "linux", "architecture": arch}});
        fake.manifest("i", INDEX, serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string())
    };
    place.refused(request(&fake.name("app"), index("arm64")), Keys(None), Code::ImageManifestInvalid).await;
    // The index says arm64, the image's own config says amd64.
    let lying =
        PullRequest { platform: Platform::linux("arm64"), ..request(&fake.name("app"), index("arm64")) };
    place.refused(lying, Keys(None), Code::ImageManifestInvalid).await;
    let pulled = place.pull(request(&fake.name("app"), index("amd64"))).await.unwrap();
    assert_eq!(pulled.manifest_digest, digest);
}

#[tokio::test]
async fn lies_about_digests_and_sizes_are_refused() {
    let (fake, place) = (Fake::start().await, Place::new());
    let tar = tar_of(|b| file(b, "f", &vec![1; 200_000]));
    let gz = format!("{OCI}+gzip");

    // Another manifest than the pinned one.
    let other = Digest::sha256(b"pinned");
    fake.manifest("x", MANIFEST, "{}");
    place.refused(request(&fake.name("app"), other), Keys(None), Code::ImageNotFound).await;
    let mut image = Builder::new(&fake);
    image.layer(&gz, gzip(&tar), &tar);
    let good = image.push();
    fake.fault("manifests", Fault::Body(b"{\"schemaVersion\":2}".to_vec()), 1);
    place.refused(request(&fake.name("app"), good), Keys(None), Code::ImageDigestMismatch).await;

    // The blob is another than the manifest names: same length, then shorter, then longer.
    let blob = gzip(&tar);
    let name = Digest::sha256(&blob);
    for (body, code) in [
        (image::altered(&blob), Code::ImageDigestMismatch),
        (blob[..blob.len() - 1].to_vec(), Code::ImageSizeMismatch),
        ([blob.clone(), vec![0]].concat(), Code::ImageSizeMismatch),
    ] {
        fake.fault(name, Fault::Body(body), 9);
        place.refused(request(&fake.name("app"), good), Keys(None), code).await;
        fake.clear();
    }

    // The manifest lies about a size, the config about a diff id, the counts differ.
    let mut image = Builder::new(&fake);
    image.layer(&gz, gzip(&tar), &tar);
    image.layers[0]["size"] = (blob.len() + 1).into();
    place.refused(request(&fake.name("app"), image.push()), Keys(None), Code::ImageSizeMismatch).await;
    let mut image = Builder::new(&fake);
    image.layer(&gz, gzip(&tar), b"another tar");
    place.refused(request(&fake.name("app"), image.push()), Keys(None), Code::ImageDigestMismatch).await;
    let mut image = Builder::new(&fake);
    image.layer(&gz, gzip(&tar), &tar);
    image.diff_ids.push(Digest::sha256(b""));
    place.refused(request(&fake.name("app"), image.push()), Keys(None), Code::ImageManifestInvalid).await;
    let mut image = Builder::new(&fake);
    image.layer(&gz, b"not gzip at all".to_vec(), b"");
    place.refused(request(&fake.name("app"), image.push()), Keys(None), Code::ImageLayerCorrupt).await;
    let mut image = Builder::new(&fake);
    image.layer("application/vnd.oci.image.layer.nondistributable.v1.tar", tar.clone(), &tar);
    place.refused(request(&fake.name("app"), image.push()), Keys(None), Code::ImageManifestInvalid).await;
}

#[tokio::test]
async fn an_unreliable_registry_is_survived_or_named() {
    let (fake, place) = (Fake::start().await, Place::new());
    let tar = tar_of(|b| file(b, "f", &(0..500_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()));
    let mut image = Builder::new(&fake);
    image.layer(OCI, tar.clone(), &tar);
    let digest = image.push();
    let layer = Digest::sha256(&tar);
    for (fault, code) in [
        (Fault::Stall(1000), Code::ImageRegistryStalled),
        (Fault::Cut(1000), Code::ImageRegistryStalled),
        (Fault::Html, Code::ImageRegistryAnswer),
        (Fault::Status(500), Code::ImageRegistryAnswer),
        (Fault::Status(403), Code::ImageUnauthorized),
        (Fault::Status(404), Code::ImageNotFound),
    ] {
        fake.fault(layer, fault, 99);
        place.refused(request(&fake.name("app"), digest), Keys(None), code).await;
        fake.clear();
    }
    fake.fault(layer, Fault::Cut(700_000), 1);
    fake.fault(layer, Fault::Status(503), 1);
    fake.fault(layer, Fault::Stall(900_000), 1);
    place.pull(request(&fake.name("app"), digest)).await.unwrap();
    assert!(fake.log().iter().any(|l| l.contains("bytes=700000-")));
}

#[tokio::test]
async fn hostile_layers_are_refused() {
    let (fake, place) = (Fake::start().await, Place::new());
    let canary = place.dir.path().parent().unwrap().join("cocoon-pull-canary");
    assert!(!canary.exists());
    for tar in [
        tar_of(|b| raw(b, "../../cocoon-pull-canary", EntryType::Regular, "", b"bad")),
        tar_of(|b| raw(b, "h", EntryType::Link, "../../etc/passwd", b"")),
        tar_of(|b| raw(b, "dev/mem", EntryType::Char, "", b"")),
        tar_of(|b| raw(b, "dev/sda", EntryType::Block, "", b"")),
    ] {
        let mut image = Builder::new(&fake);
        image.layer(OCI, tar.clone(), &tar);
        place.refused(request(&fake.name("app"), image.push()), Keys(None), Code::ImageLayerUnsafe).await;
    }
    // An absolute link that leads out leads into the root file system instead.
    let tar = tar_of(|b| {
        raw(b, "out", EntryType::Symlink, place.dir.path().parent().unwrap().to_str().unwrap(), b"");
        raw(b, "tmp/", EntryType::Directory, "", b"");
        file(b, "out/cocoon-pull-canary", b"bad");
    });
    let mut image = Builder::new(&fake);
    image.layer(OCI, tar.clone(), &tar);
    let _ = place.pull(request(&fake.name("app"), image.push())).await;
    assert!(!canary.exists());
}

#[tokio::test]
async fn a_zero_bomb_is_refused_early() {
    let (fake, place) = (Fake::start().await, Place::new());
    let limits = Limits { total_bytes: 64 << 20, ..Limits::default() };
    // 10 GiB by its header; only the first 256 MiB are there, to show that they are not even read.
    let bomb = image::zero_bomb(10 << 30, 256 << 20);
    assert!(bomb.len() < 1 << 20);
    let mut image = Builder::new(&fake);
    image.layer(&format!("{OCI}+zstd"), bomb, b"");
    let bombed = PullRequest { limits, ..request(&fake.name("app"), image.push()) };
    place.refused(bombed, Keys(None), Code::ImageTooLarge).await;
    // Zeros after the end of the archive.
    let trailing = zstd::encode_all(std::io::Read::take(std::io::repeat(0), 256 << 20), 1).unwrap();
    let mut image = Builder::new(&fake);
    image.layer(&format!("{OCI}+zstd"), trailing, b"");
    let bombed = PullRequest { limits, ..request(&fake.name("app"), image.push()) };
    place.refused(bombed, Keys(None), Code::ImageTooLarge).await;
    // An honest image that is just too large, and one whose layers are so even packed.
    let tar = tar_of(|b| file(b, "f", &vec![1; 100_000]));
    let mut image = Builder::new(&fake);
    image.layer(&format!("{OCI}+gzip"), gzip(&tar), &tar);
    let digest = image.push();
    for total_bytes in [50_000, 100] {
        let small = Limits { total_bytes, ..Limits::default() };
        let tight = PullRequest { limits: small, ..request(&fake.name("app"), digest) };
        place.refused(tight, Keys(None), Code::ImageTooLarge).await;
    }
}

#[tokio::test]
async fn encrypted_layers_need_their_key() {
    let (fake, place) = (Fake::start().await, Place::new());
    let gz = format!("{OCI}+gzip");
    let tar = tar_of(|b| file(b, "f", &vec![1; 300_000]));
    let mut image = Builder::new(&fake);
    image.encrypted(&gz, gzip(&tar), &tar);
    let digest = image.push();
    place.refused(request(&fake.name("app"), digest), Keys(None), Code::ImageKeyUnavailable).await;
    place.refused(request(&fake.name("app"), digest), Keys(Some([0; 32])), Code::ImageUndecryptable).await;
    // Keys are asked for before any layer is.
    assert!(!fake.log().iter().any(|l| l.contains(&image.layers[0]["digest"].as_str().unwrap().to_owned())));

    // A ciphertext altered together with the manifest that names it: the HMAC sees it, for both kinds of damage.
    for kind in [OCI, &gz] {
        let plain = if kind == OCI { tar.clone() } else { gzip(&tar) };
        let mut image = Builder::new(&fake);
        let cipher = image.encrypted(kind, plain, &tar);
        let altered = image::altered(&cipher);
        image.layers[0]["digest"] = fake.blob(altered).to_string().into();
        place
            .refused(request(&fake.name("app"), image.push()), Keys(Some(KEK)), Code::ImageUndecryptable)
            .await;
    }
    // Annotations gone.
    let mut image = Builder::new(&fake);
    image.encrypted(&gz, gzip(&tar), &tar);
    image.layers[0].as_object_mut().unwrap().remove("annotations");
    place.refused(request(&fake.name("app"), image.push()), Keys(Some(KEK)), Code::ImageUndecryptable).await;
    place.pull(request(&fake.name("app"), digest)).await.unwrap();
}

#[tokio::test]
async fn a_required_signature_is_decided_before_anything_is_downloaded() {
    let (fake, place) = (Fake::start().await, Place::new());
    let tar = tar_of(|b| file(b, "f", b"x"));
    let mut image = Builder::new(&fake);
    image.layer(OCI, tar.clone(), &tar);
    let digest = image.push();
    let (good, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let signed = |key: &KeyPair| PullRequest {
        gate: Signed::by(&key.public_pem),
        ..request(&fake.name("app"), digest)
    };
    let reference = Reference::parse(&fake.name("app")).unwrap();
    let publish = |key: &KeyPair, reference: &Reference, over: Digest| {
        let payload = Payload::new(reference, over).to_json();
        let signature = sign(&key.private_pem, &payload).unwrap();
        let (config, manifest) =
            signature_manifest(&[(b"{}".to_vec(), "AAAA".into()), (payload.clone(), signature)]);
        fake.blob(config);
        fake.blob(payload);
        fake.blob("{}");
        fake.manifest(&signature_tag(&digest), MANIFEST, manifest);
    };
    place.refused(signed(&good), Keys(None), Code::ImageSignatureMissing).await;
    publish(&other, &reference, digest);
    place.refused(signed(&good), Keys(None), Code::ImageSignatureInvalid).await;
    publish(&good, &reference, Digest::sha256(b"another image"));
    place.refused(signed(&good), Keys(None), Code::ImageSignatureInvalid).await;
    publish(&good, &Reference::parse(&fake.name("other")).unwrap(), digest);
    place.refused(signed(&good), Keys(None), Code::ImageSignatureInvalid).await;
    fake.manifest(&signature_tag(&digest), MANIFEST, "{}");
    place.refused(signed(&good), Keys(None), Code::ImageSignatureInvalid).await;
    let layer = Digest::sha256(&tar).to_string();
    assert!(!fake.log().iter().any(|l| l.contains(&layer)), "no layer was asked for");
    publish(&good, &reference, digest);
    place.pull(signed(&good)).await.unwrap();
}

#[tokio::test]
async fn a_cancelled_pull_leaves_nothing() {
    let (fake, place) = (Fake::start().await, Place::new());
    let tar = tar_of(|b| file(b, "f", &vec![1; 2 << 20]));
    let mut image = Builder::new(&fake);
    image.layer(OCI, tar.clone(), &tar);
    let digest = image.push();
    // The layer begins and then hangs for longer than the test lives.
    fake.fault(Digest::sha256(&tar), Fault::Stall(1 << 20), 99);
    let (some, mut began) = tokio::sync::mpsc::unbounded_channel();
    let hear: OnProgress = Arc::new(move |p| {
        let _ = some.send(p);
    });
    let cancelled = request(&fake.name("app"), digest);
    let store = place.store.clone();
    let task =
        tokio::spawn(async move { store.pull(cancelled, &patient(), &Keys(None), hear).await.map(|_| ()) });
    while !matches!(began.recv().await, Some(Progress::Downloaded { .. })) {}
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    // The unpacker lets go of its listener when it is done, and its directory goes before that.
    while began.recv().await.is_some() {}
    assert_eq!((place.names(), place.store.used_bytes()), (Vec::new(), 0));
}
