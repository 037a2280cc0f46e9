//! A host that cheats is found out by Trustee: the run ends with a coded refusal, and the secret stays sealed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::time::Duration;

use cocoon_stage::Code;
use cocoon_tests::{Home, Outcome, Registry, make_busybox_image};

const SECRET: &str = "correct horse battery staple 7c1d";

fn check(home: &Home, outcome: &Outcome, kind: &str, code: Code) {
    let refusal = outcome.refusal().unwrap();
    assert_eq!(refusal.code, code.as_str(), "{kind}: {}", outcome.stderr);
    assert_eq!(refusal.stage, code.stage().name(), "{kind}");
    assert_eq!(refusal.next, code.next_step(), "{kind}");
    assert_eq!(outcome.status, Some(125), "{kind}: {}", outcome.stderr);
    assert_eq!(outcome.text(), "", "{kind}: the workload ran");
    assert!(outcome.stderr.contains("request: "), "{kind}: no verdict to look up: {}", outcome.stderr);
    assert!(!outcome.stderr.contains(SECRET), "{kind}: {}", outcome.stderr);
    assert!(!outcome.stderr.contains("secrets released"), "{kind}: {}", outcome.stderr);
    assert_eq!(home.files_with(SECRET).unwrap(), Vec::<std::path::PathBuf>::new(), "{kind}");
    assert_eq!(home.left(Duration::from_secs(5)).unwrap(), Vec::<String>::new(), "{kind}");
}

#[test]
fn no_cheat_gets_the_secret() {
    let Some(home) = Home::open().unwrap() else { return };
    let registry = Registry::start().unwrap();
    let image = make_busybox_image(&registry, "demo:plain", &["/bin/cat", "/run/secrets/token"]).unwrap();
    std::fs::write(home.file("token"), SECRET).unwrap();
    let secret = format!("token=@{}", home.file("token").display());
    let console = home.data().join("console.log").display().to_string();
    let cheat = |kind: &str| {
        home.run_vm(["--adversary", kind, "--console", &console, "--secret", &secret, &image]).unwrap()
    };

    check(&home, &cheat("changed-initrd"), "changed-initrd", Code::AttestMeasurementUnknown);
    check(&home, &cheat("changed-plan"), "changed-plan", Code::AttestInitdataMismatch);
    check(&home, &cheat("rebound-plan"), "rebound-plan", Code::ReleaseWorkloadUnknown);
    // What is replayed was recorded in the runs before.
    let replayed = cheat("replayed-evidence");
    check(&home, &replayed, "replayed-evidence", Code::AttestReportDataMismatch);
    assert!(
        home.data().join("console.log").metadata().unwrap().len() > 0,
        "the console is where it was looked for"
    );

    // The owner can ask later why.
    let id = replayed.stderr.lines().find_map(|l| l.strip_prefix("  request: ")).unwrap();
    let verdict = home.succeed(["explain", id]).unwrap();
    assert!(
        verdict.contains(Code::AttestReportDataMismatch.as_str()) && !verdict.contains(SECRET),
        "{verdict}"
    );
}
