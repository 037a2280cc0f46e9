//! An image's owner encrypts and signs it; it runs where Trustee releases its key and its signature is the required
//! one, and nowhere else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::fs;
use std::time::Duration;

use cocoon_image::{Digest, Manifest};
use cocoon_stage::Code;
use cocoon_tests::{Home, Layout, Outcome, Registry, run};

/// What the layer holds in plain text.
const TREASURE: &str = "the model weights, say";
const KEY_ID: &str = "kbs:///default/image-key/demo";

fn refused(home: &Home, outcome: &Outcome, code: Code) {
    let refusal = outcome.json_refusal().unwrap();
    assert_eq!(refusal.code, code.as_str(), "{}", outcome.stderr);
    assert_eq!((refusal.stage.as_str(), refusal.next.as_str()), ("pull", code.next_step()));
    assert_eq!(outcome.status, Some(125), "{}", outcome.stderr);
    assert_eq!(outcome.text(), "", "the workload ran");
    assert_eq!(home.left(Duration::from_secs(5)).unwrap(), Vec::<String>::new());
}

fn manifest(reference: &str) -> Manifest {
    let raw = run("skopeo", ["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]);
    Manifest::parse(&raw.unwrap()).unwrap()
}

/// An image with the treasure in a layer, pushed as `demo:plain`.
fn pushed(registry: &Registry) -> String {
    let layout = Layout::busybox(&["/bin/cat", "/data/treasure"], &[("/data/treasure", TREASURE.as_bytes())]);
    layout.unwrap().push(registry, "demo:plain").unwrap()
}

/// Flips a bit in the middle of a blob, where the registry keeps it.
fn alter(registry: &Registry, digest: &Digest) {
    let file = registry.blobs().join("sha256").join(&digest.hex()[..2]).join(digest.hex()).join("data");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
}

#[test]
fn an_encrypted_image_runs_only_with_its_key_and_unaltered() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let plain = pushed(&registry);
    let encrypted = registry.reference("demo:encrypted");
    home.succeed(["image", "encrypt", "--key-id", KEY_ID, &plain, &encrypted]).unwrap();
    let layers = manifest(&encrypted).layers;
    assert!(layers.iter().all(|l| l.media_type.ends_with("tar+gzip+encrypted")), "{layers:?}");

    let name = home.file("owner").display().to_string();
    home.succeed(["image", "keygen", &name]).unwrap();
    let (private, public) = (format!("{name}.key"), format!("{name}.pub"));
    home.succeed(["image", "sign", "--key", &private, &encrypted]).unwrap();
    home.succeed(["image", "verify", "--key", &public, &encrypted]).unwrap();

    let good = home.run_vm(["--require-signature", &public, &encrypted]).unwrap();
    assert_eq!((good.status, good.text().as_str()), (Some(0), TREASURE), "{}", good.stderr);

    // The key is gone: Trustee has nothing to release.
    assert!(home.succeed(["secret", "list"]).unwrap().contains("default/image-key/demo"));
    home.succeed(["secret", "rm", "default/image-key/demo"]).unwrap();
    let keyless = home.run_vm(["--json", "--require-signature", &public, &encrypted]).unwrap();
    refused(&home, &keyless, Code::ImageKeyUnavailable);

    // Encrypted anew, and altered at rest.
    let again = registry.reference("demo:again");
    home.succeed(["image", "encrypt", "--key-id", KEY_ID, &plain, &again]).unwrap();
    alter(&registry, &manifest(&again).layers[0].digest);
    // Its key is not for the asking: nobody vouches for the image.
    let unasked = home.run_vm(["--json", &again]).unwrap();
    refused(&home, &unasked, Code::ImageKeyUnavailable);
    let altered = home.run_vm(["--json", "--allow-resource", "default/image-key/demo", &again]).unwrap();
    refused(&home, &altered, Code::ImageDigestMismatch);
}

#[test]
fn an_image_without_the_required_signature_does_not_run() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let image = pushed(&registry);
    for name in ["owner", "stranger"] {
        home.succeed(["image", "keygen", &home.file(name).display().to_string()]).unwrap();
    }
    let owner = home.file("owner.pub").display().to_string();
    let stranger = home.file("stranger.key").display().to_string();

    let none = home.cocoon(["image", "verify", "--key", &owner, &image]).unwrap();
    assert_eq!(none.refusal().unwrap().code, Code::ImageSignatureMissing.as_str());
    let unsigned = home.run_vm(["--json", "--require-signature", &owner, &image]).unwrap();
    refused(&home, &unsigned, Code::ImageSignatureMissing);

    home.succeed(["image", "sign", "--key", &stranger, &image]).unwrap();
    let other = home.cocoon(["image", "verify", "--key", &owner, &image]).unwrap();
    assert_eq!(other.refusal().unwrap().code, Code::ImageSignatureInvalid.as_str());
    let foreign = home.run_vm(["--json", "--require-signature", &owner, &image]).unwrap();
    refused(&home, &foreign, Code::ImageSignatureInvalid);
}
