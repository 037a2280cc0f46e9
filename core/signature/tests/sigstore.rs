//! Keyless signatures of a whole fake Sigstore instance: cosign and we accept the same, and what is altered is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod sigstore_fake;

use std::process::Command;

use cocoon_image::Digest;
use cocoon_signature::sigstore::{Identity, Roots, Trust, statement, verify_blob, verify_bundle};
use rcgen::SanType;
use serde_json::{Value, json};

use sigstore_fake::{EMAIL, Fake, Logged, OIDC, b64, hashedrekord, now, p256, sha256};

const BLOB: &[u8] = b"what is signed";

fn trust_of(root: &Value, identity: Identity) -> Trust {
    Trust::keyless(Roots::from_trusted_root(root.to_string().as_bytes()).unwrap(), identity).unwrap()
}

fn trust(fake: &Fake) -> Trust {
    trust_of(&fake.trusted_root(), Identity::email(OIDC, EMAIL).unwrap())
}

fn blob(trust: &Trust, bundle: &Value, at: u64) -> Result<(), String> {
    verify_blob(trust, bundle.to_string().as_bytes(), BLOB, at).map(|_| ()).map_err(|e| e.to_string())
}

fn image(trust: &Trust, bundle: &Value, digest: &Digest, at: u64) -> Result<(), String> {
    verify_bundle(trust, bundle.to_string().as_bytes(), &[*digest], at).map(|_| ()).map_err(|e| e.to_string())
}

/// Whether cosign is there.
fn cosign() -> bool {
    let there = Command::new("cosign").arg("version").output().is_ok_and(|o| o.status.success());
    if !there {
        println!("skipped: no cosign");
    }
    there
}

fn cosign_verifies(root: &Value, bundle: &Value, statement: bool) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let root = write("root.json", root.to_string().as_bytes());
    let bundle = write("bundle.json", bundle.to_string().as_bytes());
    let blob = write("blob", BLOB);
    let mut command = Command::new("cosign");
    if statement {
        command.args(["verify-blob-attestation", "--type", "https://sigstore.dev/cosign/sign/v1"]);
    } else {
        command.arg("verify-blob");
    }
    command.args(["--certificate-identity", EMAIL, "--certificate-oidc-issuer", OIDC]);
    command.args(["--bundle", &bundle, "--trusted-root", &root, &blob]).env("HOME", dir.path());
    let output = command.output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn cosign_and_we_accept_the_same_bundles() {
    let fake = Fake::new(now() - 3600);
    let signer = fake.certify(&fake.leaf());
    let digest = Digest::sha256(BLOB);
    let cosign = cosign();
    for (size, index) in [(1, 0), (7, 3), (8, 7), (13, 12)] {
        let message = fake.message_bundle(&signer, BLOB, size, index);
        blob(&trust(&fake), &message, now()).unwrap();
        image(&trust(&fake), &message, &digest, now()).unwrap();
        let statement = fake.statement_bundle(&signer, &statement(&digest), size, index);
        image(&trust(&fake), &statement, &digest, now()).unwrap();
        if cosign {
            cosign_verifies(&fake.trusted_root(), &message, false).unwrap();
            cosign_verifies(&fake.trusted_root(), &statement, true).unwrap();
        }
    }
}
