//! Encrypting, decrypting and inspecting images in OCI layouts, without a network.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

mod images_support;
mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cocoon_image::Digest;
use images_support::{INDEX, LAYER, Layout, MANIFEST, has, key_pair};
use serde_json::{Value, json};
use support::{Home, with};

const KEY_ID: &str = "kbs:///default/image-key/app";
const TREASURE: &[u8] = b"the model weights, say";

/// An index of two platforms with layers of every kind, and an attestation.
fn index(layout: &Layout) -> Vec<Value> {
    let big = vec![7; 700_000];
    let zstd = format!("{LAYER}+zstd");
    let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let amd = layout.image("amd64", &[(LAYER, TREASURE), (docker, &big), (&zstd, b"zstd")]);
    let arm = layout.image("arm64", &[(LAYER, TREASURE), (LAYER, b"arm")]);
    let statement = layout.put("application/vnd.in-toto+json", b"{}");
    let empty = layout.put(images_support::CONFIG, br#"{"architecture":"unknown","os":"unknown"}"#);
    let attestation =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": empty, "layers": [statement]});
    let mut attestation = layout.put(MANIFEST, attestation.to_string().as_bytes());
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    let entries = vec![amd, arm, attestation];
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries,
        "annotations": {"org.example.kept": "yes"}});
    layout.tag("v1", layout.put(INDEX, index.to_string().as_bytes()));
    entries
}

fn entry(layout: &Layout, tag: &str, n: usize) -> Value {
    let index = layout.document(tag);
    layout.json(index["manifests"][n]["digest"].as_str().unwrap())
}

#[test]
fn a_whole_index_is_encrypted_and_decrypted() {
    if !has("openssl") {
        return;
    }
    let home = Home::new();
    let source = Layout::new(&home.path("source"));
    let entries = index(&source);
    let target = Layout::at(&home.path("target"));
    let (rsa, rsa_key) = key_pair(&home.path(""), "rsa");
    let (ec, ec_key) = key_pair(&home.path(""), "p384");
    let (to_rsa, to_ec) = (format!("jwe:{rsa}"), format!("jwe:{ec}"));
    let encrypt = ["image", "encrypt", "--key-id", KEY_ID, "--recipient", &to_rsa, "--recipient", &to_ec];
    home.ok(&[&encrypt[..], &[&source.name("v1"), &target.name("sealed")]].concat());

    let sealed = target.document("sealed");
    assert_eq!(sealed["annotations"]["org.example.kept"], "yes");
    assert_eq!(sealed["manifests"][2], entries[2], "the attestation stays as it is");
    for (n, kinds) in [(0, &["", "+gzip", "+zstd"][..]), (1, &["", ""])] {
        let manifest = entry(&target, "sealed", n);
        assert_eq!(manifest["annotations"]["org.example.kept"], "yes");
        let types: Vec<&str> =
            manifest["layers"].as_array().unwrap().iter().map(|l| l["mediaType"].as_str().unwrap()).collect();
        let expected: Vec<String> = kinds.iter().map(|kind| format!("{LAYER}{kind}+encrypted")).collect();
        assert_eq!(types, expected);
    }
    assert_eq!(
        entry(&target, "sealed", 0)["layers"][0],
        entry(&target, "sealed", 1)["layers"][0],
        "a layer that images share is encrypted once"
    );
    for file in target.files() {
        let content = std::fs::read(&file).unwrap();
        let clear = content.windows(TREASURE.len()).any(|w| w == TREASURE);
        assert!(!clear, "{} is in the clear", file.display());
    }

    let seen = home.json(&["image", "inspect", "--json", &target.name("sealed")]);
    let layer = &seen["images"][1]["layers"][1];
    assert_eq!((&layer["encrypted"], &layer["compression"]), (&json!(true), &json!("none")));
    let expected = json!([
        {"kind": "provider", "provider": "attestation-agent", "key_id": KEY_ID},
        {"kind": "jwe", "key": "RSA-OAEP"},
        {"kind": "jwe", "key": "ECDH-ES+A256KW P-384"},
    ]);
    assert_eq!(layer["recipients"], expected);
    assert_eq!(seen["images"][0]["platform"], "linux/amd64");
    assert_eq!((seen["images"].as_array().unwrap().len(), seen["others"].as_array().unwrap().len()), (2, 1));
    let text = home.ok(&["image", "inspect", &target.name("sealed")]);
    assert!(text.contains(KEY_ID) && text.contains("linux/arm64") && text.contains("none found"), "{text}");

    let ways: [&[&str]; 3] = [&["--no-trustee", "--key", &rsa_key], &["--no-trustee", "--key", &ec_key], &[]];
    for (n, way) in ways.into_iter().enumerate() {
        let opened = Layout::at(&home.path(&format!("opened{n}")));
        let names = [target.name("sealed"), opened.name("v1")];
        home.ok(&[&["image", "decrypt"], way, &[&names[0], &names[1]]].concat());
        for (n, before) in entries[..2].iter().enumerate() {
            let before = source.json(before["digest"].as_str().unwrap());
            let after = entry(&opened, "v1", n);
            assert_eq!(opened.layers(&after), source.layers(&before));
            assert!(!after.to_string().contains("enc."), "{after}");
        }
    }
    let none = Layout::at(&home.path("none"));
    home.refused(
        "IMAGE-KEY-UNAVAILABLE",
        &["image", "decrypt", "--no-trustee", &target.name("sealed"), &none.name("x")],
    );
    assert_eq!(none.tagged("x"), None);
}

#[test]
fn parts_of_an_index_and_of_an_image() {
    let home = Home::new();
    let source = Layout::new(&home.path("source"));
    index(&source);
    let target = Layout::at(&home.path("target"));
    let (from, to) = (source.name("v1"), target.name("part"));
    let said = home.run(&[
        "image",
        "encrypt",
        "--platform",
        "linux/amd64",
        "--layer",
        "0",
        "--layer",
        "-1",
        &from,
        &to,
    ]);
    assert!(said.stderr.contains("linux/arm64"), "what stays in the clear is said: {}", said.stderr);
    let encrypted = |n: usize| -> Vec<bool> {
        let layers = entry(&target, "part", n)["layers"].as_array().unwrap().clone();
        layers.iter().map(|l| l["mediaType"].as_str().unwrap().ends_with("+encrypted")).collect()
    };
    assert_eq!((encrypted(0), encrypted(1)), (vec![true, false, true], vec![false, false]));

    home.refused("USAGE-INVALID", &["image", "encrypt", "--layer", "3", &from, &target.name("x")]);
    home.refused(
        "USAGE-INVALID",
        &["image", "encrypt", "--platform", "linux/s390x", &from, &target.name("x")],
    );
    home.refused("USAGE-INVALID", &["image", "encrypt", "--recipient", "pgp:me@example.com", &from, &to]);
    let twice = home.refused("USAGE-INVALID", &["image", "encrypt", &target.name("part"), &target.name("x")]);
    assert!(twice.contains("--add-recipient"), "{twice}");
    assert_eq!(target.tagged("x"), None);
}

#[test]
fn more_recipients_are_let_in() {
    if !has("openssl") {
        return;
    }
    let home = Home::new();
    let source = Layout::new(&home.path("source"));
    source.tag("v1", source.image("amd64", &[(LAYER, TREASURE)]));
    let (rsa, rsa_key) = key_pair(&home.path(""), "rsa");
    let (ec, ec_key) = key_pair(&home.path(""), "p256");
    let target = Layout::at(&home.path("target"));
    home.ok(&[
        "image",
        "encrypt",
        "--recipient",
        &format!("jwe:{rsa}"),
        &source.name("v1"),
        &target.name("one"),
    ]);
    let add = ["image", "encrypt", "--add-recipient", "--recipient"];
    let to_ec = format!("jwe:{ec}");
    let names = [target.name("one"), target.name("two")];
    home.refused("IMAGE-KEY-UNAVAILABLE", &[&add[..], &[&to_ec, &names[0], &names[1]]].concat());
    home.ok(&[&add[..], &[&to_ec, "--key", &rsa_key, &names[0], &names[1]]].concat());
    let digest = |tag: &str| target.document(tag)["layers"][0]["digest"].clone();
    assert_eq!(digest("one"), digest("two"), "the layer itself stays");
    for key in [rsa_key, ec_key] {
        let opened = Layout::at(&home.path("opened"));
        home.ok(&["image", "decrypt", "--no-trustee", "--key", &key, &names[1], &opened.name("v1")]);
        assert_eq!(opened.layers(&opened.document("v1")), [TREASURE]);
    }
}

#[test]
fn what_stays_in_the_clear_is_never_called_encrypted() {
    let home = Home::new();
    let source = Layout::new(&home.path("source"));
    source.tag("v1", source.image("amd64", &[(LAYER, TREASURE), (LAYER, b"second")]));
    source.tag("none", source.image("amd64", &[]));
    // An image that calls itself an attestation is one of no platform.
    let mut hidden = source.image("amd64", &[(LAYER, TREASURE)]);
    hidden["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    let shown = source.image("arm64", &[(LAYER, b"arm")]);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [shown, hidden]});
    source.tag("hidden", source.put(INDEX, index.to_string().as_bytes()));
    let target = Layout::at(&home.path("target"));
    let (v1, x) = (source.name("v1"), target.name("x"));
    let encrypt = ["image", "encrypt", "--key-id", KEY_ID];
    let add = [&encrypt[..], &["--add-recipient"]].concat();
    let allow = ["--allow-clear"];
    let none = source.name("none");
    let hidden = source.name("hidden");

    let said = home.refused("USAGE-INVALID", &[&add[..], &[&v1, &x]].concat());
    assert!(said.contains("in the clear"), "{said}");
    home.refused("USAGE-INVALID", &[&add[..], &["--layer", "0"], &[&v1, &x]].concat());
    home.refused("USAGE-INVALID", &[&add[..], &allow, &[&v1, &x]].concat());
    for layers in ["guest", "shared"] {
        home.refused("USAGE-INVALID", &[&encrypt[..], &["--layers", layers, &none, &x]].concat());
        home.refused("USAGE-INVALID", &[&encrypt[..], &["--layers", layers, &hidden, &x]].concat());
    }
    assert_eq!(target.tagged("x"), None);
    assert!(!target.files().iter().any(|f| std::fs::read(f).unwrap() == TREASURE));

    // What is asked for is done, and said.
    let part = target.name("part");
    let said = home.json(&[&encrypt[..], &["--json", "--layer", "0", &v1, &part]].concat());
    assert_eq!(said["clear"], json!([Digest::sha256(b"second")]));
    home.refused("USAGE-INVALID", &[&add[..], &[&part, &x]].concat());
    let text = home.ok(&[&add[..], &allow, &[&part, &x]].concat());
    assert!(text.contains("1 of its layers stay in the clear"), "{text}");
    home.ok(&[&encrypt[..], &allow, &[&hidden, &target.name("y")]].concat());
}

#[test]
fn hostile_words_do_not_reach_the_terminal() {
    let home = Home::new();
    let source = Layout::new(&home.path("source"));
    let target = Layout::at(&home.path("target"));
    let evil = "\u{1b}[2Jevil\u{202e}";
    let image = source.image("amd64", &[(LAYER, TREASURE)]);
    let mut other = image.clone();
    other["platform"] = json!({"os": "unknown", "architecture": evil});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [image, other]});
    source.tag("index", source.put(INDEX, index.to_string().as_bytes()));
    source.tag("kind", source.image("amd64", &[(&format!("{LAYER}{evil}"), TREASURE)]));
    source.tag("arch", source.image(evil, &[(LAYER, TREASURE)]));
    let x = target.name("x");
    for tag in ["index", "kind", "arch"] {
        let name = source.name(tag);
        for command in [
            &["image", "inspect", &name][..],
            &["image", "encrypt", "--key-id", KEY_ID, "--platform", "linux/amd64", &name, &x],
            &["image", "encrypt", "--key-id", KEY_ID, "--allow-clear", &name, &x],
        ] {
            let done = home.command(command).output().unwrap();
            let said = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
            assert!(!said.contains(['\u{1b}', '\u{202e}']), "{command:?}: {said:?}");
        }
    }
}

#[test]
fn hostile_sources_are_bounded() {
    let home = Home::new();
    let source = Layout::new(&home.path("source"));
    let target = Layout::at(&home.path("target"));
    let x = target.name("x");
    let image = source.image("amd64", &[(LAYER, TREASURE)]);
    let index = |entries: Vec<Value>| {
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string()
    };
    source.tag("many", source.put(INDEX, index(vec![image.clone(); 129]).as_bytes()));
    // Twenty manifests that each stay below the limit of one.
    let padded = (0..20).map(|n| {
        let mut manifest = source.json(image["digest"].as_str().unwrap());
        manifest["annotations"]["pad"] = format!("{n}{}", "x".repeat(3_500_000)).into();
        source.put(MANIFEST, manifest.to_string().as_bytes())
    });
    let padded = padded.collect();
    source.tag("fat", source.put(INDEX, index(padded).as_bytes()));
    source.tag("one", image);
    for (tag, more) in [("many", None), ("fat", None), ("one", Some("10"))] {
        let size = more.map_or(Vec::new(), |n| vec!["--max-size", n]);
        let name = source.name(tag);
        let command = [&["image", "encrypt", "--key-id", KEY_ID][..], &size, &[&name, &x]].concat();
        let said = home.refused("IMAGE-TOO-LARGE", &command);
        assert!(said.contains("limit") || said.contains("larger") || said.contains("--max-size"), "{said}");
    }
    assert_eq!(target.tagged("x"), None);
    home.ok(&["image", "encrypt", "--key-id", KEY_ID, "--max-size", "1M", &source.name("one"), &x]);
}

#[test]
fn altered_images_are_refused_and_leave_no_name() {
    let home = Home::new();
    let source = Layout::new(&home.path("source"));
    let content = vec![5; 300_000];
    source.tag("v1", source.image("amd64", &[(LAYER, &content), (LAYER, b"small")]));
    let sealed = Layout::at(&home.path("sealed"));
    home.ok(&["image", "encrypt", "--key-id", KEY_ID, &source.name("v1"), &sealed.name("v1")]);
    let manifest = sealed.document("v1");
    let refused = |code: &str, layout: &Layout, tag: &str, command: &str| {
        let target = Layout::at(&home.path(&format!("{command}-{tag}-{code}")));
        home.refused(code, &["image", command, &layout.name(tag), &target.name("x")]);
        assert_eq!(target.tagged("x"), None);
        let hidden = |p: &std::path::PathBuf| p.file_name().unwrap().to_str().unwrap().starts_with('.');
        assert!(!target.files().iter().any(hidden), "{:?}", target.files());
    };

    // The annotation's HMAC, the wrapped key, the options: each altered in a manifest of its own.
    let enc = |name: &str| format!("org.opencontainers.image.enc.{name}");
    let pubopts = |text: &str| cocoon_protocol::b64::std_encode(text.as_bytes());
    let zero = cocoon_protocol::b64::std_encode(&[0; 32]);
    let cipher = "AES_256_CTR_HMAC_SHA256";
    for (tag, name, value) in [
        (
            "hmac",
            enc("pubopts"),
            pubopts(&format!(r#"{{"cipher":"{cipher}","hmac":"{zero}","cipheroptions":{{}}}}"#)),
        ),
        ("short", enc("pubopts"), pubopts(&format!(r#"{{"cipher":"{cipher}","hmac":"AAAA"}}"#))),
        ("cipher", enc("pubopts"), pubopts(r#"{"cipher":"AEAD","hmac":"AAAA"}"#)),
        ("packet", enc("keys.provider.attestation-agent"), "e30=".to_owned()),
        ("huge", enc("keys.provider.attestation-agent"), "A".repeat(2 << 20)),
        ("many", enc("keys.provider.attestation-agent"), "e30=,".repeat(10_000)),
        ("pgp", enc("keys.pgp"), "AAAA".to_owned()),
    ] {
        let mut altered = manifest.clone();
        let annotations = altered["layers"][0]["annotations"].as_object_mut().unwrap();
        if tag == "pgp" {
            annotations.retain(|name, _| name.contains("pubopts"));
        }
        annotations.insert(name, value.into());
        sealed.tag(tag, sealed.put(MANIFEST, altered.to_string().as_bytes()));
        refused("IMAGE-UNDECRYPTABLE", &sealed, tag, "decrypt");
    }

    // A flipped bit, a truncated and a longer blob, on either way.
    for (layout, command) in [(&source, "encrypt"), (&sealed, "decrypt")] {
        let digest = layout.document("v1")["layers"][0]["digest"].as_str().unwrap().to_owned();
        let good = layout.blob(&digest);
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let longer = [good.as_slice(), b"x"].concat();
        for (code, bad) in [
            ("IMAGE-DIGEST-MISMATCH", &flipped[..]),
            ("IMAGE-SIZE-MISMATCH", &good[..good.len() - 1]),
            ("IMAGE-SIZE-MISMATCH", &longer),
            ("IMAGE-SIZE-MISMATCH", &[]),
        ] {
            std::fs::write(layout.blob_path(&digest), bad).unwrap();
            refused(code, layout, "v1", command);
        }
        std::fs::remove_file(layout.blob_path(&digest)).unwrap();
        refused("IMAGE-NOT-FOUND", layout, "v1", command);
        std::fs::write(layout.blob_path(&digest), &good).unwrap();
    }
    // Arrays where objects belong.
    for (tag, text) in
        [("a", "[2,null,null,null,null]"), ("b", r#"{"schemaVersion":2,"config":[],"layers":[]}"#)]
    {
        source.tag(tag, source.put(MANIFEST, text.as_bytes()));
        refused("IMAGE-MANIFEST-INVALID", &source, tag, "encrypt");
    }
}

/// A registry that gives a manifest and then, in the middle of a layer, nothing more.
fn stalling(manifest: &str, layer: &[u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (manifest, half, size) = (manifest.to_owned(), layer[..layer.len() / 2].to_vec(), layer.len());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, manifest, half) = (stream.unwrap(), manifest.clone(), half.clone());
            std::thread::spawn(move || {
                let mut asked = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut asked) {
                    let text = String::from_utf8_lossy(&asked[..n]).into_owned();
                    let head = |kind: &str, n: usize| {
                        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {n}\r\n\r\n")
                    };
                    if text.contains("/blobs/") {
                        let _ = stream.write_all(head("application/octet-stream", size).as_bytes());
                        let _ = stream.write_all(&half);
                    } else {
                        let _ = stream.write_all(head(MANIFEST, manifest.len()).as_bytes());
                        let _ = stream.write_all(manifest.as_bytes());
                    }
                }
            });
        }
    });
    port
}

#[test]
fn an_interrupted_copy_leaves_nothing() {
    let mut home = Home::new();
    let temporary = home.path("tmp");
    std::fs::create_dir(&temporary).unwrap();
    home.env("TMPDIR", temporary.to_str().unwrap());
    let content = vec![3; 4 << 20];
    let descriptor = |kind: &str, content: &[u8]| json!({"mediaType": kind, "digest": Digest::sha256(content), "size": content.len()});
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor(images_support::CONFIG, b"{}"), "layers": [descriptor(LAYER, &content)]});
    let port = stalling(&manifest.to_string(), &content);
    let target = Layout::at(&home.path("target"));
    let source = format!("127.0.0.1:{port}/demo:1");
    let mut child = home
        .command(&["image", "encrypt", "--key-id", KEY_ID, &source, &target.name("v1")])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Until ciphertext lies in the unnamed file: it is the only thing of that size that the program has open.
    let fds = format!("/proc/{}/fd", child.id());
    let waiting = |n: u64| {
        let files = std::fs::read_dir(&fds).into_iter().flatten().flatten();
        files
            .filter_map(|f| std::fs::metadata(f.path()).ok())
            .any(|m| m.is_file() && m.nlink_is_zero() && m.len() > n)
    };
    let end = Instant::now() + Duration::from_secs(30);
    while !waiting(1 << 20) {
        assert!(Instant::now() < end && child.try_wait().unwrap().is_none(), "it never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    // As Ctrl-C would; but that is ignored where the tests were started in the background.
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .unwrap();
    assert!(!child.wait().unwrap().success());
    let names: Vec<_> = target.files().iter().map(|f| f.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["oci-layout"]);
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
}

trait Unlinked {
    fn nlink_is_zero(&self) -> bool;
}

impl Unlinked for std::fs::Metadata {
    fn nlink_is_zero(&self) -> bool {
        std::os::unix::fs::MetadataExt::nlink(self) == 0
    }
}

#[test]
fn a_trustee_elsewhere_keeps_the_key_to_itself() {
    let home = Home::new();
    let server = home.serve("server", &[]);
    let flags = server.flags();
    let source = Layout::new(&home.path("source"));
    source.tag("v1", source.image("amd64", &[(LAYER, TREASURE)]));
    let target = Layout::at(&home.path("target"));
    let (from, to, again) = (source.name("v1"), target.name("v1"), target.name("v2"));
    home.ok(&with(&["image", "encrypt", "--key-id", KEY_ID, &from, &to], &flags));
    let listed = home.ok(&with(&["secret", "list"], &flags));
    assert!(listed.contains("default/image-key/app"), "{listed}");
    assert!(!home.ok(&["secret", "list"]).contains("app"), "the embedded Trustee has nothing of it");

    // Nobody gets it out again, so no second image goes under it; unless its owner has it.
    let said = home
        .refused("USAGE-INVALID", &with(&["image", "encrypt", "--key-id", KEY_ID, &from, &again], &flags));
    assert!(said.contains("--kek"), "{said}");
    home.refused("RELEASE-SECRET-MISSING", &with(&["image", "decrypt", &to, &again], &flags));
    let kek = home.file("kek", [9; 32]);
    let other = "kbs:///default/image-key/mine";
    let own = ["image", "encrypt", "--kek", &kek, "--key-id", other];
    home.ok(&with(&[&own[..], &[&from, &again]].concat(), &flags));
    home.ok(&with(&[&own[..], &[&from, &again]].concat(), &flags));
    let opened = Layout::at(&home.path("opened"));
    home.ok(&["image", "decrypt", "--kek", &kek, "--no-trustee", &again, &opened.name("x")]);
    assert_eq!(opened.layers(&opened.document("x")), [TREASURE]);
    let short = home.file("short", [9; 31]);
    home.refused("USAGE-INVALID", &["image", "decrypt", "--kek", &short, &again, &opened.name("y")]);
    server.stop();
}
