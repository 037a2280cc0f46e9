//! Input that is wrong or hostile: each gives one coded failure within a bounded time, and leaves nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

#[path = "../../net/registry/tests/fake/mod.rs"]
mod fake;
#[path = "../../guest/pull/tests/image/mod.rs"]
mod image;

use std::io::Read;
use std::net::TcpListener;
use std::time::Duration;

use cocoon_stage::{Code, Stage};
use cocoon_tests::{Home, Job, Outcome, Refusal, Registry, VM_LIMIT, make_busybox_image};
use fake::{Fake, Fault};
use image::{Builder, OCI, file, gzip, raw, tar_of};
use tar::EntryType;
use tokio::runtime::Runtime;

/// The failure is that one, said once and as JSON, and nothing is left.
fn refused(home: &Home, outcome: &Outcome, code: Code, stage: Stage) -> Refusal {
    let refusal = outcome.json_refusal().unwrap();
    assert_eq!((refusal.code.as_str(), refusal.stage.as_str()), (code.as_str(), stage.name()), "{refusal:?}");
    assert_eq!(refusal.next, code.next_step());
    let status = if code == Code::UsageInvalid { 2 } else { 125 };
    assert_eq!(outcome.status, Some(status), "{}", outcome.stderr);
    assert_eq!(outcome.text(), "", "something ran");
    assert_eq!(home.left(Duration::from_secs(5)).unwrap(), Vec::<String>::new());
    refusal
}

/// `cocoon run` that must fail before it boots anything.
fn run(home: &Home, args: &[&str]) -> Outcome {
    let mut command = home.run_command(["--json"]);
    command.args(args);
    Job::start(command).unwrap().finish(Duration::from_secs(60)).unwrap()
}

#[test]
fn image_names_and_registries() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    for bad in ["lower/CASE", "a b", "", "127.0.0.1:1/x@sha256:12", "../../etc/passwd", "x:"] {
        refused(&home, &run(&home, &[bad]), Code::PlanImageReferenceInvalid, Stage::Plan);
    }
    let missing = run(&home, &[&registry.reference("no/such:thing")]);
    refused(&home, &missing, Code::ImageNotFound, Stage::Plan);

    // A port on which nobody listens: it was ours a moment ago.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable = run(&home, &[&format!("{closed}/x:1")]);
    let refusal = refused(&home, &unreachable, Code::PlanImageUnavailable, Stage::Plan);
    assert!(refusal.reason.contains(&closed.to_string()), "{refusal:?}");

    let runtime = Runtime::new().unwrap();
    let fake = runtime.block_on(Fake::start());
    fake.fault("/v2/", Fault::Html, usize::MAX);
    let page = run(&home, &[&format!("{}:1", fake.name("x"))]);
    refused(&home, &page, Code::ImageRegistryAnswer, Stage::Plan);
    fake.clear();
    fake.fault("/v2/", Fault::Body(vec![b'{'; 8 << 20]), usize::MAX);
    fake.manifest("1", image::MANIFEST, "{}");
    let huge = run(&home, &[&format!("{}:1", fake.name("x"))]);
    let code = huge.json_refusal().unwrap().code;
    assert!(code.starts_with("IMAGE-") || code.starts_with("PLAN-IMAGE-"), "{}", huge.stderr);
    assert_eq!(huge.status, Some(125));
}

#[test]
fn secrets_and_plans() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let image = make_busybox_image(&registry, "demo:plain", &["/bin/true"]).unwrap();
    for bad in ["hunter2", "a/b=hunter2", "=hunter2", "../a=hunter2", "a=@/no/such/hunter2"] {
        let outcome = run(&home, &["--secret", bad, &image]);
        let refusal = refused(&home, &outcome, Code::PlanSecretInvalid, Stage::Plan);
        // A file's name is no secret; a value is. Without `=` nothing tells which it is.
        assert!(!bad.contains("=hunter2") || !refusal.reason.contains("hunter2"), "{refusal:?}");
    }
    refused(
        &home,
        &run(&home, &["--secret", "a=1", "--secret", "a=2", &image]),
        Code::PlanSecretInvalid,
        Stage::Plan,
    );

    // One argument holds at most 128 KiB.
    let long = ["A", "B", "C"].map(|name| format!("{name}={}", "x".repeat(100 << 10)));
    let large = run(&home, &["--env", &long[0], "--env", &long[1], "--env", &long[2], &image]);
    refused(&home, &large, Code::PlanTooLarge, Stage::Plan);

    let key = run(&home, &["--require-signature", "/no/such/key", &image]);
    refused(&home, &key, Code::UsageInvalid, Stage::Plan);
    std::fs::write(home.file("junk.pub"), "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
        .unwrap();
    let junk = run(&home, &["--require-signature", &home.file("junk.pub").display().to_string(), &image]);
    assert_eq!(
        junk.status,
        Some(125),
        "a key that is none must be found before anything boots: {}",
        junk.stderr
    );
    assert_eq!(junk.json_refusal().unwrap().stage, "plan", "{}", junk.stderr);

    for allow in ["secret", "a/b/c/d", "../b/c"] {
        let outcome = run(&home, &["--allow-resource", allow, &image]);
        assert_eq!(outcome.status, Some(125), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("the pod VM"), "{}", outcome.stderr);
    }
    let tokenless = run(&home, &["--trustee", "https://127.0.0.1:1", &image]);
    refused(&home, &tokenless, Code::RegisterFailed, Stage::Register);
}

#[test]
fn flags() {
    let Some(home) = Home::open().unwrap() else { return };
    let wrong: &[&[&str]] = &[
        &[],
        &["--no-such-flag", "x"],
        &["--memory", "1M", "x"],
        &["--memory", "99999999G", "x"],
        &["--cpus", "0", "x"],
        &["--cpus", "33", "x"],
        &["--adversary", "nice", "x"],
        &["--platform", "sgx", "x"],
        &["--trustee-cert", "x.pem", "x"],
        &["x", "not-after-dashes"],
    ];
    for args in wrong {
        let mut command = home.run_command(["--json"]);
        command.args(*args);
        let outcome = Job::start(command).unwrap().finish(Duration::from_secs(20)).unwrap();
        assert_eq!(outcome.status, Some(2), "{args:?}: {}", outcome.stderr);
        assert!(
            outcome.stderr.contains("--help") && outcome.stdout.is_empty(),
            "{args:?}: {}",
            outcome.stderr
        );
    }
    assert_eq!(home.left(Duration::ZERO).unwrap(), Vec::<String>::new());
}

/// Runs an image of the fake registry in a VM, with a secret that it must not get.
fn pulled(home: &Home, fake: &Fake) -> Outcome {
    home.run_vm(["--json", &format!("{}:latest", fake.name("evil"))]).unwrap()
}

fn good_layer() -> Vec<u8> {
    tar_of(|b| file(b, "bin/tool", b"#!/bin/true\n"))
}

#[test]
fn a_layer_that_is_not_of_the_size_its_manifest_says() {
    let Some(home) = Home::open().unwrap() else { return };
    let runtime = Runtime::new().unwrap();
    let fake = runtime.block_on(Fake::start());
    let mut image = Builder::new(&fake);
    let tar = good_layer();
    image.layer(&format!("{OCI}+gzip"), gzip(&tar), &tar);
    let size = image.layers[0]["size"].as_u64().unwrap();
    image.layers[0]["size"] = (size - 1).into();
    image.push();
    refused(&home, &pulled(&home, &fake), Code::ImageSizeMismatch, Stage::Pull);
}

#[test]
fn a_layer_that_climbs_out_of_its_root() {
    let Some(home) = Home::open().unwrap() else { return };
    let runtime = Runtime::new().unwrap();
    let fake = runtime.block_on(Fake::start());
    let mut image = Builder::new(&fake);
    let tar = tar_of(|b| {
        raw(b, "way/out", EntryType::Symlink, "/../../..", b"");
        file(b, "../../../sbin/init", b"mine now");
    });
    image.layer(&format!("{OCI}+gzip"), gzip(&tar), &tar);
    image.push();
    refused(&home, &pulled(&home, &fake), Code::ImageLayerUnsafe, Stage::Pull);
}

#[test]
fn ten_gibibytes_of_zeros_in_a_few_kilobytes() {
    let Some(home) = Home::open().unwrap() else { return };
    let runtime = Runtime::new().unwrap();
    let fake = runtime.block_on(Fake::start());
    // Frames may follow each other, so one of 256 MiB is enough to make.
    const FRAME: u64 = 256 << 20;
    const FRAMES: u64 = 40;
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_size(FRAME * FRAMES);
    header.set_mode(0o644);
    header.set_cksum();
    let mut bomb = zstd::encode_all(header.as_bytes().as_slice(), 1).unwrap();
    let frame = zstd::encode_all(std::io::repeat(0).take(FRAME), 1).unwrap();
    (0..FRAMES).for_each(|_| bomb.extend_from_slice(&frame));
    assert!(bomb.len() < 2 << 20, "{}", bomb.len());
    let mut image = Builder::new(&fake);
    image.layer(&format!("{OCI}+zstd"), bomb, b"never mind");
    image.push();
    refused(&home, &pulled(&home, &fake), Code::ImageTooLarge, Stage::Pull);
}

#[test]
fn a_registry_that_falls_silent_is_given_up() {
    let Some(home) = Home::open().unwrap() else { return };
    let runtime = Runtime::new().unwrap();
    let fake = runtime.block_on(Fake::start());
    let mut image = Builder::new(&fake);
    let tar = good_layer();
    image.layer(&format!("{OCI}+gzip"), gzip(&tar), &tar);
    let layer = image.layers[0]["digest"].as_str().unwrap().to_owned();
    image.push();
    // Once it is silent, for as long as the guest waits; then it always breaks off at the same place.
    fake.fault(&layer, Fault::Stall(20), 1);
    fake.fault(&layer, Fault::Cut(0), usize::MAX);
    let reference = format!("{}:latest", fake.name("evil"));
    let mut job = Job::start_vm(home.run_command(["--json", &reference])).unwrap();
    job.wait_for_stderr("Trustee verified the evidence", VM_LIMIT).unwrap();
    job.end_turn();
    let outcome = job.finish(Duration::from_secs(120)).unwrap();
    refused(&home, &outcome, Code::ImageRegistryStalled, Stage::Pull);
    let asked = fake.log().iter().filter(|l| l.contains(&layer)).count();
    assert!((2..=10).contains(&asked), "it was asked {asked} times");
}
