//! Images whose layers are encrypted as disks that nodes share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

mod images_support;
mod support;

use std::path::Path;

use cocoon_erofs::cipher::Xts;
use cocoon_erofs::derive_key;
use cocoon_image::encryption::{PrivateOptions, shared_packets, unwrap_key};
use cocoon_image::media_type::SHARED_ENCRYPTED;
use cocoon_image::{Descriptor, Digest};
use images_support::registry::Registry;
use images_support::{CONFIG, INDEX, LAYER, Layout, MANIFEST, has, key_pair, tool};
use serde_json::{Value, json};
use support::Home;

const KEY_ID: &str = "kbs:///default/image-key/app";
const TREASURE: &str = "the model weights, say";
const KEK: [u8; 32] = [7; 32];

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|w| w == text.as_bytes())
}

/// A tar with this file, and how long lines of it repeat.
fn tar(home: &Home, name: &str, line: &str) -> Vec<u8> {
    home.file(&format!("tree/{name}"), format!("{line}\n").repeat(500));
    let (tree, archive) = (home.path("tree").display().to_string(), home.path("tar").display().to_string());
    tool("tar", &["--mtime=@1", "--owner=0", "--group=0", "-C", &tree, "-cf", &archive, name]);
    std::fs::read(archive).unwrap()
}

fn gzip(home: &Home, content: &[u8]) -> Vec<u8> {
    home.file("zip", content);
    let path = home.path("zip").display().to_string();
    tool("gzip", &["-nf", &path]);
    std::fs::read(format!("{path}.gz")).unwrap()
}

/// An image with layers (media type, blob, tar), in a layout; gives its descriptor.
fn image(layout: &Layout, arch: &str, layers: &[(&str, &[u8], &[u8])]) -> Value {
    let ids: Vec<String> = layers.iter().map(|(_, _, tar)| Digest::sha256(tar).to_string()).collect();
    let config = json!({"zeta": 1, "architecture": arch, "os": "linux", "config": {"Cmd": ["/bin/true"], "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": ids}, "history": [{"created_by": "x", "empty_layer": true}], "alpha": []});
    let mut config = layout.put(CONFIG, config.to_string().as_bytes());
    // It would name what the layers are in the clear.
    config["data"] = "e30=".into();
    let layers: Vec<Value> = layers.iter().map(|(kind, blob, _)| layout.put(kind, blob)).collect();
    let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
        "annotations": {"org.example.kept": "yes"}});
    manifest["layers"][0]["annotations"] = json!({"containerd.io/uncompressed": ids[0]});
    let mut entry = layout.put(MANIFEST, manifest.to_string().as_bytes());
    entry["platform"] = json!({"os": "linux", "architecture": arch});
    entry
}

/// Two platforms, which share a layer; one has a layer twice.
fn source(home: &Home) -> (Layout, [String; 3]) {
    let layout = Layout::new(&home.path("source"));
    let tars = [tar(home, "treasure", TREASURE), tar(home, "other", "other"), tar(home, "arm", "arm")];
    let zipped = gzip(home, &tars[0]);
    let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let (shared, twice) = ((docker, &zipped[..], &tars[0][..]), (LAYER, &tars[1][..], &tars[1][..]));
    let entries = [
        image(&layout, "amd64", &[shared, twice, twice]),
        image(&layout, "arm64", &[shared, (LAYER, &tars[2], &tars[2])]),
    ];
    layout.tag("one", entries[0].clone());
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    layout.tag("v1", layout.put(INDEX, index.to_string().as_bytes()));
    (layout, tars.map(|tar| Digest::sha256(&tar).to_string()))
}

/// What a guest does with a layer: its blocks in the clear. Checks what the key is said to be for.
fn opened(layer: &Value, blob: &[u8]) -> Vec<u8> {
    let layer: Descriptor = serde_json::from_value(layer.clone()).unwrap();
    assert_eq!(layer.size, u64::try_from(blob.len()).unwrap());
    let packets = shared_packets(&layer).unwrap();
    assert_eq!((packets.len(), packets[0].kid.as_str()), (1, KEY_ID));
    let private = PrivateOptions::parse(&unwrap_key(&KEK, &packets[0]).unwrap()).unwrap();
    let mut blocks = blob.to_vec();
    Xts::new(&derive_key(&private.symkey)).decrypt_blocks(0, &mut blocks);
    assert_eq!(private.digest, Digest::sha256(&blocks).to_string());
    blocks
}

fn fsck(home: &Home, blocks: &[u8]) {
    if has("fsck.erofs") {
        let file = home.file("layer.erofs", blocks);
        tool("fsck.erofs", &[&file]);
    }
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    Layout::at(dir).files()
}

#[test]
fn an_index_becomes_encrypted_disks_in_a_registry() {
    if !has("docker-registry") {
        return;
    }
    let mut home = Home::new();
    let registry = Registry::start(&home);
    let (plain, clear) = source(&home);
    std::fs::create_dir(home.path("temporary")).unwrap();
    home.env("TMPDIR", &home.path("temporary").display().to_string());
    let (kek, sealed) = (home.file("kek", KEK), registry.name("sealed:v1"));
    let encrypt = ["image", "encrypt", "--layers", "shared", "--kek", &kek, "--key-id", KEY_ID, "--json"];
    let told = home.json(&[&encrypt[..], &[&plain.name("v1"), &sealed]].concat());
    assert_eq!((&told["images"], &told["recipients"]), (&json!(2), &json!(KEY_ID)));

    // Everything that reached the registry is ciphertext, or says nothing of the layers in the clear.
    for file in files(&registry.blobs) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!contains(&bytes, TREASURE), "{} is in the clear", file.display());
        assert!(
            clear.iter().all(|id| !contains(&bytes, id)),
            "{} names a layer in the clear",
            file.display()
        );
    }
    assert_eq!(files(&home.path("temporary")), Vec::<std::path::PathBuf>::new());

    let read = |digest: &Value| std::fs::read(registry.blob(digest.as_str().unwrap())).unwrap();
    let json_of = |digest: &Value| serde_json::from_slice::<Value>(&read(digest)).unwrap();
    let index = json_of(&told["digest"]);
    let (amd, arm) = (json_of(&index["manifests"][0]["digest"]), json_of(&index["manifests"][1]["digest"]));
    assert_eq!(amd["layers"][0], arm["layers"][0], "a layer that images share is encrypted once");
    assert_eq!(amd["layers"][1], amd["layers"][2]);
    for (manifest, was) in [(&amd, 0), (&arm, 1)] {
        assert_eq!(manifest["annotations"]["org.example.kept"], "yes");
        assert_eq!(manifest["config"].as_object().unwrap().len(), 3, "{}", manifest["config"]);
        let config = read(&manifest["config"]["digest"]);
        assert_eq!(manifest["config"]["size"], config.len());
        let layers = manifest["layers"].as_array().unwrap();
        for layer in layers {
            assert_eq!(layer["mediaType"], SHARED_ENCRYPTED);
            assert_eq!(layer["annotations"].as_object().unwrap().len(), 1, "{layer}");
            let blocks = opened(layer, &read(&layer["digest"]));
            fsck(&home, &blocks);
        }
        // The config is what it was, but for the diff ids: each is its layer's own digest.
        let old = plain.document("v1")["manifests"][was]["digest"].as_str().unwrap().to_owned();
        let old = plain.json(plain.json(&old)["config"]["digest"].as_str().unwrap());
        let mut expected = old.clone();
        expected["rootfs"]["diff_ids"] = layers.iter().map(|l| l["digest"].clone()).collect();
        assert_eq!(String::from_utf8(config).unwrap(), expected.to_string());
    }
    assert!(contains(&opened(&amd["layers"][0], &read(&amd["layers"][0]["digest"])), TREASURE));

    // Another encryption has nothing in common with it.
    let again = home.json(&[&encrypt[..], &[&plain.name("one"), &registry.name("again:v1")]].concat());
    assert_ne!(json_of(&again["digest"])["layers"][0]["digest"], amd["layers"][0]["digest"]);

    let seen = home.json(&["image", "inspect", "--json", &sealed]);
    let image = &seen["images"][0];
    assert_eq!((&image["shared_layers"], &image["guest_layers"]), (&json!(true), &json!(false)));
    let layer = &image["layers"][0];
    assert_eq!((&layer["encrypted"], &layer["form"]), (&json!(true), &json!("disk")));
    assert_eq!(layer["recipients"][0]["key_id"], KEY_ID);
    let shown = home.ok(&["image", "inspect", &sealed]);
    assert!(shown.contains("disk (EROFS), encrypted") && shown.contains("--layers shared"), "{shown}");
    let said = home.refused("USAGE-INVALID", &["image", "decrypt", &sealed, &registry.name("clear:v1")]);
    assert!(said.contains("original") && !registry.has_tag("clear", "v1"), "{said}");
}

#[test]
fn one_layer_is_encrypted_and_the_others_stay() {
    let home = Home::new();
    let (plain, clear) = source(&home);
    let (kek, target) = (home.file("kek", KEK), Layout::at(&home.path("target")));
    let encrypt =
        ["image", "encrypt", "--layers", "shared", "--kek", &kek, "--key-id", KEY_ID, "--layer", "0"];
    let told = home.ok(&[&encrypt[..], &[&plain.name("one"), &target.name("v1")]].concat());
    assert!(told.contains("stay in the clear"), "{told}");
    let manifest = target.document("v1");
    let kinds: Vec<&str> =
        manifest["layers"].as_array().unwrap().iter().map(|l| l["mediaType"].as_str().unwrap()).collect();
    assert_eq!(kinds, [SHARED_ENCRYPTED, LAYER, LAYER]);
    let config = target.json(manifest["config"]["digest"].as_str().unwrap());
    let ids = [manifest["layers"][0]["digest"].as_str().unwrap(), &clear[1], &clear[1]];
    assert_eq!(config["rootfs"]["diff_ids"], json!(ids));
    let blob = target.blob(ids[0]);
    fsck(&home, &opened(&manifest["layers"][0], &blob));
    home.refused(
        "USAGE-INVALID",
        &[&encrypt[..], &["--layer", "3"], &[&plain.name("one"), &target.name("x")]].concat(),
    );
}

#[test]
fn what_cannot_be_is_refused_and_gets_no_name() {
    let home = Home::new();
    let (plain, _) = source(&home);
    let target = Layout::at(&home.path("target"));
    let shared = ["image", "encrypt", "--layers", "shared", "--key-id", KEY_ID];
    let refused = |code: &str, flags: &[&str], from: &str| {
        let to = target.name("refused");
        let said = home.refused(code, &[flags, &[from, &to]].concat());
        assert!(target.tagged("refused").is_none(), "{flags:?}");
        said
    };
    // Recipients whom no guest asks.
    let (public, _) = key_pair(&home.path(""), "p256");
    let jwe = format!("jwe:{public}");
    let said = refused("USAGE-INVALID", &[&shared[..], &["--recipient", &jwe]].concat(), &plain.name("one"));
    assert!(said.contains("a key of Trustee"), "{said}");
    refused("USAGE-INVALID", &[&shared[..], &["--key-id", "kbs:///a/b/c"]].concat(), &plain.name("one"));
    refused("USAGE-INVALID", &[&shared[..], &["--add-recipient"]].concat(), &plain.name("one"));

    // What is encrypted already, in whichever way.
    home.ok(&["image", "encrypt", "--key-id", KEY_ID, &plain.name("one"), &target.name("archives")]);
    let said = refused("USAGE-INVALID", &shared, &target.name("archives"));
    assert!(said.contains("image decrypt"), "{said}");
    home.ok(&[&shared[..], &[&plain.name("one"), &target.name("disks")]].concat());
    refused("USAGE-INVALID", &shared, &target.name("disks"));
    refused("USAGE-INVALID", &["image", "encrypt", "--key-id", KEY_ID], &target.name("disks"));
    refused(
        "USAGE-INVALID",
        &["image", "encrypt", "--add-recipient", "--key-id", KEY_ID],
        &target.name("disks"),
    );
    refused("USAGE-INVALID", &["image", "decrypt"], &target.name("disks"));

    // A layer that is not what the config says, one that is no archive, and one that was altered.
    let bad = Layout::new(&home.path("bad"));
    let tar = tar(&home, "treasure", TREASURE);
    bad.tag("other", image(&bad, "amd64", &[(LAYER, &tar, b"other")]));
    refused("IMAGE-DIGEST-MISMATCH", &shared, &bad.name("other"));
    bad.tag("noise", image(&bad, "amd64", &[(LAYER, &[1; 2048], &[1; 2048])]));
    refused("IMAGE-LAYER-CORRUPT", &shared, &bad.name("noise"));
    let altered = image(&bad, "amd64", &[(LAYER, &tar, &tar)]);
    bad.tag("altered", altered);
    let mut flipped = tar.clone();
    flipped[700] ^= 1;
    std::fs::write(bad.blob_path(&Digest::sha256(&tar).to_string()), flipped).unwrap();
    refused("IMAGE-DIGEST-MISMATCH", &shared, &bad.name("altered"));
    let hidden = |f: &std::path::PathBuf| f.file_name().unwrap().to_string_lossy().starts_with('.');
    assert!(!target.files().iter().any(hidden), "{:?}", target.files());
}

#[test]
fn a_run_that_cannot_work_is_refused_before_it_boots() {
    if !has("docker-registry") || !has("qemu-system-x86_64") {
        return;
    }
    let home = Home::new();
    let registry = Registry::start(&home);
    let (plain, _) = source(&home);
    let (disks, archives) = (registry.name("disks:v1"), registry.name("archives:v1"));
    home.ok(&["image", "encrypt", "--layers", "shared", "--key-id", KEY_ID, &plain.name("v1"), &disks]);
    home.ok(&["image", "encrypt", "--key-id", KEY_ID, &plain.name("v1"), &archives]);
    // There is no guest image here: a run that got so far would say so.
    let said = home.refused("USAGE-INVALID", &["run", "--platform", "sim", "--layers", "guest", &disks]);
    assert!(said.contains("--layers shared"), "{said}");
    let said = home.refused("USAGE-INVALID", &["run", "--platform", "sim", "--layers", "shared", &archives]);
    assert!(said.contains("--layers guest") && said.contains("image encrypt --layers shared"), "{said}");
    assert!(
        !home.path("data/cocoon/layers/layers").exists()
            || files(&home.path("data/cocoon/layers/layers")).is_empty()
    );
}
