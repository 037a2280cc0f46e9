//! What skopeo signs with GnuPG is found in a look-aside place and accepted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::path::{Path, PathBuf};

use cocoon_image::Digest;
use cocoon_signature::simple::SigstoreD;
use cocoon_signatures::Places;
use cocoon_stage::Code;
use common::{Registry, Web, base64, has, run};
use serde_json::{Value, json};

/// A GnuPG home whose agent ends with it.
struct Gpg(PathBuf);

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = std::process::Command::new("gpgconf")
            .arg("--homedir")
            .arg(&self.0)
            .args(["--kill", "all"])
            .status();
    }
}

impl Gpg {
    fn new(registry: &Registry, names: &[&str]) -> Gpg {
        use std::os::unix::fs::PermissionsExt as _;
        let gpg = Gpg(registry.dir("gnupg"));
        std::fs::set_permissions(&gpg.0, std::fs::Permissions::from_mode(0o700)).unwrap();
        for name in names {
            gpg.run(&["--passphrase", "", "--quick-generate-key", name, "rsa2048", "sign", "never"]);
        }
        gpg
    }

    fn run(&self, args: &[&str]) -> Vec<u8> {
        let args = [&["--batch", "--quiet", "--pinentry-mode", "loopback"], args].concat();
        run("gpg", &args, &[("GNUPGHOME", &self.0)], &self.0)
    }

    fn requirement(&self, name: &str) -> Value {
        let ring = self.run(&["--export", name]);
        json!({"type": "signedBy", "keyType": "GPGKeys", "keyData": base64(ring)})
    }
}

/// Signs the image with skopeo, into the folder.
fn sign(registry: &Registry, gpg: &Gpg, name: &str, staging: &Path) {
    let settings = registry.dir("registries.d");
    let at = staging.display();
    // What is there already is read and written again.
    let text = format!("default-docker:\n  sigstore: file://{at}\n  sigstore-staging: file://{at}\n");
    std::fs::write(settings.join("default.yaml"), text).unwrap();
    let image = format!("docker://{}/app:v1", registry.address);
    let settings = settings.display().to_string();
    let args = [
        "--insecure-policy",
        "--registries.d",
        &settings,
        "copy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--sign-by",
        name,
        &image,
        &image,
    ];
    run("skopeo", &args, &[("GNUPGHOME", &gpg.0)], staging);
}

fn places(text: &str, files: bool) -> Places {
    Places { lookaside: Some(SigstoreD::parse(text).unwrap()), files }
}

#[tokio::test]
async fn detached_signatures_are_found_over_http_and_in_files() {
    let (true, true, Some(registry)) = (has("gpg"), has("skopeo"), Registry::start()) else { return };
    let gpg = Gpg::new(&registry, &["mine@a.example", "other@a.example"]);
    let (mine, other) = (gpg.requirement("mine@a.example"), gpg.requirement("other@a.example"));
    let digest = registry.push("image").await;
    let staging = registry.dir("staging");
    let web = Web::serve(staging.clone(), None);
    let over_http = places(&format!("default-docker:\n  lookaside: http://{}/\n", web.address), false);
    let text = format!("default-docker:\n  sigstore: file://{}\n", staging.display());
    let (in_files, forbidden) = (places(&text, true), places(&text, false));

    for place in [&over_http, &in_files] {
        let e = registry.decide(digest, mine.clone(), place).await.unwrap_err();
        assert_eq!(e.code, Code::ImageSignatureMissing, "{e}");
    }
    sign(&registry, &gpg, "other@a.example", &staging);
    for place in [&over_http, &in_files] {
        registry.decide(digest, other.clone(), place).await.unwrap();
        let e = registry.decide(digest, mine.clone(), place).await.unwrap_err();
        assert_eq!(e.code, Code::ImageSignatureInvalid, "{e}");
    }
    // The second signature lies beside the first.
    sign(&registry, &gpg, "mine@a.example", &staging);
    for place in [&over_http, &in_files] {
        registry.decide(digest, mine.clone(), place).await.unwrap();
    }
    let path = format!("/app@sha256={}/signature-", digest.hex());
    let asked = web.asked.lock().unwrap().clone();
    assert!(asked.contains(&format!("{path}2")) && asked.last() == Some(&format!("{path}3")), "{asked:?}");
    for (folder, good) in [("moved", true), ("circle", false)] {
        let text = format!("default-docker:\n  lookaside: http://{}/{folder}\n", web.address);
        let decided = registry.decide(digest, mine.clone(), &places(&text, false)).await;
        assert_eq!(
            decided.map_err(|e| e.code).err(),
            (!good).then_some(Code::ImageRegistryAnswer),
            "{folder}"
        );
    }
    let e = registry.decide(digest, mine.clone(), &forbidden).await.unwrap_err();
    assert_eq!(e.code, Code::ImageRegistryAnswer, "{e}");
    let e = registry.decide(digest, mine.clone(), &Places::default()).await.unwrap_err();
    assert_eq!(e.code, Code::ImageSignatureMissing, "{e}");

    // A broken first signature hides no good second; too long counts as broken.
    let first = staging.join(format!("app@sha256={}/signature-1", digest.hex()));
    for broken in [b"garbage".to_vec(), Vec::new(), vec![0; 1 << 20]] {
        std::fs::write(&first, broken).unwrap();
        registry.decide(digest, mine.clone(), &over_http).await.unwrap();
        let e = registry.decide(digest, other.clone(), &over_http).await.unwrap_err();
        assert_eq!(e.code, Code::ImageSignatureInvalid, "{e}");
    }
    // Signatures of one image are not another's.
    let second = registry.push("second").await;
    let shown = staging.join(format!("app@sha256={}", second.hex()));
    std::fs::create_dir_all(&shown).unwrap();
    std::fs::copy(first.with_file_name("signature-2"), shown.join("signature-1")).unwrap();
    let e = registry.decide(second, mine.clone(), &over_http).await.unwrap_err();
    assert_eq!(e.code, Code::ImageSignatureInvalid, "{e}");
    assert!(e.reason.contains("another image"), "{e}");
}

#[tokio::test]
async fn skopeo_takes_what_is_taken_here_and_the_other_way_round() {
    let (true, true, Some(registry)) = (has("gpg"), has("skopeo"), Registry::start()) else { return };
    let gpg = Gpg::new(&registry, &["mine@a.example"]);
    let dir = registry.dir("standalone");
    let manifest = br#"{"schemaVersion":2}"#;
    std::fs::write(dir.join("manifest.json"), manifest).unwrap();
    let listed = gpg.run(&["--with-colons", "--list-keys"]);
    let listed = String::from_utf8(listed).unwrap();
    let fingerprint = listed.lines().find(|l| l.starts_with("fpr:")).unwrap().split(':').nth(9).unwrap();
    let env = [("GNUPGHOME", gpg.0.as_path())];
    let name = "a.example/app:v1";
    run("skopeo", &["standalone-sign", "manifest.json", name, fingerprint, "-o", "sig"], &env, &dir);
    let keyring = cocoon_signature::simple::Keyring::parse(&gpg.run(&["--export"])).unwrap();
    let message = std::fs::read(dir.join("sig")).unwrap();
    let claim = cocoon_signature::simple::verify(&keyring, &message, common::now() + 2).unwrap();
    assert_eq!((claim.reference.as_str(), claim.digest), (name, Digest::sha256(manifest)));
    assert_eq!(claim.signer, fingerprint);
    run("skopeo", &["standalone-verify", "manifest.json", name, fingerprint, "sig"], &env, &dir);
}

#[tokio::test]
async fn a_place_that_fails_is_not_one_without_signatures() {
    let (true, Some(registry)) = (has("gpg"), Registry::start()) else { return };
    let gpg = Gpg::new(&registry, &["mine@a.example"]);
    let mine = gpg.requirement("mine@a.example");
    let digest = registry.push("image").await;
    for (status, expected) in [
        ("503 Service Unavailable", Code::ImageRegistryUnreachable),
        ("403 Forbidden", Code::ImageRegistryAnswer),
        ("302 Found", Code::ImageRegistryAnswer),
        ("404 Not Found", Code::ImageSignatureMissing),
        // Everything is a signature, an empty one, without end.
        ("200 OK", Code::ImageSignatureInvalid),
    ] {
        let web = Web::serve(registry.dir("web"), Some(status));
        let place = places(&format!("default-docker:\n  lookaside: http://{}\n", web.address), false);
        let e = registry.decide(digest, mine.clone(), &place).await.unwrap_err();
        assert_eq!(e.code, expected, "{status}: {e}");
        assert!(web.asked.lock().unwrap().len() <= cocoon_signatures::MAX_SIGNATURES);
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let place = places(&format!("default-docker:\n  lookaside: http://{closed}\n"), false);
    let e = registry.decide(digest, mine, &place).await.unwrap_err();
    assert_eq!(e.code, Code::ImageRegistryUnreachable, "{e}");
}
