//! What bundles of the fake instance are checked with: our code, and cosign where it is installed.

use std::process::Command;

use cocoon_image::Digest;
use cocoon_signature::sigstore::{Identity, Roots, Trust, verify_blob, verify_bundle};
use serde_json::Value;

use super::{EMAIL, Fake, Leaf, OIDC, now};

pub const BLOB: &[u8] = b"what is signed";

pub fn trust_of(root: &Value, identity: Identity) -> Trust {
    Trust::keyless(Roots::from_trusted_root(root.to_string().as_bytes()).unwrap(), identity).unwrap()
}

pub fn trust(fake: &Fake) -> Trust {
    trust_of(&fake.trusted_root(), Identity::email(OIDC, EMAIL).unwrap())
}

pub fn blob(trust: &Trust, bundle: &Value, at: u64) -> Result<(), String> {
    verify_blob(trust, bundle.to_string().as_bytes(), BLOB, at).map(|_| ()).map_err(|e| e.to_string())
}

pub fn image(trust: &Trust, bundle: &Value, digest: &Digest, at: u64) -> Result<(), String> {
    verify_bundle(trust, bundle.to_string().as_bytes(), &[*digest], at).map(|_| ()).map_err(|e| e.to_string())
}

/// Whether cosign is there.
pub fn cosign() -> bool {
    let there = Command::new("cosign").arg("version").output().is_ok_and(|o| o.status.success());
    if !there {
        println!("skipped: no cosign");
    }
    there
}

/// Whether cosign accepts the bundle.
pub fn cosign_verifies(root: &Value, bundle: &Value, statement: bool) -> Result<(), String> {
    run_cosign(root, bundle, statement, &[])
}

pub fn run_cosign(root: &Value, bundle: &Value, statement: bool, more: &[&str]) -> Result<(), String> {
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
    command.args(more).args(["--bundle", &bundle, "--trusted-root", &root, &blob]).env("HOME", dir.path());
    let output = command.output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// One alteration: what is checked against what, and which words explain the refusal.
pub struct Case {
    pub name: &'static str,
    pub root: Value,
    pub identity: Identity,
    pub bundle: Value,
    pub now: u64,
    pub why: &'static str,
}

impl Case {
    pub fn of(fake: &Fake, name: &'static str, bundle: Value, why: &'static str) -> Self {
        let identity = Identity::email(OIDC, EMAIL).unwrap();
        Case { name, root: fake.trusted_root(), identity, bundle, now: fake.at + 3600, why }
    }

    pub fn is_refused(&self) {
        let e =
            blob(&trust_of(&self.root, self.identity.clone()), &self.bundle, self.now).expect_err(self.name);
        assert!(e.contains(self.why), "{}: {e}", self.name);
    }
}

impl Case {
    /// The refusal may come from more than one check.
    pub fn loosely(mut self) -> Self {
        self.why = "";
        self
    }
}

pub fn bundle_of(fake: &Fake, change: impl FnOnce(&mut Leaf)) -> Value {
    let mut leaf = fake.leaf();
    change(&mut leaf);
    fake.message_bundle(&fake.certify(&leaf), BLOB, 7, 3)
}

pub fn refused(cases: &[Case]) {
    for case in cases {
        case.is_refused();
    }
    if cosign() {
        for case in
            cases.iter().filter(|c| c.now <= now() && c.identity == Identity::email(OIDC, EMAIL).unwrap())
        {
            let verdict = cosign_verifies(&case.root, &case.bundle, false);
            if verdict.is_ok() {
                println!("stricter than cosign: {}", case.name);
            }
        }
    }
}

pub fn base64_of(value: &Value) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap()
}
