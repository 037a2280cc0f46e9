//! Signatures with keys in a real registry: cosign's are good here, ours are good there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cocoon_image::{Digest, Manifest, Reference};
use cocoon_signature::cosign::{
    Payload, SIGNATURE_ANNOTATION, bundle_for_key, bundle_manifest, sign, signature_manifest, signature_tag,
};
use cocoon_signature::policy::{Decision, Error, Requirement, SignedIdentity, SigstoreSigned, decide};
use cocoon_signature::sigstore::{Trust, verify_blob};
use cocoon_signature::{CosignSignature, Found, KeyPair, SigningKey, Subject};
use serde_json::Value;

/// A registry on loopback, and a place for files.
struct World {
    registry: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.registry.kill();
        let _ = self.registry.wait();
    }
}

const PASSWORD: &str = "correct horse";

impl World {
    /// `None` where a tool is absent.
    fn new() -> Option<Self> {
        for tool in ["docker-registry", "cosign", "crane"] {
            if Command::new(tool).arg("--help").output().is_err() {
                println!("skipped: no {tool}");
                return None;
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}/data}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n",
            dir.path().display()
        );
        std::fs::write(dir.path().join("config.yml"), config).unwrap();
        let registry = Command::new("docker-registry")
            .args(["serve", "config.yml"])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let world = World { registry, port, dir };
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "the registry does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(world)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn name(&self, tail: &str) -> String {
        format!("127.0.0.1:{}/{tail}", self.port)
    }

    fn run(&self, tool: &str, args: &[&str]) -> Result<Vec<u8>, String> {
        let output = Command::new(tool)
            .args(args)
            .current_dir(self.path())
            .env("HOME", self.path())
            .env("COSIGN_PASSWORD", PASSWORD)
            .output()
            .unwrap();
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// An image with one layer of these bytes.
    fn image(&self, tag: &str) -> (Reference, Digest) {
        let layer = self.path().join("layer.tar");
        let mut tar = vec![0u8; 1024];
        tar[..tag.len()].copy_from_slice(tag.as_bytes());
        std::fs::write(&layer, tar).unwrap();
        self.run("crane", &["append", "--new_layer", "layer.tar", "-t", &self.name(tag)]).unwrap();
        let digest = String::from_utf8(self.run("crane", &["digest", &self.name(tag)]).unwrap()).unwrap();
        (Reference::parse(&self.name(tag)).unwrap(), digest.trim().parse().unwrap())
    }

    fn manifest(&self, tail: &str) -> Option<Vec<u8>> {
        self.run("crane", &["manifest", &self.name(tail)]).ok()
    }

    fn blob(&self, repository: &str, digest: &Digest) -> Vec<u8> {
        self.run("crane", &["blob", &self.name(&format!("{repository}@{digest}"))]).unwrap()
    }

    /// What lies beside an image: cosign's tag, and the bundles in the index of its referrers.
    fn found(&self, repository: &str, image: &Digest) -> Found {
        let mut found = Found::default();
        if let Some(manifest) = self.manifest(&format!("{repository}:{}", signature_tag(image))) {
            for layer in Manifest::parse(&manifest).unwrap().layers {
                let payload = self.blob(repository, &layer.digest);
                let note = |name: &str| layer.annotations.get(name).cloned();
                found.cosign.push(CosignSignature {
                    payload,
                    signature: note(SIGNATURE_ANNOTATION).unwrap(),
                    bundle: note("dev.sigstore.cosign/bundle"),
                    ..CosignSignature::default()
                });
            }
        }
        let index = self.manifest(&format!("{repository}:{}", image.to_string().replace(':', "-")));
        let index: Value = serde_json::from_slice(&index.unwrap_or(b"{}".to_vec())).unwrap();
        for entry in index["manifests"].as_array().into_iter().flatten() {
            let tail = format!("{repository}@{}", entry["digest"].as_str().unwrap());
            let manifest: Value = serde_json::from_slice(&self.manifest(&tail).unwrap()).unwrap();
            let layer = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
            found.bundles.push(self.blob(repository, &layer));
        }
        found
    }

    fn put(&self, tail: &str, kind: &str, body: &[u8]) {
        use std::io::{Read as _, Write as _};
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!(
            "PUT {tail} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }

    fn put_blob(&self, repository: &str, body: &[u8]) {
        use std::io::{Read as _, Write as _};
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!(
            "POST /v2/{repository}/blobs/uploads/ HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            self.port
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let location = answer.lines().find_map(|l| l.strip_prefix("Location: ")).unwrap();
        let path = location.split_once(&self.port.to_string()).map_or(location, |(_, path)| path);
        let tail = format!("{path}&digest={}", Digest::sha256(body));
        self.put(&tail, "application/octet-stream", body);
    }

    fn put_manifest(&self, repository: &str, name: &str, body: &[u8]) {
        let kind: Value = serde_json::from_slice(body).unwrap();
        self.put(&format!("/v2/{repository}/manifests/{name}"), kind["mediaType"].as_str().unwrap(), body);
    }
}

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn decided(pem: &str, reference: &Reference, digest: Digest, found: &Found) -> Result<Decision, Error> {
    let requirement = Requirement::cosign_key(pem).unwrap();
    decide(&[requirement], &Subject { reference, digests: &[digest] }, found, 0)
}

fn decided_by_digest(
    pem: &str,
    reference: &Reference,
    digest: Digest,
    found: &Found,
) -> Result<Decision, Error> {
    let trust = Trust::keys(&[pem.to_owned()]).unwrap();
    let signed = SigstoreSigned { trust, identity: SignedIdentity::MatchDigestOnly };
    let subject = Subject { reference, digests: &[digest] };
    decide(&[Requirement::SigstoreSigned(signed)], &subject, found, 0)
}

#[test]
fn what_cosign_signs_with_a_key_is_good_here() {
    let Some(world) = World::new() else { return };
    world.run("cosign", &["generate-key-pair"]).unwrap();
    let read = |name: &str| std::fs::read_to_string(world.path().join(name)).unwrap();
    let public = read("cosign.pub");
    world.run("cosign", &["signing-config", "create", "--out", "no-log.json"]).unwrap();
    let (bundled, by_bundle) = world.image("bundled:1");
    let (tagged, by_tag) = world.image("tagged:1");
    let (_, unsigned) = world.image("other:1");
    let pinned = |reference: &Reference, digest: Digest| reference.with_digest(digest).to_string();
    let options = ["sign", "--key", "cosign.key", "-y", "--allow-insecure-registry"];
    let more = ["--signing-config", "no-log.json", &pinned(&bundled, by_bundle)];
    world.run("cosign", &[&options[..], &more].concat()).unwrap();
    let legacy = ["--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false"];
    world.run("cosign", &[&options[..], &legacy, &[&pinned(&tagged, by_tag)]].concat()).unwrap();

    // The sealed key opens here, and what it signs is its public half's.
    let sealed = read("cosign.key");
    let key = SigningKey::from_pem_with_password(&sealed, PASSWORD.as_bytes()).unwrap();
    assert_eq!(key.public_pem().unwrap().trim(), public.trim());
    let wrong = SigningKey::from_pem_with_password(&sealed, b"wrong").err().unwrap().to_string();
    assert!(wrong.contains("password is wrong") && SigningKey::from_pem(&sealed).is_err(), "{wrong}");

    std::fs::write(world.path().join("blob"), b"any bytes").unwrap();
    let blob = [
        "sign-blob",
        "--key",
        "cosign.key",
        "-y",
        "--signing-config",
        "no-log.json",
        "--bundle",
        "b.json",
        "blob",
    ];
    world.run("cosign", &blob).unwrap();
    let trust = Trust::keys(std::slice::from_ref(&public)).unwrap();
    verify_blob(&trust, read("b.json").as_bytes(), b"any bytes", 0).unwrap();
    assert!(verify_blob(&trust, read("b.json").as_bytes(), b"any byte", 0).is_err());

    let other = KeyPair::generate().unwrap().public_pem;
    // Cosign's bundle names no repository: alone its digest counts, and only where that is asked for.
    let found = world.found("bundled", &by_bundle);
    let e = decided(&public, &bundled, by_bundle, &found).unwrap_err().to_string();
    assert!(e.contains("names no repository"), "{e}");
    for (repository, reference, digest) in [("bundled", &bundled, by_bundle), ("tagged", &tagged, by_tag)] {
        let found = world.found(repository, &digest);
        let decided = |pem: &str, reference, digest, found: &Found| match repository {
            "tagged" => decided(pem, reference, digest, found),
            _ => decided_by_digest(pem, reference, digest, found),
        };
        assert_eq!(
            (found.cosign.len(), found.bundles.len()),
            if repository == "tagged" { (1, 0) } else { (0, 1) }
        );
        decided(&public, reference, digest, &found).unwrap();
        assert!(matches!(decided(&other, reference, digest, &found), Err(Error::Unsatisfied(_))));
        assert!(matches!(decided(&public, reference, unsigned, &found), Err(Error::Unsatisfied(_))));
    }
    let none = world.found("other", &unsigned);
    assert!(matches!(decided(&public, &tagged, unsigned, &none), Err(Error::Missing(_))));
}

#[test]
fn what_we_sign_with_a_key_is_good_there() {
    let Some(world) = World::new() else { return };
    let (pair, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    std::fs::write(world.path().join("own.pub"), &pair.public_pem).unwrap();
    std::fs::write(world.path().join("other.pub"), &other.public_pem).unwrap();
    let verify = |name: &str, key: &str, more: &str| {
        let options = ["verify", "--allow-insecure-registry", "--insecure-ignore-tlog", "--key", key, more];
        world.run("cosign", &[&options[..], &[&world.name(name)]].concat())
    };

    let (reference, digest) = world.image("bundled:1");
    let key = SigningKey::from_pem(&pair.private_pem).unwrap();
    let bundle = bundle_for_key(&key, &reference, &digest).unwrap();
    let image = world.manifest("bundled:1").unwrap();
    let subject = serde_json::json!({"mediaType": MANIFEST, "digest": digest, "size": image.len()});
    let subject = serde_json::from_value(subject).unwrap();
    let (config, manifest) = bundle_manifest(&subject, &bundle, "2026-01-01T00:00:00Z");
    world.put_blob("bundled", &bundle);
    world.put_blob("bundled", &config);
    let referrer = Digest::sha256(&manifest);
    world.put_manifest("bundled", &referrer.to_string(), &manifest);
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": referrer,
            "size": manifest.len(), "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json"}],
    });
    world.put_manifest("bundled", &digest.to_string().replace(':', "-"), index.to_string().as_bytes());
    verify("bundled:1", "own.pub", "--new-bundle-format").unwrap();
    assert!(verify("bundled:1", "other.pub", "--new-bundle-format").is_err());
    decided(&pair.public_pem, &reference, digest, &world.found("bundled", &digest)).unwrap();
    let elsewhere = Reference::parse("a.io/other:1").unwrap();
    assert!(decided(&pair.public_pem, &elsewhere, digest, &world.found("bundled", &digest)).is_err());

    let (reference, digest) = world.image("tagged:1");
    let payload = Payload::new(&reference, digest).to_json();
    let signature = sign(&pair.private_pem, &payload).unwrap();
    let (config, manifest) = signature_manifest(&[(payload.clone(), signature)]);
    world.put_blob("tagged", &payload);
    world.put_blob("tagged", &config);
    world.put_manifest("tagged", &signature_tag(&digest), &manifest);
    verify("tagged:1", "own.pub", "--new-bundle-format=false").unwrap();
    assert!(verify("tagged:1", "other.pub", "--new-bundle-format=false").is_err());
    decided(&pair.public_pem, &reference, digest, &world.found("tagged", &digest)).unwrap();
}
