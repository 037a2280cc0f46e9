//! Notation: the real program's envelopes, of both formats and all algorithms.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod notation_help;

use std::path::Path;
use std::process::{Command, Stdio};

use cocoon_image::Digest;
use cocoon_signature::NotationEnvelope;
use cocoon_signature::notation::{COSE_TYPE, Claim, JWS_TYPE, Trust, verify};
use notation_help::{Ca, DAY, IDENTITY, ca, now, p256, refusal, trust};
use rcgen::KeyPair;
use serde_json::{Value, json};

/// Notation with a home of its own and an image layout in it.
struct Notation(tempfile::TempDir);

impl Notation {
    fn new() -> Option<Notation> {
        if Command::new("notation").arg("version").stdout(Stdio::null()).status().is_err() {
            println!("skipped: no notation");
            return None;
        }
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("notation")).unwrap();
        Some(Notation(home))
    }

    fn run(&self, args: &[&str]) {
        let out = Command::new("notation")
            .args(args)
            .env("XDG_CONFIG_HOME", self.0.path())
            .env("XDG_CACHE_HOME", self.0.path())
            .env("NOTATION_EXPERIMENTAL", "1")
            .output()
            .unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// Makes a key known to it.
    fn add(&self, ca: &Ca) {
        let (key, chain) = (self.0.path().join("k.key"), self.0.path().join("k.crt"));
        std::fs::write(&key, ca.key.serialize_pem()).unwrap();
        std::fs::write(&chain, format!("{}{}", ca.leaf_pem, ca.root_pem)).unwrap();
        let keys = json!({"default": "k", "keys": [{"name": "k", "keyPath": key, "certPath": chain}]});
        std::fs::write(self.0.path().join("notation/signingkeys.json"), keys.to_string()).unwrap();
    }

    /// Signs a fresh image and gives its digest and the envelope.
    fn sign(&self, more: &[&str]) -> (Digest, NotationEnvelope) {
        let layout = tempfile::tempdir_in(self.0.path()).unwrap();
        let digest = image(layout.path());
        let name = format!("{}@{digest}", layout.path().display());
        let mut args = vec!["sign", "--oci-layout", &name];
        args.extend(more);
        self.run(&args);
        for blob in std::fs::read_dir(layout.path().join("blobs/sha256")).unwrap() {
            let Ok(manifest) = serde_json::from_slice::<Value>(&std::fs::read(blob.unwrap().path()).unwrap())
            else {
                continue;
            };
            if manifest["config"]["mediaType"] == "application/vnd.cncf.notary.signature" {
                let layer = &manifest["layers"][0];
                let hex = layer["digest"].as_str().unwrap().replace("sha256:", "");
                let bytes = std::fs::read(layout.path().join("blobs/sha256").join(hex)).unwrap();
                let media_type = layer["mediaType"].as_str().unwrap().to_owned();
                return (digest, NotationEnvelope { media_type, bytes });
            }
        }
        panic!("no signature in the layout");
    }
}

/// Writes an image layout with one empty image.
fn image(dir: &Path) -> Digest {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = Digest::sha256(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        digest
    };
    let config = put(b"{}");
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2}, "layers": []})
    .to_string();
    let digest = put(manifest.as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest, "size": manifest.len(), "annotations": {"org.opencontainers.image.ref.name": "v1"}}]});
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    digest
}

fn check(claim: &Claim, digest: Digest) {
    assert_eq!(claim.digest, digest);
    assert_eq!(claim.media_type, "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(claim.annotations.get("build").map(String::as_str), Some("7"));
}

#[test]
fn notations_own_signatures_verify() {
    let Some(notation) = Notation::new() else { return };
    let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap();
    let ec = |algorithm| KeyPair::generate_for(algorithm).unwrap();
    for (what, key) in [
        ("RSA 2048", rsa(rcgen::RsaKeySize::_2048)),
        ("RSA 3072", rsa(rcgen::RsaKeySize::_3072)),
        ("RSA 4096", rsa(rcgen::RsaKeySize::_4096)),
        ("P-256", ec(&rcgen::PKCS_ECDSA_P256_SHA256)),
        ("P-384", ec(&rcgen::PKCS_ECDSA_P384_SHA384)),
        ("P-521", ec(&rcgen::PKCS_ECDSA_P521_SHA512)),
    ] {
        let ca = ca(key, |_| ());
        notation.add(&ca);
        for (format, kind) in [("jws", JWS_TYPE), ("cose", COSE_TYPE)] {
            let more = ["--signature-format", format, "--expiry", "24h", "--user-metadata", "build=7"];
            let (digest, envelope) = notation.sign(&more);
            assert_eq!(envelope.media_type, kind);
            let claim = verify(&trust(&ca), &envelope, now() + 1);
            check(&claim.unwrap_or_else(|e| panic!("{what} {format}: {e}")), digest);
            assert!(refusal(&trust(&ca), &envelope, now() + DAY + 10).contains("has expired"));
            let e = refusal(&trust(&ca), &envelope, now() - 3600);
            assert!(e.contains("future"), "{e}");
            let other = match format {
                "jws" => COSE_TYPE,
                _ => JWS_TYPE,
            };
            let wrong = NotationEnvelope { media_type: other.to_owned(), bytes: envelope.bytes.clone() };
            assert!(refusal(&trust(&ca), &wrong, now()).contains("malformed"));
        }
    }
}

#[test]
fn notations_test_certificate_is_a_root_of_itself() {
    let Some(notation) = Notation::new() else { return };
    notation.run(&["cert", "generate-test", "--default", "wabbit"]);
    let (digest, envelope) = notation.sign(&["--user-metadata", "build=7"]);
    let root = notation.0.path().join("notation/truststore/x509/ca/wabbit/wabbit.crt");
    let root = std::fs::read_to_string(root).unwrap();
    let trust = |identity: &str| Trust::new(std::slice::from_ref(&root), &[identity.to_owned()]).unwrap();
    let named = trust("x509.subject: C=US, ST=WA, L=Seattle, O=Notary, CN=wabbit");
    check(&verify(&named, &envelope, now() + 1).unwrap(), digest);
    verify(&trust("*"), &envelope, now() + 1).unwrap();
    assert!(refusal(&trust(IDENTITY), &envelope, now() + 1).contains("trusted identities"));
    assert!(refusal(&named, &envelope, now() + 2 * DAY).contains("not valid at the time"));
}

#[test]
fn no_altered_byte_verifies_as_something_else() {
    let Some(notation) = Notation::new() else { return };
    let ca = p256(|_| ());
    notation.add(&ca);
    for format in ["jws", "cose"] {
        let (digest, envelope) = notation.sign(&["--signature-format", format, "--user-metadata", "build=7"]);
        let trust = trust(&ca);
        let mut survivors = 0;
        for at in 0..envelope.bytes.len() {
            let mut altered = envelope.clone();
            altered.bytes[at] ^= 1 << (at % 8);
            if let Ok(claim) = verify(&trust, &altered, now() + 1) {
                check(&claim, digest);
                survivors += 1;
            }
            altered.bytes.truncate(at);
            assert!(verify(&trust, &altered, now() + 1).is_err(), "{format}: cut to {at}");
        }
        // Unsigned remarks, the root's copy in the envelope, which is not needed, and unused bits of base64.
        assert!(survivors < envelope.bytes.len() / 2, "{format}: {survivors} of {}", envelope.bytes.len());
        let mut longer = envelope.clone();
        longer.bytes.extend(b"{}");
        assert!(verify(&trust, &longer, now() + 1).is_err());
    }
}
