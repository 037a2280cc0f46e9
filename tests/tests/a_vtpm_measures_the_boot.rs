//! A pod on OVMF with a software TPM: the boot that the TPM measured gets the secret, and no other boot and no other plan does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::path::{Path, PathBuf};
use std::time::Duration;

use cocoon_stage::Code;
use cocoon_tests::{Home, Registry, make_busybox_image};

const SECRET: &str = "a vTPM's secret 4f1e";

/// A home with an image that prints its secret; `None` where something is missing.
fn scene() -> Option<(Home, String, Registry)> {
    for (path, package) in [
        ("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf"),
        ("/usr/bin/swtpm", "swtpm"),
        ("/usr/bin/swtpm_setup", "swtpm-tools"),
    ] {
        if !Path::new(path).exists() {
            println!("skipped: {package} is not installed");
            return None;
        }
    }
    let home = Home::open().unwrap()?;
    let registry = Registry::start().unwrap();
    let image = make_busybox_image(&registry, "demo:plain", &["/bin/cat", "/run/secrets/token"]).unwrap();
    std::fs::write(home.file("token"), SECRET).unwrap();
    Some((home, image, registry))
}

fn run(home: &Home, image: &str, more: &[&str]) -> cocoon_tests::Outcome {
    let secret = format!("token=@{}", home.file("token").display());
    let args = ["--platform", "tpm", "--secret", &secret];
    home.run_vm(args.iter().chain(more).chain([&image])).unwrap()
}

#[test]
fn the_measured_boot_gets_the_secret_at_every_size() {
    let Some((home, image, _registry)) = scene() else { return };
    // Where memory ends is measured unless care is taken that it is not.
    for (memory, cpus) in [("512M", "1"), ("768M", "2")] {
        let outcome = run(&home, &image, &["--memory", memory, "--cpus", cpus]);
        assert_eq!((outcome.status, outcome.text().as_str()), (Some(0), SECRET), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("NOT protected from this host"), "{}", outcome.stderr);
        assert_eq!(home.left(Duration::from_secs(5)).unwrap(), Vec::<String>::new());
    }
}

#[test]
fn another_initrd_and_another_plan_get_nothing() {
    let Some((home, image, _registry)) = scene() else { return };
    for (kind, code) in [
        // Register 9.
        ("changed-initrd", Code::AttestMeasurementUnknown),
        // Register 8 holds the plan that booted, which nobody registered.
        ("changed-plan", Code::ReleaseWorkloadUnknown),
    ] {
        let outcome = run(&home, &image, &["--adversary", kind]);
        let refusal = outcome.refusal().unwrap();
        assert_eq!(refusal.code, code.as_str(), "{kind}: {}", outcome.stderr);
        assert_eq!((outcome.status, outcome.text().as_str()), (Some(125), ""), "{kind}");
        assert!(!outcome.stderr.contains(SECRET), "{kind}");
        assert_eq!(home.files_with(SECRET).unwrap(), Vec::<PathBuf>::new(), "{kind}");
        assert_eq!(home.left(Duration::from_secs(5)).unwrap(), Vec::<String>::new(), "{kind}");
    }
    // A TPM's evidence is no simulated processor's, which alone this program can replay.
    let outcome = run(&home, &image, &["--adversary", "replayed-evidence"]);
    assert_eq!(outcome.refusal().unwrap().code, Code::UsageInvalid.as_str());
}
