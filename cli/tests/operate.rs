//! Settings, backup and restore, import, and the sealing key, as an operator meets them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use support::{Home, with};

#[test]
fn settings_are_checked_shown_and_documented() {
    let home = Home::new();
    let example = home.file("example.toml", home.ok(&["trustee", "config", "example"]));
    assert_eq!(home.ok(&["trustee", "config", "check", &example]), "the settings are valid\n");
    home.ok(&["trustee", "config", "check"]);
    let shown = home.ok(&["trustee", "config", "show", &example]);
    assert!(shown.contains("lifetime_seconds"), "{shown}");

    let bad = home
        .file("bad.toml", "[server]\nlisen = [\"127.0.0.1:1\"]\nplain_http = 7\n[metrics]\nenabled = 1\n");
    let said = home.refused("CONFIG-INVALID", &["trustee", "config", "check", &bad]);
    for part in ["bad.toml", "line 2", "did you mean `listen`", "line 3", "`server.plain_http`", "line 5"] {
        assert!(said.contains(part), "no {part:?}: {said}");
    }
    home.refused("CONFIG-INVALID", &["trustee", "serve", "--config", &bad]);
    let cannot = home.file("cannot.toml", "[log]\nformat = \"json\"\n");
    let said = home.refused("CONFIG-INVALID", &["trustee", "config", "check", &cannot]);
    assert!(said.contains("`log.format`: cannot be honoured"), "{said}");
    home.refused("CONFIG-INVALID", &["trustee", "config", "check", "/nonexistent"]);

    let secret = "[state]\nkind = \"postgres\"\npostgres_url = \"postgres://u:hunter2@127.0.0.1/x\"\n";
    let secret = home.file("secret.toml", secret);
    assert!(!home.ok(&["trustee", "config", "show", &secret]).contains("hunter2"));
}

#[test]
fn a_backup_brings_everything_back() {
    let home = Home::new();
    let (file, key) = (home.path("backup"), home.path("backup.key"));
    let (file, key) = (file.to_str().unwrap(), key.to_str().unwrap());
    home.ok(&["secret", "set", "default/key/one", "precious"]);
    let done = home.ok(&["trustee", "backup", file, "--key", key]);
    assert!(done.starts_with("backed up: "), "{done}");
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    home.ok(&["secret", "set", "default/key/one", "changed"]);

    home.refused("USAGE-INVALID", &["trustee", "restore", file, "--key", key]);
    let other = home.path("other.key");
    std::fs::write(&other, [7; 32]).unwrap();
    std::fs::set_permissions(&other, PermissionsExt::from_mode(0o600)).unwrap();
    let wrong = home.run(&["trustee", "restore", file, "--key", other.to_str().unwrap(), "--replace"]);
    assert_ne!(wrong.status, Some(0));
    assert_eq!(home.ok(&["secret", "get", "default/key/one"]), "changed", "nothing was touched");
    home.ok(&["trustee", "restore", file, "--key", key, "--replace"]);
    assert_eq!(home.ok(&["secret", "get", "default/key/one"]), "precious");

    // Elsewhere, with the sealing key.
    let state = home.path("state");
    home.ok(&["trustee", "restore", file, "--key", key, "--state", state.to_str().unwrap()]);
    std::fs::copy(home.path("data/cocoon/trustee/seal.key"), state.join("seal.key")).unwrap();
    let server = home.serve("state", &[]);
    assert_eq!(home.ok(&with(&["secret", "list"], &server.flags())), "default/key/one\n");
    server.stop();
    assert_eq!(
        std::fs::read_dir(home.path(""))
            .unwrap()
            .filter(|e| { e.as_ref().unwrap().file_name().to_string_lossy().contains(".new-") })
            .count(),
        0
    );
}

#[test]
fn cocos_storage_is_taken_over_with_a_report() {
    let home = Home::new();
    let policy = home.ok(&["policy", "defaults", "resource-policy:affirming"]);
    let cpu = home.ok(&["policy", "defaults", "default_cpu"]);
    home.file(r"up/repository/one\x2Ftwo\x2Fthree", b"s\0cret");
    home.file(r"up/repository/not-a-path", b"x");
    home.file("up/kbs/resource-policy.rego", policy);
    home.file("up/attestation_service_policy/default_cpu.rego", cpu);
    home.file("up/attestation_service_policy/broken.rego", "package policy\nallow := \n");
    home.file(
        "up/reference_value/svn",
        r#"{"version":"0.1.0","name":"svn","expiration":"2099-01-01T00:00:00Z","value":[1,2]}"#,
    );
    home.file("up/kbs_protocol_session/abc", "{}");
    let dir = home.path("up");
    let import = ["trustee", "import-upstream", dir.to_str().unwrap()];
    let would = home.ok(&[&import[..], &["--dry-run"]].concat());
    assert!(would.contains("would take secret one/two/three"), "{would}");
    assert_eq!(home.ok(&["secret", "list"]), "");

    let report = home.ok(&import);
    for line in ["taken: 1 × secret", "taken: 2 × policy", "taken: 1 × reference value"] {
        assert!(report.contains(line), "no {line:?}: {report}");
    }
    for part in ["not-a-path", "broken: POLICY-INVALID", "kbs_protocol_session"] {
        assert!(report.lines().any(|l| l.starts_with("left: ") && l.contains(part)), "no {part:?}: {report}");
    }
    assert_eq!(home.ok(&["secret", "get", "one/two/three"]), "s\0cret");
    let values = home.json(&["reference", "list"]);
    assert_eq!(
        (&values[0]["values"], &values[0]["expires_unix"]),
        (&json!([1, 2]), &json!(4_070_908_800u64))
    );
    let policies = home.json(&["policy", "list"]);
    let ids: Vec<&str> = policies.as_array().unwrap().iter().filter_map(|p| p["id"].as_str()).collect();
    assert_eq!(ids, ["default_cpu", "resource-policy"]);

    home.file("json/repository.json", r#"{"a/b/c": "aGVsbG8"}"#);
    let dir = home.path("json");
    home.ok(&["trustee", "import-upstream", dir.to_str().unwrap(), "--kind", "local-json"]);
    assert_eq!(home.ok(&["secret", "get", "a/b/c"]), "hello");
}

#[test]
fn a_command_of_the_operators_own_keeps_the_sealing_key() {
    let home = Home::new();
    // As weak as can be, but it never prints the key itself.
    let script = home.file("rotate", "#!/bin/sh\nexec tr 'A-Za-z' 'N-ZA-Mn-za-m'\n");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o700)).unwrap();
    let config = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[seal]\nkind = \"command\"\ncommand = [\"{script}\"]\n"
    );
    let file = home.file("trustee.toml", config);
    let server = home.serve("state", &["--config", &file]);
    let flags = server.flags();
    home.ok(&with(&["workload", "add", &"ab".repeat(32), "--name", "w", "--secret", "a/b/c=d"], &flags));
    let kid = home.json(&with(&["trustee", "rotate-key", "--json"], &flags));
    server.stop();
    assert!(home.path("state/seal.blob").exists() && !home.path("state/seal.key").exists());
    let server = home.serve("state", &["--config", &file]);
    let now = home.json(&with(&["trustee", "rotate-key", "--json"], &server.flags()));
    assert_ne!(now, kid, "its own keys opened again");
    server.stop();
    // Another key does not open what this one sealed.
    std::fs::remove_file(home.path("state/seal.blob")).unwrap();
    let state = home.path("state");
    home.refused(
        "STORE-CORRUPT",
        &["trustee", "serve", "--config", &file, "--state", state.to_str().unwrap()],
    );
}
