//! The same commands against a Trustee that serves on loopback, and what an operator does with it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::json;
use support::{Home, tamper, with};

const DIGEST: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[test]
fn the_owner_administers_it_from_elsewhere() {
    let home = Home::new();
    let server = home.serve("state", &[]);
    let flags = server.flags();
    let ok = |args: &[&str]| home.ok(&with(args, &flags));
    let json = |args: &[&str]| home.json(&with(args, &flags));
    ok(&["secret", "set", "default/key/one", "x"]);
    assert_eq!(ok(&["secret", "list"]), "default/key/one\n");
    let said = home.refused("USAGE-INVALID", &with(&["secret", "get", "default/key/one"], &flags));
    assert!(said.contains("never gives a secret's value out over HTTP"), "{said}");
    home.refused("RELEASE-SECRET-MISSING", &with(&["secret", "rm", "default/key/two"], &flags));
    ok(&["secret", "rules", "set", "r", "--workload", "any", "--path", "default/*/*"]);
    ok(&["workload", "add", DIGEST, "--name", "web", "--secret", "a/b/c=d"]);
    assert_eq!(json(&["workload", "show", DIGEST])["name"], "web");
    let text = home.ok(&["policy", "defaults", "default_cpu"]);
    let file = home.file("cpu.rego", text);
    assert_eq!(json(&["policy", "set", "default_cpu", &file])["author"], "admin (admin)");
    let bad = home.file("bad.rego", "package policy\nallow := \n");
    assert!(
        home.refused("POLICY-INVALID", &with(&["policy", "set", "x_cpu", &bad], &flags)).contains("request")
    );
    ok(&["reference", "set", "rvps:///a b/c:1", "5"]);
    ok(&["reference", "rm", "rvps:///a b/c:1"]);
    let token = ok(&["tenant", "add", "team"]);
    let token = home.file("team.token", token);
    let mut team = flags.clone();
    team[3] = token;
    team.extend(["--tenant".to_owned(), "team".to_owned()]);
    home.ok(&with(&["secret", "set", "a/b/c", "x"], &team));
    home.refused("ACCESS-DENIED", &with(&["secret", "list"], &team[..6]));
    assert_eq!(ok(&["explain"]), "");
    assert!(ok(&["trustee", "audit-key"]).starts_with("ed25519:"));
    assert!(ok(&["audit", "verify"]).starts_with("verified: "));
    assert_eq!(json(&["audit", "prove", "0"])["entry"]["actor"], "admin (admin)");
    // Nobody else may use its state meanwhile.
    let state = server.state.display().to_string();
    home.refused("STORE-BUSY", &["trustee", "serve", "--state", &state, "--listen", "127.0.0.1:0"]);
    server.stop();
}

#[test]
fn strangers_are_refused() {
    let home = Home::new();
    let server = home.serve("state", &[]);
    let mut flags = server.flags();
    let wrong = home.file("wrong", "0".repeat(64));
    let right = std::mem::replace(&mut flags[3], wrong);
    let said = home.refused("ACCESS-DENIED", &with(&["secret", "list"], &flags));
    assert!(said.contains("wrong admin token"), "{said}");
    // The token from the environment; without any nothing is sent.
    let token = std::fs::read_to_string(&right).unwrap();
    let args = ["secret", "list", "--trustee", &server.url, "--trustee-cert", &flags[5]];
    let output = home.command(&args).env("COCOON_TRUSTEE_TOKEN", &token).output().unwrap();
    assert!(output.status.success());
    home.refused("COCOON_TRUSTEE_TOKEN", &args);
    // Another certificate, no TLS.
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem();
    flags[3] = right;
    flags[5] = home.file("other.pem", other);
    home.refused("REGISTER-FAILED", &with(&["secret", "list"], &flags));
    flags[1] = "http://192.0.2.1:1".into();
    assert!(home.refused("REGISTER-FAILED", &with(&["secret", "list"], &flags)).contains("https only"));
    server.stop();
}

#[test]
fn it_reloads_without_dropping_anybody_and_leaves_nothing() {
    let home = Home::new();
    let config = "[server]\nlisten = [\"127.0.0.1:0\", \"[::1]:0\"]\n[metrics]\nlisten = \"127.0.0.1:0\"\n";
    let file = home.file("trustee.toml", config);
    let mut server = home.serve("state", &["--config", &file]);
    let metrics = server.wait_for("cocoon: metrics on ");
    let flags = server.flags();
    let issuer = || home.json(&with(&["trustee", "audit-key", "--json"], &flags))["key_id"].clone();
    let before = issuer();

    // A connection that is open stays.
    let mut kept = TcpStream::connect(metrics.rsplit(' ').next().unwrap()).unwrap();
    let more = "[tokens]\nlifetime_seconds = 600\n[server.limits]\nbody_bytes = 70000\n";
    std::fs::write(&file, format!("{config}{more}")).unwrap();
    server.signal(Signal::HUP);
    let taken = server.wait_for("settings reloaded: ");
    assert!(taken.ends_with("tokens.lifetime_seconds"), "{taken}");
    let waits = server.wait_for("wait for a restart: ");
    assert!(waits.ends_with("server.limits.body_bytes"), "{waits}");
    kept.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    kept.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("# EOF"), "{text}");
    let mut other = TcpStream::connect(metrics.rsplit(' ').next().unwrap()).unwrap();
    other.write_all(b"GET /cocoon/v0/status HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    text.clear();
    other.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 404"), "{text}");

    // What cannot be used leaves all as it was, and says why; a changed file is noticed without a signal.
    server.forget();
    std::fs::write(&file, format!("{config}[tokens]\nisuer = 5\n")).unwrap();
    let refused = server.wait_for("NOT reloaded");
    assert!(refused.contains("CONFIG-INVALID"), "{refused}");
    server.wait_for("did you mean");
    server.forget();
    std::fs::write(&file, format!("{config}[server.limits]\nbody_bytes = 70000\n[tls]\n")).unwrap();
    server.signal(Signal::HUP);
    server.wait_for("NOT reloaded");
    assert_eq!(issuer(), before);

    let port = server.url.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let state = server.state.clone();
    server.stop();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    let mut left: Vec<String> = std::fs::read_dir(state)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let kept = [
        "admin.token",
        "audit.journal",
        "collateral",
        "seal.key",
        "state.redb",
        "tls-certificate.pem",
        "trustee-tls.json",
    ];
    left.retain(|name| !name.ends_with(".lock"));
    assert_eq!(left, kept);
}

#[test]
fn a_certificate_of_ones_own_is_renewed_by_a_signal() {
    let home = Home::new();
    let make = || {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        home.file("chain.pem", made.cert.pem());
        home.file("key.pem", made.signing_key.serialize_pem());
    };
    make();
    let (chain, key) = (home.path("chain.pem"), home.path("key.pem"));
    let args = ["--tls-cert", chain.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let mut server = home.serve("state", &args);
    let old = home.file("old.pem", std::fs::read(&chain).unwrap());
    let mut flags = server.flags();
    home.ok(&with(&["secret", "list"], &flags));
    make();
    server.signal(Signal::HUP);
    server.wait_for("read anew");
    home.ok(&with(&["secret", "list"], &flags));
    flags[5] = old;
    home.refused("REGISTER-FAILED", &with(&["secret", "list"], &flags));
    // A key that does not belong to the chain changes nothing.
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    home.file("key.pem", other.signing_key.serialize_pem());
    server.signal(Signal::HUP);
    server.wait_for("NOT reloaded");
    home.ok(&with(&["secret", "list"], &server.flags()));
    server.stop();
}

#[test]
fn an_auditor_elsewhere_sees_a_log_put_back() {
    let home = Home::new();
    let server = home.serve("state", &[]);
    home.ok(&with(&["secret", "set", "default/key/one", "x"], &server.flags()));
    let state = server.state.clone();
    let state = state.to_str().unwrap();
    server.stop();
    let backup = home.path("backup");
    home.ok(&["trustee", "backup", backup.to_str().unwrap(), "--state", state]);

    let server = home.serve("state", &[]);
    for i in 0..3 {
        home.ok(&with(&["secret", "set", "default/key/one", &i.to_string()], &server.flags()));
    }
    let head = home.path("head.json");
    let verify = ["audit", "verify", "--save", head.to_str().unwrap()];
    assert!(home.ok(&with(&verify, &server.flags())).starts_with("verified: 4 entries"));
    let again = ["audit", "verify", "--head", head.to_str().unwrap(), "--json"];
    assert_eq!(home.json(&with(&again, &server.flags()))["grown_from"], json!(4));
    server.stop();

    home.ok(&["trustee", "restore", backup.to_str().unwrap(), "--state", state, "--replace"]);
    let server = home.serve("state", &[]);
    assert!(home.ok(&with(&["audit", "verify"], &server.flags())).starts_with("verified: 1 entries"));
    let said = home.run(&with(&again, &server.flags()));
    assert_eq!(said.status, Some(1), "{}", said.stdout);
    assert!(said.stderr.contains("AUDIT-TAMPERED"), "{}", said.stderr);
    server.stop();

    // On an altered log Trustee does not start.
    tamper(&home.path("state"));
    let said = home.run(&["trustee", "serve", "--state", state, "--listen", "127.0.0.1:0"]);
    assert_eq!(said.status, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("AUDIT-TAMPERED"), "{}", said.stderr);
}

#[test]
fn other_key_brokers_call_the_attestation_api_with_a_token_of_their_own() {
    let home = Home::new();
    let token = home.file("caller.token", "b".repeat(64));
    let config = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nplain_http = true\n[attestation_api]\nlisten_rest = \"127.0.0.1:0\"\n\
         listen_grpc = \"127.0.0.1:0\"\ntoken_file = \"{token}\"\n"
    );
    let file = home.file("trustee.toml", config);
    let mut server = home.serve("state", &["--config", &file]);
    server.wait_for("attestation API (gRPC) on 127.0.0.1:");
    let line = server.wait_for("attestation API (REST) on ");
    let address = line.rsplit(' ').next().unwrap().to_owned();
    let ask = |bearer: &str, method: &str, path: &str, body: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(ask("x", "POST", "/challenge", "{}"), "401");
    assert_eq!(ask(&"b".repeat(64), "POST", "/challenge", "{}"), "200");
    let policy = json!({"type": "rego", "policy_ids": ["p"], "policy": "cGFja2FnZSBwb2xpY3k"}).to_string();
    assert_eq!(ask(&"b".repeat(64), "POST", "/policy", &policy), "403", "that is for administrators");
    let url = server.url.clone();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let flags = server.flags();
    assert_eq!(home.ok(&with(&["secret", "list"], &flags[..4])), "", "plain HTTP on loopback");
    server.stop();
}
