//! The program as kubectl's plugin, as far as no cluster is needed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cocoon");

fn run(program: &Path, home: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(program)
        .args(args)
        .env_clear()
        .env("HOME", home)
        .env("PATH", home)
        .env("COCOON_DATA_DIR", home.join("data"))
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn cocoon(home: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    run(Path::new(PROGRAM), home, args)
}

/// A cluster at which nobody listens.
fn nowhere(home: &Path) -> String {
    let file = home.join("kubeconfig");
    let config = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}], "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}"#;
    std::fs::write(&file, config).unwrap();
    file.display().to_string()
}

#[test]
fn kubectls_names_for_it_do_what_kubectl_asks() {
    let home = tempfile::tempdir().unwrap();
    let link = |name: &str| {
        let link = home.path().join(name);
        std::os::unix::fs::symlink(PROGRAM, &link).unwrap();
        link
    };
    let (status, offered, _) = run(&link("kubectl_complete-cocoon"), home.path(), &["secret", "se"]);
    assert_eq!(status, Some(0));
    let names: Vec<&str> = offered.lines().map(|l| l.split('\t').next().unwrap()).collect();
    assert_eq!(names, ["set", "seal", ":4"]);
    let plugin = link("kubectl-cocoon");
    let (_, help, _) = run(&plugin, home.path(), &["verify", "--help"]);
    assert!(help.contains("Usage: kubectl cocoon verify"), "{help}");
    // The cluster's doctor, without a flag.
    let kubeconfig = nowhere(home.path());
    let (status, report, err) = run(&plugin, home.path(), &["doctor", "--json", "--kubeconfig", &kubeconfig]);
    let report: Value = serde_json::from_str(&report).unwrap_or_else(|_| panic!("{err}"));
    assert_eq!((status, report["checks"][0]["state"].as_str()), (Some(1), Some("fail")), "{report}");
    for shell in ["bash", "zsh", "fish"] {
        let (status, script, _) = run(&plugin, home.path(), &["completion", shell]);
        assert!(status == Some(0) && script.contains("verify") && script.contains("accept-simulated"));
    }
}

#[test]
fn verify_tells_a_wrong_line_from_a_cluster_that_is_not_there() {
    let home = tempfile::tempdir().unwrap();
    let kubeconfig = nowhere(home.path());
    let verify = |args: &[&str]| {
        let args = [&["verify", "--kubeconfig", &kubeconfig], args].concat();
        cocoon(home.path(), &args).0
    };
    for wrong in [
        &["service/web"][..],
        &["deploy/"],
        &["-A", "deploy/web"],
        &["-A", "-n", "shop"],
        &["--as", "web.shop"],
        &["web", "--plan", "zz"],
        &["web", "--plan", "00"],
        &["web", "--simulated-root", "x"],
        &["web", "--timeout", "1d"],
    ] {
        assert_eq!(verify(wrong), Some(2), "{wrong:?}");
    }
    assert_eq!(verify(&["web"]), Some(125));
    let (status, _, err) = cocoon(home.path(), &["exec", "--kubeconfig", &kubeconfig, "web", "--", "sh"]);
    assert!(status == Some(2) && err.contains("kubectl could not be started"), "{err}");
}

#[test]
fn sealed_secrets_and_the_krew_manifest_are_printed() {
    let home = tempfile::tempdir().unwrap();
    let (status, sealed, _) = cocoon(home.path(), &["secret", "seal", "default/db/password"]);
    assert!(status == Some(0) && sealed.starts_with("sealed.fakejwsheader.") && !sealed.contains("password"));
    let archive = format!("amd64=https://example.org/cocoon.tar.gz#{}", "0".repeat(64));
    let line = ["krew", "--homepage", "https://example.org", "--archive", &archive];
    let (status, manifest, err) = cocoon(home.path(), &line);
    assert_eq!(status, Some(0), "{err}");
    assert!(
        manifest.starts_with("apiVersion: krew.googlecontainertools.github.com/v1alpha2\n"),
        "{manifest}"
    );
    let (status, ..) = cocoon(home.path(), &["krew", "--homepage", "h", "--archive", "amd64=http://x"]);
    assert_eq!(status, Some(2));
}
