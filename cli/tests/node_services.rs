//! What runs on a node beside containerd: the snapshotter, and the program that makes a pod's layers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

mod images_support;
mod support;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};

use cocoon_image::{Config, Digest, Document, Manifest, Reference};
use cocoon_layers::{Known, Roots, plan_roots, silent};
use cocoon_protocol::HashAlgorithm;
use cocoon_protocol::initdata::InitData;
use cocoon_registry::{Auth, Client};
use images_support::registry::Registry;
use images_support::{LAYER, Layout, has, tool};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::Home;

fn end(mut child: Child) -> Option<i32> {
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    child.wait().unwrap().code()
}

#[test]
fn the_snapshotter_announces_itself_and_leaves_no_socket() {
    let home = Home::new();
    let (socket, root) = (home.path("run/cocoon/s.sock"), home.path("snapshots"));
    let notified = home.path("notify");
    let systemd = UnixDatagram::bind(&notified).unwrap();
    let args = ["node", "snapshotter", "--containerd", "none", "--socket", socket.to_str().unwrap()];
    let args = [&args[..], &["--root", root.to_str().unwrap()]].concat();
    let start = || {
        let mut child =
            home.command(&args).env("NOTIFY_SOCKET", &notified).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        child
    };
    let said = || {
        let mut buffer = [0; 64];
        let length = systemd.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let first = start();
    assert_eq!(said(), "READY=1");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    home.refused("STORE-BUSY", &args);
    assert_eq!(end(first), Some(0));
    assert_eq!(said(), "STOPPING=1");
    assert!(!socket.exists());
    // One that was killed leaves its socket; the next takes its place.
    let mut second = start();
    second.kill().unwrap();
    second.wait().unwrap();
    assert!(socket.exists());
    assert_eq!(end(start()), Some(0));
    // Something else in its place is not touched.
    std::fs::write(&socket, "mine").unwrap();
    home.refused("HOST-UNSUPPORTED", &args);
    assert_eq!(std::fs::read(&socket).unwrap(), b"mine");
}

/// An image in the registry, and what an owner pins of it.
fn image(home: &Home, registry: &Registry) -> (Digest, Vec<Known>) {
    let layout = Layout::new(&home.path("layout"));
    let tree = home.path("tree");
    let layers: Vec<Vec<u8>> = ["one", "two"]
        .into_iter()
        .map(|name| {
            home.file(&format!("tree/{name}"), format!("{name}\n").repeat(20_000));
            let archive = home.path("tar").display().to_string();
            tool(
                "tar",
                &[
                    "--mtime=@1",
                    "--owner=0",
                    "--group=0",
                    "-C",
                    tree.to_str().unwrap(),
                    "-cf",
                    &archive,
                    name,
                ],
            );
            std::fs::read(archive).unwrap()
        })
        .collect();
    let parts: Vec<(&str, &[u8])> = layers.iter().map(|l| (LAYER, &l[..])).collect();
    layout.tag("image", layout.image("amd64", &parts));
    let name = registry.name("team/app:1");
    tool(
        "skopeo",
        &[
            "copy",
            "-q",
            "--preserve-digests",
            "--dest-tls-verify=false",
            &layout.name("image"),
            &format!("docker://{name}"),
        ],
    );
    let digest: Digest = layout.tagged("image").unwrap().parse().unwrap();
    let document = layout.document("image");
    let Document::Manifest(manifest) = Document::parse(document.to_string().as_bytes()).unwrap() else {
        panic!()
    };
    let manifest: Manifest = *manifest;
    let config = Config::parse(&layout.blob(document["config"]["digest"].as_str().unwrap())).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let planned = runtime.block_on(async {
        let http = cocoon_http::Client::new(cocoon_http::Options::default()).unwrap();
        let (client, roots) =
            (Client::new(http, Auth::anonymous()), Roots::open(&home.path("owner")).unwrap());
        let reference = Reference::parse(&name).unwrap();
        plan_roots(&roots, None, &client, &reference, &manifest, &config, silent()).await.unwrap()
    });
    (digest, planned.layers)
}

fn initdata(registry: &Registry, digest: &Digest, layers: &[Known]) -> InitData {
    let one = |k: &Known| json!({"diff_id": k.diff_id, "root": hex::encode(k.root), "blocks": k.blocks});
    let layers: Vec<Value> = layers.iter().map(one).collect();
    let plan = json!({"version": 1, "name": "pod", "containers": [{
        "name": "main",
        "image": {"reference": registry.name("team/app:1"), "digest": digest, "layers": layers},
        "args": ["/x"], "cwd": "/", "no_new_privileges": true, "seccomp": "runtime-default", "logs": true,
        "restart": "never", "stop_signal": 15,
    }]});
    InitData::new(HashAlgorithm::Sha256, [("plan.json".to_owned(), plan.to_string())].into())
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_pod_s_layers_are_fetched_once_and_named() {
    if !has("docker-registry") || !has("skopeo") {
        return;
    }
    let home = Home::new();
    let registry = Registry::start(&home);
    let (digest, layers) = image(&home, &registry);
    let initdata = initdata(&registry, &digest, &layers);
    let cache = home.path("cache").display().to_string();
    let (text, disk) =
        (home.file("initdata.toml", initdata.text()), home.file("disk", initdata.to_disk().unwrap()));
    let annotation = initdata.to_annotation().unwrap();
    let written = home.file("annotation", &annotation);

    // Three pods at once, in three processes.
    let pods: Vec<Child> = (0..3)
        .map(|_| {
            home.command(&["layers", "fetch", "--initdata", &text, "--cache", &cache])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let wanted: Vec<String> = layers.iter().map(|k| hex::encode(k.root)).collect();
    for pod in pods {
        let output = pod.wait_with_output().unwrap();
        assert!(output.status.success());
        let found = lines(&String::from_utf8(output.stdout).unwrap());
        assert_eq!(found.iter().map(|l| l["root"].as_str().unwrap()).collect::<Vec<_>>(), wanted);
        for line in &found {
            let (root, path) = (line["root"].as_str().unwrap(), line["path"].as_str().unwrap());
            assert!(path.ends_with(root) && std::path::Path::new(path).is_file());
            assert_eq!(line["serial"].as_str().unwrap(), &root[..20]);
        }
    }
    // They are there now, whether or not there is a registry, and in whatever form the plan comes.
    drop(registry);
    for form in [
        ["--initdata", &text],
        ["--initdata", &disk],
        ["--initdata", &written],
        ["--annotation", &annotation],
    ] {
        let args = [&["layers", "fetch", "--cache", &cache][..], &form].concat();
        assert_eq!(lines(&home.ok(&args)).len(), 2, "{form:?}");
    }
    // Held, they are not evicted, until standard input ends.
    let mut holder = home
        .command(&["layers", "fetch", "--initdata", &text, "--cache", &cache, "--hold"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut held = String::new();
    holder.stdout.take().unwrap().read_to_string(&mut held).unwrap();
    assert_eq!(lines(&held).len(), 2);
    home.ok(&["layers", "prune", "--cache", &cache]);
    assert_eq!(
        home.json(&["layers", "list", "--json", "--cache", &cache])["layers"].as_array().unwrap().len(),
        2
    );
    drop(holder.stdin.take());
    assert_eq!(holder.wait().unwrap().code(), Some(0));
    home.ok(&["layers", "prune", "--cache", &cache]);
    assert_eq!(home.json(&["layers", "list", "--json", "--cache", &cache])["layers"], json!([]));
    // Without cache and registry it fails, by its code.
    let gone = home.run(&["layers", "fetch", "--initdata", &text, "--cache", &cache, "--json"]);
    assert_ne!(gone.status, Some(0));
    assert!(gone.stderr.contains("\"code\":\"IMAGE-"), "{}", gone.stderr);
    assert_eq!(gone.stdout, "");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    if !has("docker-registry") || !has("skopeo") {
        return;
    }
    let home = Home::new();
    let registry = Registry::start(&home);
    let (digest, mut layers) = image(&home, &registry);
    layers[1].root[31] ^= 1;
    let wrong = home.file("wrong", initdata(&registry, &digest, &layers).text());
    let cache = home.path("cache").display().to_string();
    let refused = |code: &str, form: &[&str]| {
        home.refused(code, &[&["layers", "fetch", "--cache", &cache][..], form].concat())
    };
    let said = refused("IMAGE-CACHE-FAILED", &["--initdata", &wrong]);
    assert!(said.contains("but the plan names"), "{said}");
    refused("INITDATA-MALFORMED", &["--annotation", "!!!"]);
    refused("INITDATA-MALFORMED", &["--initdata", "/dev/null"]);
    refused("INITDATA-MALFORMED", &["--initdata", &home.file("garbage", "a = 1\nb = 2\n")]);
    refused("INITDATA-MALFORMED", &["--initdata", &home.file("cut", "initdata\x10\0\0\0\0\0\0\0")]);
    refused("USAGE-INVALID", &["--initdata", "/nowhere"]);
    refused("USAGE-INVALID", &["--initdata", "-", "--hold"]);
    let empty = InitData::new(HashAlgorithm::Sha256, Default::default());
    refused("PLAN-INVALID", &["--initdata", &home.file("empty", empty.text())]);
}
