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

/// A home with an image that would print its secret, and the host's ways to run it.
struct Scene {
    home: Home,
    image: String,
    _registry: Registry,
}

impl Scene {
    fn open() -> Option<Self> {
        let home = Home::open().unwrap()?;
        let registry = Registry::start().unwrap();
        let image = make_busybox_image(&registry, "demo:plain", &["/bin/cat", "/run/secrets/token"]).unwrap();
        std::fs::write(home.file("token"), SECRET).unwrap();
        Some(Scene { home, image, _registry: registry })
    }

    /// Runs the image on a host that cheats; it must be refused with that code.
    fn refuses(&self, kind: &str, code: Code) -> Outcome {
        let secret = format!("token=@{}", self.home.file("token").display());
        let console = self.home.data().join("console.log");
        let console_text = console.display().to_string();
        let args = ["--adversary", kind, "--console", &console_text, "--secret", &secret, &self.image];
        let outcome = self.home.run_vm(args).unwrap();
        // The guest's console is among the files that are searched.
        assert!(console.metadata().unwrap().len() > 0, "{kind}");
        check(&self.home, &outcome, kind, code);
        outcome
    }
}

#[test]
fn another_initrd_or_plan_is_not_the_one_that_was_measured() {
    let Some(scene) = Scene::open() else { return };
    scene.refuses("changed-initrd", Code::AttestMeasurementUnknown);
    scene.refuses("changed-plan", Code::AttestInitdataMismatch);
}

#[test]
fn a_plan_of_the_hosts_own_and_old_evidence_get_nothing() {
    let Some(scene) = Scene::open() else { return };
    // Bound into the TEE as it should be; but nobody registered it.
    scene.refuses("rebound-plan", Code::ReleaseWorkloadUnknown);
    // What is replayed was recorded in the run before.
    let replayed = scene.refuses("replayed-evidence", Code::AttestReportDataMismatch);

    // The owner can ask later why.
    let id = replayed.stderr.lines().find_map(|l| l.strip_prefix("  request: ")).unwrap();
    let verdict = scene.home.succeed(["explain", id]).unwrap();
    assert!(
        verdict.contains(Code::AttestReportDataMismatch.as_str()) && !verdict.contains(SECRET),
        "{verdict}"
    );
}
