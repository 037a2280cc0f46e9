//! The measured guest image: reproducible, checked before every boot; and what `cocoon doctor` says of this machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::fs;
use std::path::Path;
use std::time::Duration;

use cocoon_stage::Code;
use cocoon_tests::{Home, Job, Outcome, Registry, make_busybox_image};
use serde_json::Value;

/// One build: kernel package, initrd, compression.
const BUILD_LIMIT: Duration = Duration::from_secs(420);

fn build(home: &Home, out: &Path, kernel: Option<&Path>) -> Outcome {
    // Any static program passes for a guest here: what is built is not booted.
    let mut command = home.command(["guest", "build", "--guest-binary", "/bin/busybox", "--out"]);
    command.arg(out);
    if let Some(deb) = kernel {
        command.arg("--kernel-deb").arg(deb);
    }
    Job::start(command).unwrap().finish(BUILD_LIMIT).unwrap()
}

#[test]
fn building_twice_gives_the_same_bytes() {
    let Some(home) = Home::open().unwrap() else { return };
    let kernel = std::env::var_os("COCOON_KERNEL_DEB").map(std::path::PathBuf::from);
    let (one, two) = (home.file("one"), home.file("two"));
    let first = build(&home, &one, kernel.as_deref());
    if kernel.is_none() && first.status != Some(0) && first.stderr.contains("apt-get") {
        let reason = first.refusal().unwrap().reason;
        println!("skipped: apt-get gives no kernel and COCOON_KERNEL_DEB names none: {reason}");
        return;
    }
    assert_eq!(first.status, Some(0), "{}", first.stderr);
    let second = build(&home, &two, kernel.as_deref());
    assert_eq!(second.status, Some(0), "{}", second.stderr);
    let names = |dir: &Path| {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert!(names(&one).len() >= 5, "{:?}", names(&one));
    assert_eq!(names(&one), names(&two));
    for name in names(&one) {
        let same = fs::read(one.join(&name)).unwrap() == fs::read(two.join(&name)).unwrap();
        assert!(same, "{} differs", name.display());
    }
    let shown: Value = serde_json::from_slice(&first.stdout).unwrap();
    let measured = shown["reference_values"]["sim_launch_measurement"].as_array().unwrap();
    assert!(measured.len() >= 32 && measured.iter().all(|m| m.as_str().unwrap().len() == 96), "{shown}");
    assert_eq!(home.left(Duration::ZERO).unwrap(), Vec::<String>::new());
}

/// `cocoon run` with another guest image.
fn run_with(home: &Home, guest: &Path, image: &str) -> Outcome {
    let mut command = home.run_command(["--json", image]);
    command.env("COCOON_GUEST_IMAGE", guest);
    Job::start(command).unwrap().finish(Duration::from_secs(60)).unwrap()
}

#[test]
fn a_damaged_or_missing_image_is_not_booted() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let image = make_busybox_image(&registry, "demo:plain", &["/bin/true"]).unwrap();
    let copy = home.file("guest");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(home.image()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let refused = |code: Code, guest: &Path| {
        let outcome = run_with(&home, guest, &image);
        let refusal = outcome.json_refusal().unwrap();
        assert_eq!((refusal.code.as_str(), outcome.status), (code.as_str(), Some(125)), "{}", outcome.stderr);
        assert_eq!((refusal.stage.as_str(), refusal.next.as_str()), ("boot", code.next_step()));
        assert_eq!(home.left(Duration::from_secs(5)).unwrap(), Vec::<String>::new());
    };

    let initrd = copy.join("initrd.img");
    let good = fs::read(&initrd).unwrap();
    let mut bytes = good.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&initrd, &bytes).unwrap();
    refused(Code::BootGuestImageCorrupt, &copy);
    fs::write(&initrd, &good[..middle]).unwrap();
    refused(Code::BootGuestImageCorrupt, &copy);
    fs::remove_file(&initrd).unwrap();
    refused(Code::BootGuestImageCorrupt, &copy);
    refused(Code::BootGuestImageMissing, &home.file("nowhere"));
    // It was only the initrd: the copy is good again.
    fs::write(&initrd, &good).unwrap();
    let mut show = home.command(["guest", "show"]);
    show.env("COCOON_GUEST_IMAGE", &copy);
    let shown = Job::start(show).unwrap().finish(Duration::from_secs(60)).unwrap();
    assert_eq!(shown.status, Some(0), "{}", shown.stderr);
}

#[test]
fn the_doctors_report_can_be_read_by_programs() {
    let Some(home) = Home::open().unwrap() else { return };
    let outcome = home.cocoon(["doctor", "--json"]).unwrap();
    let report: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() >= 8, "{report}");
    let mut missing = false;
    for check in checks {
        for part in ["name", "status", "found", "means"] {
            assert!(check[part].as_str().is_some_and(|t| !t.is_empty()), "{part} in {check}");
        }
        let status = check["status"].as_str().unwrap();
        assert!(["ok", "warn", "missing"].contains(&status), "{check}");
        assert!(status == "ok" || check["mend"].is_string(), "what is wrong can be mended: {check}");
        missing |= status == "missing";
    }
    assert_eq!(outcome.status, Some(i32::from(missing)), "{report}");
    // These tests have what they need, or would have been skipped.
    let named = |name: &str| checks.iter().any(|c| c["name"].as_str().unwrap().to_lowercase().contains(name));
    assert!(named("qemu") && named("kvm") && named("guest image"), "{report}");
}
