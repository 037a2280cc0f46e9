//! The node's layers while things happen: pods that use them, runs at once, interrupts, kill -9, too little space.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cocoon_stage::Code;
use cocoon_tests::{Home, Job, Layout, Registry, VM_LIMIT, wait_until};
use rustix::process::{Pid, Signal};

const MIB: usize = 1 << 20;

/// Bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..bytes / 8).flat_map(|_| next().to_le_bytes()).collect()
}

/// An image with a layer that takes a moment to convert.
fn large(registry: &Registry) -> String {
    let layout = Layout::busybox(&["/bin/wc", "-c", "/data/noise"], &[]).unwrap();
    layout.layer(&[("/data/noise", &noise(192 * MIB))], &[]).unwrap();
    layout.push(registry, "demo:large").unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|e| e.path()).filter(|p| p.is_file()).collect()
}

#[test]
fn a_conversion_that_is_interrupted_or_killed_leaves_the_next_run_nothing_to_mend() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let image = large(&registry);
    let partial = home.data().join("layers/tmp");
    let halfway = || {
        let job = Job::start_vm(home.run_command(["--layers", "shared", &image])).unwrap();
        // A layer in the making has no name.
        let pid = Pid::from_raw(job.pid().try_into().unwrap()).unwrap();
        let grows = || {
            let open = Home::unnamed_files(pid).unwrap_or_default();
            open.iter().any(|f| fs::metadata(f).is_ok_and(|m| m.len() > MIB as u64))
        };
        assert!(wait_until(Duration::from_secs(60), grows), "no conversion began: {}", job.errors());
        job
    };
    let job = halfway();
    job.signal(Signal::INT).unwrap();
    let outcome = job.finish(Duration::from_secs(30)).unwrap();
    assert_eq!((outcome.status, outcome.text()), (Some(130), String::new()), "{}", outcome.stderr);
    assert_eq!(files(&partial), Vec::<PathBuf>::new());
    assert_eq!(home.left(Duration::from_secs(5)).unwrap(), Vec::<String>::new());

    let job = halfway();
    job.signal(Signal::KILL).unwrap();
    job.finish(Duration::from_secs(30)).unwrap();
    assert_eq!(files(&partial), Vec::<PathBuf>::new(), "what the killed one made has a name");

    // Two at once make each layer once.
    let one = Job::start_vm(home.run_command(["--layers", "shared", &image])).unwrap();
    let two = Job::start(home.run_command(["--layers", "shared", &image])).unwrap();
    for job in [one, two] {
        let outcome = job.finish(VM_LIMIT).unwrap();
        assert_eq!(outcome.text(), format!("{} /data/noise\n", 192 * MIB), "{}", outcome.stderr);
    }
    assert_eq!(files(&partial), Vec::<PathBuf>::new());
    assert_eq!(files(&home.data().join("layers/layers")).len(), 2);
    home.succeed(["layers", "verify"]).unwrap();
    assert_eq!(home.left(Duration::from_secs(5)).unwrap(), Vec::<String>::new());
}

#[test]
fn what_a_pod_uses_stays_and_what_was_damaged_is_made_again() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let layout = Layout::busybox(&["/bin/cat", "/data/said"], &[("/data/said", b"said")]).unwrap();
    let image = layout.push(&registry, "demo:used").unwrap();
    let script = "echo up; cat > /dev/null; cat /data/said";
    let mut command = home.run_command(["-i", "--layers", "shared", &image, "--", "/bin/sh", "-c", script]);
    command.stdin(std::process::Stdio::piped());
    let mut job = Job::start_vm(command).unwrap();
    job.wait_for_stdout("up", VM_LIMIT).unwrap();

    let listed = home.succeed(["layers", "list", "--json"]).unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["layers"][0]["in_use"], true, "{listed}");
    let root = listed["layers"][0]["root"].as_str().unwrap().to_owned();
    assert_eq!(home.succeed(["layers", "prune"]).unwrap(), "");
    let refused = home.cocoon(["layers", "remove", "--json", &root[..8]]).unwrap();
    let refusal = refused.json_refusal().unwrap();
    assert!(refused.status != Some(0) && refusal.reason.contains("in use"), "{refusal:?}");
    drop(job.stdin());
    let outcome = job.finish(VM_LIMIT).unwrap();
    assert_eq!((outcome.status, outcome.text().as_str()), (Some(0), "up\nsaid"), "{}", outcome.stderr);

    // A host whose disk rots: `verify` finds and removes it, and the next pod has the layer made again.
    let file = home.data().join("layers/layers").join(&root);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, bytes).unwrap();
    let verified = home.cocoon(["layers", "verify", "--json"]).unwrap();
    assert!(verified.stderr.contains(Code::ImageLayerTampered.as_str()), "{}", verified.stderr);
    assert!(!file.exists(), "it is still there");
    let again = home.run_vm(["--layers", "shared", &image]).unwrap();
    assert_eq!((again.status, again.text().as_str()), (Some(0), "said"), "{}", again.stderr);
    home.succeed(["layers", "verify"]).unwrap();
    // Nobody uses it any more.
    assert_eq!(home.succeed(["layers", "prune"]).unwrap().trim(), root);
    assert_eq!(files(&home.data().join("layers/layers")), Vec::<PathBuf>::new());
}

#[test]
fn a_container_may_fill_the_scratch_disk_and_a_large_image_needs_one() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let fill = "cat /dev/zero > /x; echo status=$?; /bin/busybox rm /x; echo more > /y; cat /y";
    // More than a VM of 256 MiB has; small in the registry.
    let zeros = vec![0; 260 * MIB];
    let layout = Layout::busybox(&["/bin/sh", "-c", fill], &[("/data/zeros", &zeros)]).unwrap();
    let image = layout.push(&registry, "demo:zeros").unwrap();
    let refused = home.run_vm(["--json", "--memory", "256M", &image]).unwrap();
    assert_eq!(refused.json_refusal().unwrap().code, Code::ImageTooLarge.as_str());
    assert_eq!(home.left(Duration::from_secs(5)).unwrap(), Vec::<String>::new());

    let full = home.run_vm(["--memory", "256M", "--scratch", "360M", &image]).unwrap();
    assert_eq!((full.status, full.text().as_str()), (Some(0), "status=1\nmore\n"), "{}", full.stderr);
    assert!(full.stderr.contains("No space left on device"), "{}", full.stderr);
    assert_eq!(home.left(Duration::from_secs(5)).unwrap(), Vec::<String>::new());
    assert_eq!(files(&home.data().join("scratch")), Vec::<PathBuf>::new());
}

#[test]
fn flags_that_cannot_hold_are_refused_before_anything_boots() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let layout = Layout::busybox(&["/bin/true"], &[("/data/noise", &noise(4 * MIB))]).unwrap();
    let image = layout.push(&registry, "demo:flags").unwrap();
    for (name, text) in [("junk", "junk"), ("empty.json", ""), ("list.json", r#"{"default":[]}"#)] {
        fs::write(home.file(name), text).unwrap();
    }
    let file = |name: &str| home.file(name).display().to_string();
    let (junk, empty, list, none) = (file("junk"), file("empty.json"), file("list.json"), file("none"));
    let invalid = Code::ImagePolicyInvalid;
    let coded: &[(&[&str], Code)] = &[
        (&["--policy", &none], Code::UsageInvalid),
        (&["--policy", "/dev/zero"], Code::UsageInvalid),
        (&["--policy", "kbs:///a"], Code::UsageInvalid),
        (&["--policy", &junk], invalid),
        (&["--policy", &empty], invalid),
        (&["--policy", &list], invalid),
        (&["--registries", &none], Code::UsageInvalid),
        (&["--registries", &junk], invalid),
        (&["--lookaside", &junk], invalid),
        (&["--ca-certificate", &junk], invalid),
        (&["--ca-certificate", "/dev/zero"], Code::UsageInvalid),
        (&["--proxy", "ftp://x"], invalid),
        (&["--plain-http", "http://x.example"], Code::UsageInvalid),
        (&["--scratch", "16T"], Code::BootDiskFull),
    ];
    for (args, code) in coded {
        let run = home.run_command([&["--json"], *args, &[&*image]].concat());
        let outcome = Job::start(run).unwrap().finish(Duration::from_secs(60)).unwrap();
        assert_eq!(outcome.json_refusal().unwrap().code, code.as_str(), "{args:?}: {}", outcome.stderr);
        let status = if *code == Code::UsageInvalid { 2 } else { 125 };
        assert_eq!((outcome.status, outcome.text()), (Some(status), String::new()), "{args:?}");
        let early = *code == Code::BootDiskFull || !outcome.stderr.contains("starting the pod VM");
        assert!(early, "{args:?}: {}", outcome.stderr);
    }
    let wrong: &[&[&str]] = &[
        &["--scratch", "1K"],
        &["--scratch", "99T"],
        &["--layers", "x"],
        &["--no-proxy", "x"],
        &["--layers"],
    ];
    for args in wrong {
        let outcome = home.cocoon([&["run"], *args, &["--", &image]].concat()).unwrap();
        assert_eq!(outcome.status, Some(2), "{args:?}: {}", outcome.stderr);
    }
    for (limit, code) in [("1M", Code::ImageCacheFailed), ("much", Code::UsageInvalid)] {
        let mut command = home.run_command(["--json", "--layers", "shared", &image]);
        command.env("COCOON_LAYERS_LIMIT", limit);
        let outcome = Job::start(command).unwrap().finish(Duration::from_secs(60)).unwrap();
        assert_eq!(outcome.json_refusal().unwrap().code, code.as_str(), "{limit}: {}", outcome.stderr);
    }
    assert_eq!(files(&home.data().join("layers/tmp")), Vec::<PathBuf>::new());
    assert_eq!(home.left(Duration::from_secs(5)).unwrap(), Vec::<String>::new());
}
