//! Debian's docker-registry as a registry with users and as a pull-through mirror, and what `oras` attaches there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cocoon_image::registries::Registries;
use cocoon_image::{Descriptor, Digest, Reference};
use cocoon_registry::{Auth, Client, Credentials, Error, Retry};
use cocoon_stage::{Code, Failure};
use serde_json::json;
use tempfile::TempDir;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// `user` with the password `pass:word`.
const HTPASSWD: &str = "user:$2b$05$abcdefghijklmnopqrstuuDIEddBSuRWBBEY6g5zv60IAP5bSSfki\n";
/// Kills the registry when our end of standard input closes, however this process ends.
const KEEPER: &str = r#""$@" & pid=$!; cat >/dev/null; kill -9 $pid; wait $pid 2>/dev/null"#;

struct Registry {
    keeper: Child,
    address: String,
    _folder: TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn is_installed(tool: &str) -> bool {
    let found =
        std::env::var_os("PATH").is_some_and(|p| std::env::split_paths(&p).any(|d| d.join(tool).is_file()));
    if !found {
        println!("skipped: {tool} is not installed");
    }
    found
}

/// Starts one with further lines of configuration; `{folder}` in them is its folder.
fn start(more: &str) -> Registry {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    std::fs::write(folder.path().join("htpasswd"), HTPASSWD).unwrap();
    let config = format!(
        "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: '{path}/blobs'}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n{}",
        more.replace("{folder}", &path)
    );
    std::fs::write(folder.path().join("config.yml"), config).unwrap();
    let mut keeper = Command::new("sh")
        .args(["-c", KEEPER, "keeper", "docker-registry", "serve"])
        .arg(folder.path().join("config.yml"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(keeper.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening on 127.0.0.1:") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "docker-registry did not start");
    }
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    let port: String = line
        .split("listening on 127.0.0.1:")
        .nth(1)
        .unwrap()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    Registry { keeper, address: format!("127.0.0.1:{port}"), _folder: folder }
}

const USERS: &str = "auth: {htpasswd: {realm: test, path: '{folder}/htpasswd'}}\n";

fn client(auth: Auth) -> Client {
    let http = cocoon_http::Client::new(cocoon_http::Options::default()).unwrap();
    Client::new(http, auth).with_retry(Retry { pause: Duration::from_millis(5), ..Retry::default() })
}

fn user(registry: &Registry, password: &str) -> Auth {
    Auth::anonymous().with(&registry.address, Credentials::new("user", password))
}

fn code(e: Error) -> Code {
    Failure::from(e).code
}

/// Pushes an image of one layer; gives its digest and its layer.
async fn push(client: &Client, reference: &Reference) -> (Digest, Descriptor) {
    let layer = client.push_blob(reference, "layer".into()).await.unwrap();
    let config = client.push_blob(reference, "{}".into()).await.unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 5}]});
    let digest = client.push_manifest(reference, MANIFEST, manifest.to_string().into()).await.unwrap();
    (digest, Descriptor::new("", layer, 5))
}

#[tokio::test]
async fn users_push_and_pull_and_others_do_not() {
    if !is_installed("docker-registry") {
        return;
    }
    let r = start(USERS);
    let reference = Reference::parse(&format!("{}/team/app:v1", r.address)).unwrap();
    let json = json!({"auths": {format!("{}/team", r.address): {"auth": "dXNlcjpwYXNzOndvcmQ="},
                                r.address.clone(): {"username": "user", "password": "wrong"}}});
    let good = client(Auth::from_json(&json.to_string()).unwrap());
    let (digest, layer) = push(&good, &reference).await;
    assert_eq!(good.resolve(&reference).await.unwrap().0, digest);
    assert_eq!(good.blob_bytes(&reference, &layer, 10).await.unwrap(), "layer");
    for bad in [Auth::anonymous(), user(&r, "wrong")] {
        assert_eq!(code(client(bad).resolve(&reference).await.unwrap_err()), Code::ImageUnauthorized);
    }
}

#[tokio::test]
async fn a_pull_through_mirror_serves_until_it_is_gone() {
    if !is_installed("docker-registry") {
        return;
    }
    let original = start("");
    let mirror = start(&format!("{USERS}proxy: {{remoteurl: 'http://{}'}}\n", original.address));
    let pushed = Reference::parse(&format!("{}/base/app:v1", original.address)).unwrap();
    let (digest, layer) = push(&client(Auth::anonymous()), &pushed).await;

    let conf = format!(
        "[[registry]]\nprefix='r.test/team'\nlocation='{}/base'\n[[registry.mirror]]\nlocation='{}/base'",
        original.address, mirror.address
    );
    let registries = Registries::parse(&conf).unwrap();
    let reference = Reference::parse("r.test/team/app:v1").unwrap();
    let c = client(user(&mirror, "pass:word")).with_registries(registries.clone());
    assert_eq!(c.resolve(&reference).await.unwrap().0, digest);
    assert!(c.manifest(&reference, &digest).await.is_ok());
    assert_eq!(c.blob_bytes(&reference, &layer, 10).await.unwrap(), "layer");
    let e = c.manifest(&reference, &Digest::sha256(b"absent")).await.unwrap_err();
    assert!(e.to_string().contains(&mirror.address), "{e}");
    assert_eq!(code(e), Code::ImageNotFound);

    // A mirror that wants a password we have not got is passed over.
    let stranger = client(Auth::anonymous()).with_registries(registries.clone());
    assert_eq!(stranger.resolve(&reference).await.unwrap().0, digest);
    // The mirror has kept what it fetched.
    drop(original);
    let c = client(user(&mirror, "pass:word")).with_registries(registries.clone());
    assert!(c.manifest(&reference, &digest).await.is_ok());
    assert_eq!(c.blob_bytes(&reference, &layer, 10).await.unwrap(), "layer");
    let e = stranger.manifest(&reference, &digest).await.unwrap_err();
    assert_eq!(code(e), Code::ImageRegistryUnreachable);
    drop(mirror);
    let c = client(Auth::anonymous()).with_registries(registries);
    let e = c.blob_bytes(&reference, &layer, 10).await.unwrap_err();
    assert!(e.to_string().contains("mirrors before it"), "{e}");
    assert_eq!(code(e), Code::ImageRegistryUnreachable);
}

#[tokio::test]
async fn what_oras_attaches_is_found_and_what_we_attach_oras_finds() {
    if !is_installed("docker-registry") || !is_installed("oras") {
        return;
    }
    let r = start("");
    let reference = Reference::parse(&format!("{}/app:v1", r.address)).unwrap();
    let c = client(Auth::anonymous());
    let (digest, _) = push(&c, &reference).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sbom.txt"), "sbom").unwrap();
    let oras = |arguments: &[&str]| {
        let out = Command::new("oras")
            .args(arguments)
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let image = format!("{}/app@{digest}", r.address);
    oras(&["attach", "--plain-http", "--artifact-type", "application/x-sbom", &image, "sbom.txt:text/plain"]);
    let found = c.referrers(&reference, &digest, Some("application/x-sbom")).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(c.referrers(&reference, &digest, Some("application/x-other")).await.unwrap().is_empty());

    let empty = c.push_blob(&reference, "{}".into()).await.unwrap();
    let ours = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x-ours",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2}],
        "subject": {"mediaType": MANIFEST, "digest": digest, "size": 1}});
    let entry = c.push_referrer(&reference, MANIFEST, ours.to_string().into()).await.unwrap();
    assert_eq!(c.referrers(&reference, &digest, None).await.unwrap().len(), 2);
    let listed = oras(&["discover", "--plain-http", "--format", "json", &image]);
    assert!(listed.contains(&entry.digest.to_string()) && listed.contains("application/x-sbom"), "{listed}");
}
