//! An operator's day with a served Trustee: settings, a secret, a rule, guests, why one was refused, the audit log,
//! changed settings, and the end.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cocoon_http::Method;
use cocoon_kbs::KbsClient;
use cocoon_stage::Code;
use cocoon_tests::{Admin, Attester, Guest, Reply, TrusteeHome, token, wait_until};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);

/// The claims of a token, unchecked.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn text(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_day() {
    let Some(home) = TrusteeHome::open().unwrap() else { return };
    let simulated = Attester::Simulated(Arc::new(home.processor().unwrap()), None);
    home.settings("[attestation]\naccept_simulated = true\naccept_sample = true\n").unwrap();
    let trustee = home.start().unwrap();
    let owner = |args: &[&str]| home.owner_succeeds(&trustee, args).unwrap();

    std::fs::write(home.file("value"), "hunter2").unwrap();
    let value = format!("@{}", home.file("value").display());
    owner(&["secret", "set", "team/db/password", &value]);
    assert_eq!(owner(&["secret", "list"]).trim(), "team/db/password");

    // A guest of which nothing is known: refused, and the owner can see why.
    let guest = KbsClient::new(trustee.http().unwrap(), trustee.url());
    let refusal = guest.attest(&simulated, None).await.unwrap_err();
    let cocoon_kbs::Error::Refused { status: 401, code: Some(code), request_id: Some(id), .. } = &refusal
    else {
        panic!("{refusal}")
    };
    let explained = owner(&["explain", id]);
    assert!(explained.contains(code.as_str()) && explained.contains("sim_launch_measurement"), "{explained}");

    for attester in [&simulated, &Attester::Sample] {
        for (name, values) in attester.reference_values().as_object().unwrap() {
            let value = match &values[0] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            // A version that is text stays text.
            let value = if name == "svn" { "\"1\"".to_owned() } else { value };
            owner(&["reference", "set", name, &value]);
        }
    }

    // Affirmed, but no rule gives it the secret.
    let uri = "kbs:///team/db/password".parse().unwrap();
    for attester in [&simulated, &Attester::Sample] {
        let session = guest.attest(attester, None).await.unwrap();
        let refusal = guest.resource(&session, &uri).await.unwrap_err();
        let cocoon_kbs::Error::Refused { code: Some(code), request_id: Some(id), .. } = &refusal else {
            panic!("{refusal}")
        };
        assert_eq!(*code, Code::ReleaseWorkloadUnknown);
        let explained = owner(&["explain", id]);
        assert!(explained.contains("team/db/password") && explained.contains(code.as_str()), "{explained}");
    }
    let rule = ["--workload", "any", "--path", "team/*/*", "--accept-simulated"];
    owner(&[&["secret", "rules", "set", "all"], &rule[..]].concat());
    for attester in [&simulated, &Attester::Sample] {
        let session = guest.attest(attester, None).await.unwrap();
        assert_eq!(guest.resource(&session, &uri).await.unwrap().as_slice(), b"hunter2");
        assert_eq!(claims(session.token())["iss"], "CoCo-Attestation-Service");
    }
    owner(&["audit", "verify", "--save", &home.file("head").display().to_string()]);

    // The issuer changes while a handshake is open: the handshake goes on, its token has the new issuer.
    let pieces = Guest::of(&trustee, &simulated).unwrap();
    let answer = pieces.begin().await.unwrap();
    let before = pieces.begin().await.unwrap();
    let old = token(&pieces.attest(&before).await.unwrap()).unwrap();
    home.settings(
        "[attestation]\naccept_simulated = true\naccept_sample = true\n[tokens]\nissuer = \"https://new.example\"\n",
    )
    .unwrap();
    trustee.hang_up().unwrap();
    assert!(
        wait_until(LIMIT, || trustee.log().contains("settings reloaded: tokens.issuer")),
        "{}",
        trustee.log()
    );
    let new = token(&pieces.attest(&answer).await.unwrap()).unwrap();
    assert_eq!(claims(&new)["iss"], "https://new.example");
    // The token of before stays good.
    let reply = pieces.resource(&old, "team/db/password").await.unwrap();
    assert_eq!(before.open(reply).unwrap(), b"hunter2");

    // Settings that cannot be used change nothing.
    home.settings("[tokens]\nissuer = 5\n").unwrap();
    trustee.hang_up().unwrap();
    assert!(wait_until(LIMIT, || trustee.log().contains("NOT reloaded")), "{}", trustee.log());
    let answer = pieces.begin().await.unwrap();
    let token = token(&pieces.attest(&answer).await.unwrap()).unwrap();
    assert_eq!(claims(&token)["iss"], "https://new.example");

    let verified = owner(&["audit", "verify", "--head", &home.file("head").display().to_string()]);
    println!("{}", verified.trim());
    let entries = trustee.admin().unwrap().audit_entries().await.unwrap();
    let of = |kind: &str, subject: &str| {
        let found = entries.iter().map(|e| &e["entry"]);
        found.filter(|e| e["kind"] == kind && e["subject"].as_str().unwrap().contains(subject)).count()
    };
    let all = text(&entries.clone().into());
    assert_eq!(of("release", "team/db/password"), 3, "{all}");
    assert_eq!(of("admin", "/secrets/team/db/password"), 1, "{all}");
    assert!(of("handshake", "snp") >= 4 && of("refusal", "snp") == 1, "{all}");
    assert!(!all.contains("hunter2") && !trustee.log().contains("hunter2"));

    let token_file = std::fs::read_to_string(home.state().join("admin.token")).unwrap();
    assert!(!trustee.log().contains(token_file.trim()));
    let url = trustee.url().to_owned();
    let outcome = trustee.stop().unwrap();
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    let address = url.strip_prefix("https://").unwrap();
    assert!(std::net::TcpStream::connect(address).is_err(), "something still listens");
    assert_eq!(std::fs::read_dir(home.file("tmp")).unwrap().count(), 0, "temporary files are left");
}

/// A change that is made is in the audit log, also if who made it did not wait for the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_who_hangs_up_leaves_a_trace() {
    let Some(home) = TrusteeHome::open().unwrap() else { return };
    home.settings_as_they_are("[server]\nlisten = [\"127.0.0.1:0\"]\nplain_http = true\n").unwrap();
    let trustee = home.start().unwrap();
    let token = std::fs::read_to_string(home.state().join("admin.token")).unwrap();
    let address = trustee.url().strip_prefix("http://").unwrap();
    for number in 0..60 {
        let mut connection = std::net::TcpStream::connect(address).unwrap();
        let request = format!(
            "PUT /cocoon/v0/secrets/hasty/key/number{number} HTTP/1.1\r\nhost: {address}\r\n\
             authorization: Bearer {}\r\ncontent-length: 5\r\n\r\nvalue",
            token.trim()
        );
        connection.write_all(request.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_micros(number % 10 * 500));
    }
    // Once it has stopped, all that was begun has ended.
    trustee.stop().unwrap();
    let trustee = home.start().unwrap();
    let admin = trustee.admin().unwrap();
    let entries = admin.audit_entries().await.unwrap();
    let acts: Vec<&str> = entries.iter().filter_map(|e| e["entry"]["subject"].as_str()).collect();
    let secrets = admin.get("/cocoon/v0/secrets").await.unwrap();
    let secrets: Vec<&str> = secrets.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(secrets.len() > 10, "only {secrets:?}: this tested nothing");
    for path in secrets {
        assert!(acts.iter().any(|act| act.ends_with(path)), "{path} was set, but by nobody");
    }
}

/// An `Authorization: Bearer` JWT as upstream's `setup` makes them, and the file of its public key.
fn admin_token(home: &TrusteeHome) -> (String, std::path::PathBuf) {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let key = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    // SubjectPublicKeyInfo of Ed25519 (RFC 8410).
    let spki = [&hex::decode("302a300506032b6570032100").unwrap(), key.public_key().as_ref()].concat();
    let file = home.file("admin.pub");
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(spki));
    std::fs::write(&file, pem).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"iss": "https://idp.example", "role": "admin", "iat": now, "exp": now + 600});
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(json!({"alg": "EdDSA", "typ": "JWT"})), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
    (format!("{signed}.{signature}"), file)
}

/// Upstream's settings file, and then what upstream's `kbs-client` sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstreams_settings_and_client_work() {
    let Some(home) = TrusteeHome::open().unwrap() else { return };
    let (jwt, key) = admin_token(&home);
    home.settings_as_they_are(&format!(
        r#"
[http_server]
sockets = ["127.0.0.1:0"]
insecure_http = true
payload_request_size = 2

[attestation_token]
insecure_header_jwk = false

[attestation_service]
type = "coco_as_builtin"
timeout = 5

[attestation_service.attestation_token_broker]
duration_min = 5

[attestation_service.rvps_config]
type = "BuiltIn"

[admin]
authorization_mode = "AuthenticatedAuthorization"

[admin.authentication.bearer_jwt]
identity_providers = [{{ issuer = "https://idp.example", public_key_uri = "{}" }}]

[admin.authorization.regex_acl]
acls = [{{ role = "admin", allowed_endpoints = "^/kbs/v0/.+$" }}]

[storage_backend]
storage_type = "LocalFs"

[storage_backend.backends.local_fs]
dir_path = "{}"

[[plugins]]
name = "resource"
storage_backend_type = "kvstorage"
"#,
        key.display(),
        home.file("kbs-storage").display()
    ))
    .unwrap();
    // Sample evidence, which upstream takes without a word, must be asked for.
    let mut command = home.serve_command();
    command.args(["--set", "attestation.accept_sample=true"]);
    let job = cocoon_tests::Job::start(command).unwrap();
    let trustee = cocoon_tests::Served::when_ready(job, &home.file("no-such-token")).unwrap();
    assert!(trustee.url().starts_with("http://127.0.0.1:"), "{}", trustee.url());
    let admin = Admin::new(trustee.http().unwrap(), trustee.url(), &jwt);
    let stranger = Admin::new(trustee.http().unwrap(), trustee.url(), "x.y.z");

    // set-resource-policy --allow-all; set-resource; get-resource.
    let policy = "package policy\n\ndefault allow = true\n";
    let policy = json!({"policy": URL_SAFE_NO_PAD.encode(policy)}).to_string();
    let post = |admin: Admin, path: &'static str, body: Vec<u8>| async move {
        admin.send(Method::POST, path, body).await.unwrap()
    };
    let refused = post(stranger.clone(), "/kbs/v0/resource-policy", policy.clone().into_bytes()).await;
    assert_eq!(refused.status, 401);
    let denied = get_resource(&Guest::of(&trustee, &Attester::Sample).unwrap()).await;
    assert_eq!(denied.unwrap_err().status, 401, "nothing is allowed before there is a policy");
    done(post(admin.clone(), "/kbs/v0/resource-policy", policy.into_bytes()).await);
    done(post(admin.clone(), "/kbs/v0/resource/default/key/one", b"a value \x00\xff".to_vec()).await);
    let (got, token) = get_resource(&Guest::of(&trustee, &Attester::Sample).unwrap()).await.unwrap();
    assert_eq!(got, b"a value \x00\xff");
    // Upstream gives tokens whatever the appraisal says, and leaves it to policies.
    let cpu = &claims(&token)["submods"]["cpu0"];
    assert_eq!(cpu["ear.status"], "contraindicated", "{}", text(cpu));

    // set-sample-reference-value, get-reference-value, set-attestation-policy, delete-resource.
    let values = Attester::Sample.reference_values();
    for (name, value) in values.as_object().unwrap() {
        let value = if name.contains("version") { value[0].clone() } else { value.clone() };
        let payload = STANDARD.encode(json!({name: value}).to_string());
        let message = json!({"version": "0.1.0", "type": "sample", "payload": payload}).to_string();
        done(post(admin.clone(), "/kbs/v0/reference-value", message.into_bytes()).await);
    }
    let value = admin.get("/kbs/v0/reference-value/launch_digest").await.unwrap();
    assert_eq!(value, json!(["abcde"]));
    let (_, token) = get_resource(&Guest::of(&trustee, &Attester::Sample).unwrap()).await.unwrap();
    let cpu = &claims(&token)["submods"]["cpu0"];
    assert_eq!(cpu["ear.status"], "affirming", "{}", text(cpu));
    let policy = "package policy\nimport rego.v1\ntrust_claims := {\"hardware\": 97}\n";
    let policy = URL_SAFE_NO_PAD.encode(policy);
    let message = json!({"type": "rego", "policy_id": "default_cpu", "policy": policy}).to_string();
    done(post(admin.clone(), "/kbs/v0/attestation-policy", message.into_bytes()).await);
    let (_, token) = get_resource(&Guest::of(&trustee, &Attester::Sample).unwrap()).await.unwrap();
    assert_eq!(claims(&token)["submods"]["cpu0"]["ear.status"], "contraindicated");
    let deleted = admin.send(Method::DELETE, "/kbs/v0/resource/default/key/one", "").await.unwrap();
    done(deleted);
    let gone = get_resource(&Guest::of(&trustee, &Attester::Sample).unwrap()).await.unwrap_err();
    assert_eq!(gone.status, 404);
    assert_eq!(trustee.stop().unwrap().status, Some(0));
}

fn done(reply: Reply) {
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
}

/// `kbs-client get-resource --path default/key/one`: the value and the token.
async fn get_resource(guest: &Guest) -> Result<(Vec<u8>, String), Reply> {
    let answer = guest.begin().await.unwrap();
    let reply = guest.attest(&answer).await.unwrap();
    if reply.status != 200 {
        return Err(reply);
    }
    let token = token(&reply).unwrap();
    let reply = guest.resource(&token, "default/key/one").await.unwrap();
    if reply.status != 200 {
        return Err(reply);
    }
    Ok((answer.open(reply).unwrap(), token))
}
