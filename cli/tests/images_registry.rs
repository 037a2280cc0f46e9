//! Images in a registry: encrypted there, signed in both of cosign's formats, verified by us and by cosign.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

mod images_support;
mod support;

use std::process::{Command, Stdio};

use images_support::registry::Registry;
use images_support::{INDEX, LAYER, Layout, has, tool};
use serde_json::json;
use support::Home;

const TREASURE: &[u8] = b"the model weights, say";

/// An index of two platforms as `demo:v1`.
fn pushed(home: &Home, registry: &Registry) -> String {
    let source = Layout::new(&home.path("source"));
    let entries = [source.image("amd64", &[(LAYER, TREASURE)]), source.image("arm64", &[(LAYER, b"arm")])];
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    source.tag("v1", source.put(INDEX, index.to_string().as_bytes()));
    let name = registry.name("demo:v1");
    // Decrypting what is not encrypted is a copy.
    home.ok(&["image", "decrypt", "--no-trustee", &source.name("v1"), &name]);
    name
}

#[test]
fn an_index_is_encrypted_in_its_registry() {
    if !has("docker-registry") {
        return;
    }
    let home = Home::new();
    let registry = Registry::start(&home);
    let plain = pushed(&home, &registry);
    let sealed = registry.name("sealed/demo:v1");
    let id = "kbs:///default/image-key/app";
    home.ok(&["image", "encrypt", "--key-id", id, &plain, &sealed]);
    let seen = home.json(&["image", "inspect", "--json", &sealed]);
    assert_eq!(seen["images"].as_array().unwrap().len(), 2);
    assert_eq!(seen["images"][1]["layers"][0]["recipients"][0]["key_id"], id);
    assert_eq!(
        (&seen["images"][1]["guest_layers"], &seen["images"][1]["shared_layers"]),
        (&json!(true), &json!(false))
    );
    let opened = Layout::at(&home.path("opened"));
    home.ok(&["image", "decrypt", &sealed, &opened.name("v1")]);
    let first = opened.json(opened.document("v1")["manifests"][0]["digest"].as_str().unwrap());
    assert_eq!(opened.layers(&first), [TREASURE]);

    // A blob altered at rest: the target never gets its name.
    let digest = seen["images"][0]["layers"][0]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let file =
        registry.blobs.join("docker/registry/v2/blobs/sha256").join(&digest[..2]).join(digest).join("data");
    std::fs::write(&file, vec![0; TREASURE.len()]).unwrap();
    home.refused("IMAGE-DIGEST-MISMATCH", &["image", "decrypt", &sealed, &registry.name("clear:v1")]);
    assert!(!registry.has_tag("clear", "v1") && registry.has_tag("sealed/demo", "v1"));
    home.refused("IMAGE-NOT-FOUND", &["image", "encrypt", &registry.name("none:v1"), &registry.name("x:v1")]);
}

#[test]
fn signatures_of_both_formats() {
    if !has("docker-registry") {
        return;
    }
    let home = Home::new();
    let registry = Registry::start(&home);
    let image = pushed(&home, &registry);
    let name = home.path("owner").display().to_string();
    let stranger = home.path("stranger").display().to_string();
    home.ok(&["image", "keygen", &name]);
    home.ok(&["image", "keygen", &stranger]);
    let (key, public) = (format!("{name}.key"), format!("{name}.pub"));
    let (other_key, other) = (format!("{stranger}.key"), format!("{stranger}.pub"));
    home.refused("IMAGE-SIGNATURE-MISSING", &["image", "verify", "--key", &public, &image]);
    home.ok(&["image", "sign", "--key", &other_key, &image]);
    home.refused("IMAGE-SIGNATURE-INVALID", &["image", "verify", "--key", &public, &image]);

    home.ok(&["image", "sign", "--key", &key, "--recursive", &image]);
    home.ok(&["image", "verify", "--key", &public, &image]);
    home.ok(&["image", "verify", "--key", &other, "--key", &public, &image]);
    let seen = home.json(&["image", "inspect", "--json", &image]);
    assert_eq!(seen["signatures"], json!([{"kind": "cosign", "count": 2, "hints": ["with a key"]}]));
    let amd = format!("{}@{}", registry.name("demo"), seen["images"][0]["digest"].as_str().unwrap());
    home.ok(&["image", "verify", "--key", &public, &amd]);
    home.refused("IMAGE-SIGNATURE-INVALID", &["image", "verify", "--key", &other, &amd]);

    // Another repository, another image: a signature is for one name and digest.
    let copy = registry.name("copy:v1");
    home.ok(&["image", "decrypt", "--no-trustee", &image, &copy]);
    home.refused("IMAGE-SIGNATURE-MISSING", &["image", "verify", "--key", &public, &copy]);
    home.ok(&["image", "sign", "--key", &key, "--format", "bundle", &copy]);
    let said = home.json(&["image", "verify", "--json", "--key", &public, &copy]);
    assert_eq!(said["verified"], true);
    home.refused("IMAGE-SIGNATURE-INVALID", &["image", "verify", "--key", &other, &copy]);
    let seen = home.json(&["image", "inspect", "--json", &copy]);
    assert_eq!(
        (&seen["signatures"][0]["kind"], &seen["signatures"][0]["count"]),
        (&json!("bundle"), &json!(1))
    );

    // Policies: decided on the name, never empty, all of what is asked.
    let scope = format!("{}/copy", registry.address);
    let policy = json!({"default": [{"type": "reject"}], "transports": {"docker": {
        scope: [{"type": "sigstoreSigned", "keyPath": public}]}}});
    let policy = home.file("policy.json", policy.to_string());
    home.ok(&["image", "verify", "--policy", &policy, &copy]);
    home.refused("IMAGE-POLICY-REJECTED", &["image", "verify", "--policy", &policy, &image]);
    home.refused("IMAGE-SIGNATURE", &["image", "verify", "--policy", &policy, "--key", &other, &copy]);
    let empty = home.file("empty.json", r#"{"default":[]}"#);
    home.refused("IMAGE-POLICY-INVALID", &["image", "verify", "--policy", &empty, &copy]);
    assert_eq!(home.run(&["image", "verify", &copy]).status, Some(2), "nothing asked is nothing verified");
    home.refused("USAGE-INVALID", &["image", "verify", "--key", &public, "oci:/tmp:x"]);
    home.refused("USAGE-INVALID", &["image", "verify", "--key", &key, &copy]);
}

#[test]
fn cosign_and_its_sealed_keys() {
    if !has("docker-registry") || !has("cosign") {
        return;
    }
    let mut home = Home::new();
    let registry = Registry::start(&home);
    let image = pushed(&home, &registry);
    home.env("COSIGN_PASSWORD", "correct horse");
    let prefix = home.path("sealed").display().to_string();
    let cosign = |args: &[&str]| {
        let mut command = Command::new("cosign");
        command.args(args).env("COSIGN_PASSWORD", "correct horse").env("HOME", home.path("home"));
        let done = command.stdin(Stdio::null()).output().unwrap();
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let made = cosign(&["generate-key-pair", "--output-key-prefix", &prefix]);
    assert!(made.0, "{}", made.1);
    let (key, public) = (format!("{prefix}.key"), format!("{prefix}.pub"));
    let check = ["verify", "--key", &public, "--insecure-ignore-tlog=true", "--allow-http-registry"];

    home.ok(&["image", "sign", "--key", &key, &image]);
    home.ok(&["image", "verify", "--key", &public, &image]);
    let theirs = cosign(&[&check[..], &["--new-bundle-format=false", &image]].concat());
    assert!(theirs.0, "{}", theirs.1);

    let copy = registry.name("copy:v1");
    home.ok(&["image", "decrypt", "--no-trustee", &image, &copy]);
    home.ok(&["image", "sign", "--key", &key, "--format", "bundle", &copy]);
    let theirs = cosign(&[&check[..], &[&copy]].concat());
    assert!(theirs.0, "{}", theirs.1);

    home.env("COSIGN_PASSWORD", "wrong");
    home.refused("USAGE-INVALID", &["image", "sign", "--key", &key, &image]);
}

#[test]
fn skopeo_reads_and_writes_the_same_registry() {
    if !has("docker-registry") || !has("skopeo") || !has("openssl") {
        return;
    }
    let home = Home::new();
    let registry = Registry::start(&home);
    let plain = pushed(&home, &registry);
    let (public, private) = images_support::key_pair(&home.path(""), "p256");
    let theirs = registry.name("theirs:v1");
    let (from, to, recipient) =
        (format!("docker://{plain}"), format!("docker://{theirs}"), format!("jwe:{public}"));
    let copy = ["copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    tool("skopeo", &[&copy[..], &["--encryption-key", &recipient, &from, &to]].concat());
    let opened = Layout::at(&home.path("opened"));
    home.ok(&["image", "decrypt", "--no-trustee", "--key", &private, &theirs, &opened.name("v1")]);
    // skopeo compresses what it pushes.
    let layer = home.file("layer.gz", &opened.layers(&opened.document("v1"))[0]);
    assert_eq!(tool("gzip", &["-dc", &layer]).as_bytes(), TREASURE);
}

#[test]
fn notations_signatures_are_verified() {
    if !has("docker-registry") || !has("notation") {
        return;
    }
    let home = Home::new();
    let registry = Registry::start(&home);
    let image = pushed(&home, &registry);
    let folder = home.path("notation");
    let notation = |args: &[&str]| {
        let mut command = Command::new("notation");
        command
            .args(args)
            .env("XDG_CONFIG_HOME", &folder)
            .env("HOME", home.path("home"))
            .stdin(Stdio::null());
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    notation(&["cert", "generate-test", "--default", "owner.example"]);
    notation(&["cert", "generate-test", "stranger.example"]);
    let root = |name: &str| folder.join(format!("notation/localkeys/{name}.crt")).display().to_string();
    let (owner, stranger) = (root("owner.example"), root("stranger.example"));
    home.refused("IMAGE-SIGNATURE-MISSING", &["image", "verify", "--notation-root", &owner, &image]);
    notation(&["sign", "--insecure-registry", &image]);
    home.ok(&["image", "verify", "--notation-root", &owner, &image]);
    home.refused("IMAGE-SIGNATURE-INVALID", &["image", "verify", "--notation-root", &stranger, &image]);
    let seen = home.json(&["image", "inspect", "--json", &image]);
    assert_eq!(seen["signatures"][0]["kind"], "notation");
}
