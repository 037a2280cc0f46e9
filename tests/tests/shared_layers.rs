//! Layers that the node keeps as disks: a pod starts from them without pulling, sees what the image says, and reads
//! nothing that the host has altered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use cocoon_image::Manifest;
use cocoon_stage::Code;
use cocoon_tests::{Home, Job, Layout, Registry, run};

const TREASURE: &str = "the model weights, say";
/// What a container sees of three layers, the topmost of which deletes from the lower ones.
const LOOK: &str = "cat /data/treasure /data/over; ls /data /etc; stat -c '%a %u %s %Y %n' /bin/busybox /etc/passwd; stat -c '%a %u %n' /data; \
                    echo more > /data/new; cat /data/new; readlink -f /bin/sh 2>/dev/null; id";

fn manifest(reference: &str) -> Manifest {
    let raw = run("skopeo", ["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]);
    Manifest::parse(&raw.unwrap()).unwrap()
}

/// An image of five layers.
fn pushed(registry: &Registry, name: &str) -> String {
    let layout =
        Layout::busybox(&["/bin/sh", "-c", LOOK], &[("/data/treasure", TREASURE.as_bytes())]).unwrap();
    layout.layer(&[("/data/over", b"lower\n"), ("/data/gone", b"gone\n")], &[]).unwrap();
    layout.layer(&[("/data/over", b"upper\n")], &["/data/gone", "/etc/group"]).unwrap();
    layout.push(registry, name).unwrap()
}

/// The blobs of an image's layers vanish from the registry.
fn lose_layers(registry: &Registry, reference: &str) {
    for layer in manifest(reference).layers {
        let hex = layer.digest.hex();
        fs::remove_dir_all(registry.blobs().join("sha256").join(&hex[..2]).join(hex)).unwrap();
    }
}

/// Files of the node's cache that hold this text.
fn cached_with(home: &Home, text: &str) -> Vec<PathBuf> {
    let files = home.files_with(text).unwrap();
    files.into_iter().filter(|f| f.to_string_lossy().contains("layers")).collect()
}

#[test]
fn a_pod_starts_from_layers_that_the_node_keeps_and_sees_the_same_image() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let image = pushed(&registry, "demo:layers");

    let pulled = home.run_vm(["--layers", "guest", &image]).unwrap();
    assert_eq!(pulled.status, Some(0), "{}", pulled.stderr);
    assert!(pulled.text().contains(TREASURE) && pulled.text().contains("upper"), "{}", pulled.text());
    assert!(!pulled.text().contains("gone") && !pulled.text().contains("lower"), "{}", pulled.text());

    let shared = home.run_vm(["--layers", "shared", &image]).unwrap();
    assert_eq!(shared.status, Some(0), "{}", shared.stderr);
    assert_eq!(shared.text(), pulled.text(), "the two ways show different images");
    let listed = home.succeed(["layers", "list", "--json"]).unwrap();
    assert!(listed.contains("root"), "{listed}");

    // Nothing is pulled any more.
    lose_layers(&registry, &image);
    let again = home.run_vm(["--layers", "shared", &image]).unwrap();
    assert_eq!((again.status, again.text()), (Some(0), pulled.text()), "{}", again.stderr);
    let refused = home.run_vm(["--json", "--layers", "guest", &image]).unwrap();
    assert_eq!(refused.json_refusal().unwrap().code, Code::ImageNotFound.as_str());
    assert_eq!(home.left(Duration::from_secs(5)).unwrap(), Vec::<String>::new());
    home.succeed(["layers", "verify"]).unwrap();
}

#[test]
fn an_altered_block_is_an_error_and_an_event_and_never_data() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    // Content in blocks of its own, so that metadata stays readable.
    let treasure = format!("{TREASURE}\n").repeat(4096);
    let layout = Layout::busybox(
        &["/bin/sh", "-c", "cat /data/treasure | wc -c; cat /data/treasure > /dev/null; echo status=$?"],
        &[("/data/treasure", treasure.as_bytes())],
    );
    let image = layout.unwrap().push(&registry, "demo:altered").unwrap();
    let good = home.run_vm(["--layers", "shared", &image]).unwrap();
    assert_eq!(good.text(), format!("{}\nstatus=0\n", treasure.len()), "{}", good.stderr);

    let files = cached_with(&home, TREASURE);
    assert_eq!(files.len(), 1, "{files:?}");
    let mut bytes = fs::read(&files[0]).unwrap();
    let at = bytes.windows(TREASURE.len()).rposition(|w| w == TREASURE.as_bytes()).unwrap();
    bytes[at] ^= 1;
    fs::write(&files[0], bytes).unwrap();

    let bad = home.run_vm(["--layers", "shared", &image]).unwrap();
    assert!(bad.text().contains("status=1"), "{}\n{}", bad.text(), bad.stderr);
    assert!(!bad.text().contains(&treasure.len().to_string()), "altered data was read: {}", bad.text());
    assert!(bad.stderr.contains(Code::ImageLayerTampered.as_str()), "{}", bad.stderr);

    let verified = home.cocoon(["layers", "verify"]).unwrap();
    assert_ne!(verified.status, Some(0), "{}", verified.text());
}

#[test]
fn what_a_container_writes_to_the_scratch_disk_the_host_cannot_read() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let image = pushed(&registry, "demo:scratch");
    // The text itself stands in no command: the plan is no secret, and lies on a disk without a name too.
    let script = "i=0; while [ $i -lt 99 ]; do cat /data/treasure; i=$((i+1)); done > /data/big; /bin/busybox sync; \
         cat /data/over /data/treasure; wc -c /data/big; echo written; sleep 600";
    let mut job =
        Job::start_vm(home.run_command(["--scratch", "64M", &image, "--", "/bin/sh", "-c", script])).unwrap();
    job.wait_for_stdout("written", cocoon_tests::VM_LIMIT).unwrap();
    // The disk has no name. Whatever file without one the program and its VM have open is read.
    let own = rustix::process::Pid::from_raw(job.pid().try_into().unwrap()).unwrap();
    let mut written = 0;
    for pid in home.vms().into_iter().chain([own]) {
        for file in Home::unnamed_files(pid).unwrap() {
            let bytes = fs::read(&file).unwrap();
            written += bytes.chunks(4096).filter(|c| c.iter().any(|b| *b != 0)).count();
            let found = bytes.windows(TREASURE.len()).any(|w| w == TREASURE.as_bytes());
            let link = fs::read_link(&file);
            assert!(!found, "the host reads the scratch disk: {link:?}, {} bytes", bytes.len());
        }
    }
    // At the least the layers (busybox) and what the container wrote.
    assert!(written > 256, "{written} blocks of the scratch disk hold anything: it was not found");
    let readable: Vec<_> =
        home.files_with(TREASURE).unwrap().into_iter().filter(|f| f.starts_with(home.run_folder())).collect();
    assert_eq!(readable, Vec::<PathBuf>::new(), "the host reads the run folder");
    job.signal(rustix::process::Signal::TERM).unwrap();
    let outcome = job.finish(cocoon_tests::VM_LIMIT).unwrap();
    assert!(outcome.text().contains(TREASURE) && outcome.text().contains("upper"), "{}", outcome.text());
    assert_eq!(home.left(Duration::from_secs(5)).unwrap(), Vec::<String>::new());
}

#[test]
fn a_policy_decides_on_the_name_in_the_plan_whichever_way_an_image_comes() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let image = pushed(&registry, "demo:policed");
    let name = home.file("owner").display().to_string();
    home.succeed(["image", "keygen", &name]).unwrap();
    let policy = |text: &str| {
        fs::write(home.file("policy.json"), text).unwrap();
        home.file("policy.json").display().to_string()
    };
    let repository = image.rsplit_once(':').unwrap().0;
    let signed = format!(
        r#"{{"default":[{{"type":"reject"}}],"transports":{{"docker":{{"{repository}":[
            {{"type":"sigstoreSigned","keyPath":"{name}.pub","signedIdentity":{{"type":"matchRepository"}}}}]}}}}}}"#
    );
    // Shared first: then the node has every layer, and the policy must count all the same.
    let good = home.run_vm(["--layers", "shared", &image]).unwrap();
    assert_eq!(good.status, Some(0), "{}", good.stderr);
    for way in ["shared", "guest"] {
        let reject = policy(r#"{"default":[{"type":"reject"}]}"#);
        let refused = home.run_vm(["--json", "--layers", way, "--policy", &reject, &image]).unwrap();
        assert_eq!(refused.json_refusal().unwrap().code, Code::ImagePolicyRejected.as_str(), "{way}");
        assert_eq!(refused.text(), "");
    }
    let file = policy(&signed);
    let unsigned = home.run_vm(["--json", "--layers", "shared", "--policy", &file, &image]).unwrap();
    let code = unsigned.json_refusal().unwrap().code;
    assert!(
        code == Code::ImagePolicyRejected.as_str() || code == Code::ImageSignatureMissing.as_str(),
        "{code}"
    );
    home.succeed(["image", "sign", "--key", &format!("{name}.key"), &image]).unwrap();
    for way in ["shared", "guest"] {
        let good = home.run_vm(["--layers", way, "--policy", &file, &image]).unwrap();
        assert_eq!(good.status, Some(0), "{way}: {}", good.stderr);
    }
    // An empty list of requirements allows nothing, and is said so before anything runs.
    let empty = policy(r#"{"default":[]}"#);
    let refused = home.run_vm(["--json", "--policy", &empty, &image]).unwrap();
    assert_eq!(refused.json_refusal().unwrap().code, Code::ImagePolicyInvalid.as_str());
}
