//! Every command of the owner against the embedded Trustee.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use support::{Home, tamper};

const DIGEST: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[test]
fn secrets_and_their_rules() {
    let home = Home::new();
    let file = home.file("value", b"from\0file");
    assert_eq!(home.ok(&["secret", "set", "default/key/one", &format!("@{file}")]), "");
    home.ok(&["secret", "set", "default/key/two", "inline"]);
    assert_eq!(home.ok(&["secret", "get", "default/key/one"]), "from\0file");
    assert_eq!(home.ok(&["secret", "list"]), "default/key/one\ndefault/key/two\n");
    assert_eq!(home.json(&["secret", "list", "--json"]), json!(["default/key/one", "default/key/two"]));
    home.ok(&["secret", "rm", "default/key/one"]);
    home.refused("RELEASE-SECRET-MISSING", &["secret", "rm", "default/key/one"]);
    home.refused("RELEASE-SECRET-MISSING", &["secret", "get", "default/key/one"]);
    home.refused("PLAN-SECRET-INVALID", &["secret", "set", "../key/one", "hunter2"]);

    let rule = ["secret", "rules", "set", "team", "--workload", "name:web", "--path", "default/key/*"];
    home.ok(&[
        &rule[..],
        &["--min-status", "warning", "--accept-simulated", "--expires", "30d", "--note", "n"],
    ]
    .concat());
    let shown = home.json(&["secret", "rules", "show", "team"]);
    assert_eq!((&shown["workload"], &shown["min_status"]), (&json!("name:web"), &json!("warning")));
    assert!(shown["expires_unix"].is_u64() && shown["accept_simulated"] == true, "{shown}");
    assert_eq!(home.json(&["secret", "rules", "list"]).as_array().unwrap().len(), 1);
    home.refused(
        "USAGE-INVALID",
        &["secret", "rules", "set", "x", "--workload", "nobody", "--path", "a/b/c"],
    );
    home.refused("USAGE-INVALID", &[&rule[..], &["--expires", "soon"]].concat());
    home.ok(&["secret", "rules", "rm", "team"]);
    assert!(
        home.refused("USAGE-INVALID", &["secret", "rules", "rm", "team"]).contains("there is no rule team")
    );
}

#[test]
fn workloads_by_digest_and_by_initdata() {
    let home = Home::new();
    let add = ["workload", "add", DIGEST, "--name", "web", "--secret", "default/secret/token=gamma"];
    home.ok(&[&add[..], &["--allow", "default/key/two", "--expires", "1h"]].concat());
    let shown = home.json(&["workload", "show", DIGEST]);
    assert_eq!((&shown["name"], &shown["secrets"]), (&json!("web"), &json!(["default/secret/token"])));
    let initdata = home.file("initdata.toml", "version = \"0.1.0\"\nalgorithm = \"sha256\"\n\n[data]\n");
    home.ok(&["workload", "add", "--initdata", &initdata, "--name", "other"]);
    assert_eq!(home.json(&["workload", "show", "--initdata", &initdata])["name"], "other");
    assert_eq!(home.json(&["workload", "list"]).as_array().unwrap().len(), 2);
    home.ok(&["workload", "rm", "--initdata", &initdata]);
    home.ok(&["workload", "rm", DIGEST]);
    assert_eq!(home.ok(&["workload", "list"]).trim(), "[]");
    home.refused("USAGE-INVALID", &["workload", "rm", DIGEST]);
    let said = home
        .refused("PLAN-SECRET-INVALID", &["workload", "add", DIGEST, "--name", "x", "--secret", "hunter2"]);
    assert!(!said.contains("hunter2"), "{said}");
    assert_eq!(home.run(&["workload", "add", "--name", "x"]).status, Some(2), "digest or initdata");
}

#[test]
fn policies_have_versions() {
    let home = Home::new();
    let names = home.ok(&["policy", "defaults"]);
    assert!(names.lines().any(|name| name == "default_cpu"), "{names}");
    let text = home.ok(&["policy", "defaults", "default_cpu"]);
    let file = home.file("cpu.rego", &text);
    assert_eq!(home.json(&["policy", "set", "default_cpu", &file, "--note", "first"])["version"], 1);
    let other = home.file("other.rego", format!("{text}\n# more\n"));
    home.ok(&["policy", "set", "default_cpu", &other]);
    assert!(home.ok(&["policy", "get", "default_cpu"]).ends_with("# more\n"));
    assert_eq!(home.ok(&["policy", "get", "default_cpu", "--version", "1"]), text);
    assert_eq!(home.json(&["policy", "history", "default_cpu"]).as_array().unwrap().len(), 2);
    home.ok(&["policy", "rollback", "default_cpu", "--version", "1"]);
    assert_eq!(home.ok(&["policy", "get", "default_cpu"]), text);
    let bad = home.file("bad.rego", "package policy\nallow := \n");
    home.refused("POLICY-INVALID", &["policy", "set", "default_cpu", &bad]);
    home.refused("POLICY-INVALID", &["policy", "dry-run", "default_cpu", &bad]);
    assert_eq!(home.ok(&["policy", "dry-run", "default_cpu", &file, "--limit", "5"]), "");
    assert_eq!(home.json(&["policy", "list"])[0]["id"], "default_cpu");
    home.ok(&["policy", "rm", "default_cpu"]);
    home.refused("USAGE-INVALID", &["policy", "get", "default_cpu"]);
    home.refused("USAGE-INVALID", &["policy", "defaults", "nonesuch"]);
}

#[test]
fn reference_values_are_set_signed_imported_and_compared() {
    let home = Home::new();
    home.ok(&["reference", "set", "snp_bootloader", "3", "4", "--source", "me", "--expires", "2w"]);
    assert_eq!(home.json(&["reference", "list"])[0]["values"], json!([3, 4]));
    home.ok(&["reference", "rm", "snp_bootloader", "--source", "me"]);
    home.refused("USAGE-INVALID", &["reference", "rm", "snp_bootloader"]);

    home.ok(&["image", "keygen", home.path("signer").to_str().unwrap()]);
    let (key, public) = (home.path("signer.key"), home.path("signer.pub"));
    let (key, public) = (key.to_str().unwrap(), public.to_str().unwrap());
    let values = home.file("values.json", r#"{"snp_launch_measurement": ["ab", "cd"], "svn": 7}"#);
    let sign = |version: &str| {
        home.ok(&["reference", "sign", &values, "--key", key, "--set", "guest 1", "--version", version])
    };
    let (one, two) = (home.file("one.json", sign("1")), home.file("two.json", sign("2")));
    home.refused("REFERENCE-INVALID", &["reference", "import", &two]);
    home.ok(&["reference", "trust", "add", "builder", public]);
    assert!(home.json(&["reference", "trust", "list"])["builder"].as_str().unwrap().contains("PUBLIC KEY"));
    home.refused("USAGE-INVALID", &["reference", "trust", "add", "oops", key]);
    let changes = home.ok(&["reference", "diff", &two]);
    assert!(changes.contains("+ snp_launch_measurement \"ab\"") && changes.contains("+ svn 7"), "{changes}");
    assert_eq!(home.json(&["reference", "import", &two, "--type", "auto"])["version"], 2);
    assert_eq!(home.ok(&["reference", "diff", &two]), "");
    home.refused("REFERENCE-INVALID", &["reference", "import", &one]);
    home.ok(&["reference", "import", &one, "--allow-older"]);
    assert_eq!(home.json(&["reference", "sets"])[0]["name"], "guest 1");
    assert_eq!(home.json(&["reference", "show", "guest 1"]).as_array().unwrap().len(), 2);
    home.ok(&["reference", "rm-set", "guest 1"]);
    assert_eq!(home.ok(&["reference", "list"]).trim(), "[]");
    home.refused("REFERENCE-INVALID", &["reference", "import", &values]);
    home.ok(&["reference", "import", &values, "--unsigned", "--set", "plain", "--source", "me"]);
    home.ok(&["reference", "trust", "rm", "builder"]);
    home.refused("USAGE-INVALID", &["reference", "trust", "rm", "builder"]);
}

#[test]
fn tenants_share_nothing() {
    let home = Home::new();
    let token = home.ok(&["tenant", "add", "team", "--secrets", "1"]);
    assert_eq!(token.trim().len(), 64);
    assert_eq!(home.json(&["tenant", "list"])[0]["quota"]["secrets"], 1);
    home.ok(&["secret", "set", "default/key/one", "x", "--tenant", "team"]);
    home.refused("STORE-QUOTA", &["secret", "set", "default/key/two", "x", "--tenant", "team"]);
    assert_eq!(home.ok(&["secret", "list"]), "");
    assert_eq!(home.ok(&["secret", "list", "--tenant", "team"]), "default/key/one\n");
    home.refused("USAGE-INVALID", &["secret", "get", "default/key/one", "--tenant", "team"]);
    let verified = home.ok(&["audit", "verify", "--tenant", "team"]);
    assert!(verified.starts_with("verified: 2 entries"), "{verified}");
    assert_ne!(home.ok(&["tenant", "token", "team"]), token);
    home.ok(&["tenant", "rm", "team"]);
    assert!(
        home.refused("USAGE-INVALID", &["secret", "list", "--tenant", "team"]).contains("no tenant team")
    );
    home.refused("USAGE-INVALID", &["secret", "list", "--tenant", "../x"]);
    home.refused("USAGE-INVALID", &["tenant", "list", "--tenant", "team"]);
}

#[test]
fn verdicts_and_keys() {
    let home = Home::new();
    assert_eq!(home.ok(&["explain"]), "");
    assert_eq!(home.json(&["explain", "--json", "--limit", "5"]), json!([]));
    home.refused("USAGE-INVALID", &["explain", "01-nonesuch"]);
    let kid = home.ok(&["trustee", "rotate-key"]);
    assert_ne!(home.ok(&["trustee", "rotate-key"]), kid);
    assert!(home.ok(&["trustee", "audit-key"]).starts_with("ed25519:"));
    let said = home.run(&["explain", "nonesuch", "--json"]);
    let failure: serde_json::Value = serde_json::from_str(said.stderr.trim()).unwrap();
    assert_eq!(failure["code"], "USAGE-INVALID");
}

#[test]
fn the_audit_log_is_verified_proven_and_followed() {
    let home = Home::new();
    home.ok(&["secret", "set", "default/key/one", "x"]);
    let head = home.path("head.json");
    let head = head.to_str().unwrap();
    let first = home.ok(&["audit", "verify", "--save", head]);
    assert!(first.starts_with("verified: 1 entries"), "{first}");
    home.ok(&["secret", "rm", "default/key/one"]);
    let grown = home.json(&["audit", "verify", "--head", head, "--json"]);
    assert_eq!((&grown["entries"], &grown["grown_from"]), (&json!(2), &json!(1)));
    let proven = home.json(&["audit", "prove", "1"]);
    assert_eq!(proven["entry"]["subject"], "DELETE /cocoon/v0/secrets/default/key/one");
    assert_eq!(proven["head"]["size"], home.json(&["audit", "head"])["size"]);
    assert_eq!(home.json(&["audit", "prove", "0", "--size", "1"])["proof"]["path"], json!([]));
    home.refused("USAGE-INVALID", &["audit", "prove", "2"]);

    let mut follow =
        home.command(&["audit", "follow", "--from", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(
        first.starts_with("0  20") && first.contains("PUT /cocoon/v0/secrets/default/key/one"),
        "{first}"
    );
    assert!(lines.next().unwrap().unwrap().starts_with("1  "));
    home.ok(&["secret", "set", "default/key/two", "x"]);
    assert!(lines.next().unwrap().unwrap().contains("default/key/two"));
    kill_process(Pid::from_child(&follow), Signal::INT).unwrap();
    assert_eq!(follow.wait().unwrap().code(), Some(0));

    tamper(&home.path("data/cocoon/trustee"));
    let said = home.run(&["audit", "verify"]);
    assert_eq!(said.status, Some(1), "{}{}", said.stdout, said.stderr);
    assert!(said.stderr.contains("AUDIT-TAMPERED"), "{}", said.stderr);
}

#[test]
fn help_is_there_for_every_command() {
    let home = Home::new();
    for command in ["secret", "workload", "policy", "reference", "explain", "audit", "tenant", "trustee"] {
        let help = home.ok(&[command, "--help"]);
        assert!(help.len() > 200 && help.contains("Usage: cocoon"), "{help}");
    }
}
