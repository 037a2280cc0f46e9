//! An image's owner encrypts its layers as disks: a node keeps and attaches them but reads nothing of them, and they open
//! where Trustee releases their key.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::fs;
use std::io::{BufReader, Read};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use cocoon_http::Options;
use cocoon_image::media_type::SHARED_ENCRYPTED;
use cocoon_image::{Descriptor, Digest, Document, Limits, Manifest, Reference};
use cocoon_registry::{Auth, Client};
use cocoon_stage::Code;
use cocoon_tests::{Home, Layout, Outcome, Registry, run};

const TREASURE: &str = "the model weights, say";
const LINES: usize = 4096;
const KEY: &str = "default/image-key/demo";
const KEY_ID: &str = "kbs:///default/image-key/demo";
/// Tells what the treasure is, how long, and whether it could be read to its end.
const LOOK: &str = "cat /data/over; head -n 1 /data/treasure; wc -c < /data/treasure; cat /data/treasure > /dev/null; \
                    echo status=$?";

/// What the container prints.
fn seen() -> String {
    format!("over\n{TREASURE}\n{}\nstatus=0\n", treasure().len())
}

/// Content that fills blocks of its own, so that metadata stays readable where it is altered.
fn treasure() -> String {
    format!("{TREASURE}\n").repeat(LINES)
}

fn refused(home: &Home, outcome: &Outcome, code: Code, stage: &str) {
    let refusal = outcome.json_refusal().unwrap();
    assert_eq!(refusal.code, code.as_str(), "{}", outcome.stderr);
    assert_eq!((refusal.stage.as_str(), refusal.next.as_str()), (stage, code.next_step()));
    assert_eq!(outcome.text(), "", "the workload ran");
    assert_eq!(home.left(Duration::from_secs(5)).unwrap(), Vec::<String>::new());
}

fn raw(reference: &str) -> Vec<u8> {
    run("skopeo", ["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]).unwrap()
}

fn layers(reference: &str) -> Vec<Descriptor> {
    Manifest::parse(&raw(reference)).unwrap().layers
}

fn blob(registry: &Registry, digest: &Digest) -> Vec<u8> {
    let hex = digest.hex();
    fs::read(registry.blobs().join("sha256").join(&hex[..2]).join(hex).join("data")).unwrap()
}

/// An image of two layers, the lower of which holds the treasure.
fn pushed(registry: &Registry) -> String {
    let treasure = treasure();
    let layout =
        Layout::busybox(&["/bin/sh", "-c", LOOK], &[("/data/treasure", treasure.as_bytes())]).unwrap();
    layout.layer(&[("/data/over", b"over\n")], &[]).unwrap();
    layout.push(registry, "demo:plain").unwrap()
}

/// The node's file of an encrypted layer: what the registry has, and a hash tree.
fn cached(home: &Home, cipher: &[u8]) -> PathBuf {
    let folder = home.data().join("layers/layers");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of: Vec<PathBuf> = files.filter(|file| fs::read(file).unwrap().starts_with(cipher)).collect();
    assert_eq!(of.len(), 1, "{of:?}");
    of[0].clone()
}

/// Where the last line of the treasure lies in the layer's image.
fn place_of_treasure(packed: &[u8]) -> u64 {
    let tar = BufReader::new(flate2::read::GzDecoder::new(packed));
    let mut image = tempfile::tempfile().unwrap();
    cocoon_erofs::build(tar, &image, &Limits::default()).unwrap();
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut image).unwrap();
    image.read_to_end(&mut bytes).unwrap();
    let at = bytes.windows(TREASURE.len()).rposition(|w| w == TREASURE.as_bytes()).unwrap();
    u64::try_from(at).unwrap()
}

#[test]
fn a_node_shares_encrypted_layers_that_only_guests_with_the_key_read() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let plain = pushed(&registry);
    let sealed = registry.reference("demo:sealed");
    let encrypt = ["image", "encrypt", "--layers", "shared", "--key-id", KEY_ID, &plain, &sealed];
    home.succeed(encrypt).unwrap();
    let ciphers = layers(&sealed);
    assert!(ciphers.len() == 2 && ciphers.iter().all(|l| l.media_type == SHARED_ENCRYPTED), "{ciphers:?}");

    let name = home.file("owner").display().to_string();
    home.succeed(["image", "keygen", &name]).unwrap();
    let (private, public) = (format!("{name}.key"), format!("{name}.pub"));
    let with = ["--json", "--layers", "shared", "--require-signature", &public, &sealed];
    let unsigned = home.run_vm(with).unwrap();
    refused(&home, &unsigned, Code::ImageSignatureMissing, "pull");
    home.succeed(["image", "sign", "--key", &private, &sealed]).unwrap();

    let good = home.run_vm(&with[1..]).unwrap();
    assert_eq!((good.status, good.text()), (Some(0), seen()), "{}", good.stderr);
    // The node has both layers, and neither the key nor a word of what is in them.
    let cipher = blob(&registry, &ciphers[0].digest);
    let file = cached(&home, &cipher);
    assert_eq!(home.files_with(TREASURE).unwrap(), Vec::<PathBuf>::new());

    // One bit of a block of the treasure.
    let at = place_of_treasure(&blob(&registry, &layers(&plain)[0].digest));
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let open = fs::File::options().write(true).open(&file).unwrap();
    open.write_all_at(&[cipher[usize::try_from(at).unwrap()] ^ 1], at).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o400)).unwrap();
    drop(open);
    let bad = home.run_vm(&with[1..]).unwrap();
    assert!(bad.text().ends_with("status=1\n"), "{}\n{}", bad.text(), bad.stderr);
    assert!(bad.stderr.contains(Code::ImageLayerTampered.as_str()), "{}", bad.stderr);

    // Another key under the same name, then none.
    home.succeed(["secret", "set", KEY, &"k".repeat(32)]).unwrap();
    let other = home.run_vm(with).unwrap();
    refused(&home, &other, Code::ImageUndecryptable, "pull");
    home.succeed(["secret", "rm", KEY]).unwrap();
    let keyless = home.run_vm(with).unwrap();
    refused(&home, &keyless, Code::ImageKeyUnavailable, "pull");

    // The other way is refused before anything boots.
    let archive = home.cocoon(["run", "--accel", "tcg", "--json", &sealed]).unwrap();
    refused(&home, &archive, Code::UsageInvalid, "plan");
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_in_the_clear_lie_below_encrypted_ones_and_keys_are_not_exchanged() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let plain = pushed(&registry);
    let (mixed, sealed) = (registry.reference("demo:mixed"), registry.reference("demo:sealed"));
    let encrypt = ["image", "encrypt", "--layers", "shared", "--key-id", KEY_ID];
    home.succeed([&encrypt[..], &["--layer", "-1", &plain, &mixed]].concat()).unwrap();
    home.succeed([&encrypt[..], &[&plain, &sealed]].concat()).unwrap();
    let with = ["--layers", "shared", "--allow-resource", KEY];
    let good = home.run_vm([&with[..], &[&mixed]].concat()).unwrap();
    assert_eq!((good.status, good.text()), (Some(0), seen()), "{}", good.stderr);

    // Keys that Trustee releases, of the wrong layers: the blocks are right, what they become is noise.
    let mut manifest = Manifest::parse(&raw(&sealed)).unwrap();
    let [lower, upper] = &mut manifest.layers[..] else { panic!("two layers") };
    std::mem::swap(&mut lower.annotations, &mut upper.annotations);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    assert!(matches!(Document::parse(&bytes), Ok(Document::Manifest(_))));
    let client = Client::new(cocoon_http::Client::new(Options::default()).unwrap(), Auth::anonymous());
    let crossed = registry.reference("demo:crossed");
    let reference = Reference::parse(&crossed).unwrap();
    client.push_manifest(&reference, &manifest.media_type, bytes.into()).await.unwrap();
    let noise = home.run_vm([&["--json"], &with[..], &[&crossed]].concat()).unwrap();
    refused(&home, &noise, Code::ImageUndecryptable, "pull");
}
