//! Guests of every protocol version in the field, with every kind of key, get their secrets in their own form.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use cocoon_trustee::{Limits, Registration};
use serde_json::json;
use support::key::Key;
use support::speaker::{Speaker, rule_for_any, sample_values};
use support::*;

const SECRET: &str = "default/key/1";

/// A Trustee that takes sample evidence and lets everybody have [`SECRET`].
async fn world() -> World {
    let world = World::with(|config| config.live.accept_sample = true, Limits::default()).await;
    sample_values(&world.trustee);
    world.trustee.put_secret(&path(SECRET), b"s3cret").unwrap();
    world.trustee.put_rule(&rule_for_any("default/key/*", true)).unwrap();
    world
}

#[tokio::test]
async fn every_version_tee_and_key_gets_secrets_in_its_own_form() {
    let world = world().await;
    for (version, kind) in [
        ("0.1.1", "RSA1_5"),
        ("0.2.0", "RSA1_5"),
        ("0.2.0", "RSA-OAEP-256"),
        ("0.2.0", "P-256"),
        ("0.4.0", "P-256"),
        ("0.4.0", "P-521"),
        ("0.4.0", "RSA-OAEP-256"),
    ] {
        for tee in ["sample", "snp"] {
            let key = match kind {
                "P-256" => Key::p256(),
                "P-521" => Key::p521(),
                alg => Key::Rsa(alg),
            };
            let mut guest = Speaker::new(&world, version, tee, key).await;
            let token =
                guest.attest(&world).await.unwrap_or_else(|r| panic!("{version} {tee}: {}", r.text()));
            let reply = guest.guest.get(&token, SECRET).await;
            assert_eq!(guest.open(&reply), b"s3cret", "{version} {tee} {kind}");
            let reply = guest.guest.get_by_cookie(SECRET).await;
            assert_eq!(guest.open(&reply), b"s3cret", "{version} {tee} {kind}");
            // The key's holder and nobody else.
            let other = if kind == "P-521" { Key::p521() } else { Key::p256() };
            assert_eq!(other.open(&reply.json()), None);

            let now = cocoon_trustee::system_clock()();
            let claims = cocoon_protocol::token::verify(&token, &world.trustee.jwks(), now).unwrap();
            let cpu = &claims["submods"]["cpu0"];
            assert_eq!(
                (&cpu["ear.status"], &cpu["ear.cocoon.simulated"]),
                (&json!("affirming"), &json!(true))
            );
            let runtime = &cpu["ear.veraison.annotated-evidence"]["runtime_data_claims"];
            assert_eq!(runtime["tee-pubkey"], serde_json::to_value(guest.key.public()).unwrap());
            assert_eq!(runtime.get("additional-evidence").is_some(), version == "0.4.0");
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn a_token_keeps_its_dialect_wherever_it_is_presented() {
    let world = world().await;
    let mut guest = Speaker::new(&world, "0.1.1", "snp", Key::Rsa("RSA1_5")).await;
    let token = guest.attest(&world).await.unwrap();
    guest.guest.client = world.client().await;
    let reply = guest.guest.get(&token, SECRET).await;
    assert_eq!(guest.open(&reply), b"s3cret");
    // Checked anew instead of remembered, it says the same.
    world.trustee.rotate_token_key().unwrap();
    let reply = guest.guest.get(&token, SECRET).await;
    assert_eq!(guest.open(&reply), b"s3cret");
    world.stop().await;
}

#[tokio::test]
async fn a_key_that_a_version_cannot_use_gets_nothing() {
    let world = world().await;
    for key in [Key::p256(), Key::Rsa("RSA-OAEP-256")] {
        let mut guest = Speaker::new(&world, "0.1.1", "sample", key).await;
        let token = guest.attest(&world).await.unwrap();
        let reply = guest.guest.get(&token, SECRET).await;
        assert_eq!((reply.status, reply.kind().as_str()), (401, "JweError"));
        reply.code();
    }
    world.stop().await;
}

#[tokio::test]
async fn older_spellings_of_tees_are_understood() {
    let world = world().await;
    for (old, name) in [("azsnpvtpm", "az-snp-vtpm"), ("aztdxvtpm", "az-tdx-vtpm"), ("sev", "sev")] {
        for version in ["0.1.1", "0.2.0", "0.4.0"] {
            let mut guest = Speaker::new(&world, version, old, Key::Rsa("RSA1_5")).await;
            let refused = guest.attest(&world).await.unwrap_err();
            let code = if old == "sev" { "ATTEST-TEE-UNSUPPORTED" } else { "ATTEST-EVIDENCE-MALFORMED" };
            assert_eq!((refused.status, refused.code()), (401, code));
            let subject = world.explain(&refused).subject;
            assert_eq!(subject, cocoon_trustee::Subject::Attest { tee: name.into() });
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn unknown_versions_are_refused_in_words_that_guests_look_for() {
    let world = world().await;
    let mut guest = world.guest(None).await;
    for version in ["", "0.1.0", "0.3.0", "0.4", "0.4.0 ", "1.0.0", "<script>", &"9".repeat(10_000)] {
        let body = json!({"version": version, "tee": "sample", "extra-params": ""});
        let reply = guest.post("/kbs/v0/auth", &body).await;
        let (code, words) = reply.refusal();
        assert_eq!((reply.status, code), (401, "ATTEST-PROTOCOL-VERSION"), "{version}");
        assert_eq!(reply.kind(), "AttestationError");
        let words = words.unwrap();
        assert!(words.starts_with("KBS Client Protocol Version Mismatch"), "{words}");
        assert!(words.len() < 200, "{words}");
        assert_eq!(reply.header("set-cookie"), None);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_session_takes_the_message_of_its_own_version_only() {
    let world = world().await;
    for (version, other) in [("0.1.1", "0.4.0"), ("0.2.0", "0.4.0"), ("0.4.0", "0.1.1"), ("0.4.0", "0.2.0")] {
        let mut guest = Speaker::new(&world, version, "sample", Key::Rsa("RSA1_5")).await;
        let nonce = guest.auth().await;
        guest.version = other;
        let message = guest.message(&world, &nonce);
        let refused = guest.answer(&message).await.unwrap_err();
        assert_eq!((refused.status, refused.code()), (401, "ATTEST-PROTOCOL"), "{other} on {version}");
    }
    // Between the older two the message is the same; the session's version decides on the form.
    let mut guest = Speaker::new(&world, "0.2.0", "sample", Key::Rsa("RSA1_5")).await;
    let token = guest.attest(&world).await.unwrap();
    let reply = guest.guest.get(&token, SECRET).await;
    assert!(guest.key.open_0_1_1(&reply.json()).is_none());
    world.stop().await;
}

#[tokio::test]
async fn older_messages_are_bound_to_their_challenge_and_key_too() {
    let world = world().await;
    for version in ["0.1.1", "0.2.0"] {
        for tee in ["sample", "snp"] {
            let mut guest = Speaker::new(&world, version, tee, Key::Rsa("RSA1_5")).await;
            let stale = guest.auth().await;
            guest.auth().await;
            // The message repeats no nonce: the evidence alone tells that it answers another challenge.
            let message = guest.message(&world, &stale);
            let refused = guest.answer(&message).await.unwrap_err();
            assert_eq!(refused.code(), "ATTEST-REPORT-DATA-MISMATCH", "{version} {tee}");
            let nonce = guest.auth().await;
            let mut message = guest.message(&world, &nonce);
            message["tee-pubkey"] = serde_json::to_value(Key::p256().public()).unwrap();
            let refused = guest.answer(&message).await.unwrap_err();
            assert_eq!(refused.code(), "ATTEST-REPORT-DATA-MISMATCH", "{version} {tee}");
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn sample_evidence_is_refused_unless_it_is_accepted() {
    let world = World::new().await;
    sample_values(&world.trustee);
    for (version, kind) in [("0.1.1", "RSA1_5"), ("0.2.0", "RSA1_5"), ("0.4.0", "RSA-OAEP-256")] {
        let mut guest = Speaker::new(&world, version, "sample", Key::Rsa(kind)).await;
        let refused = guest.attest(&world).await.unwrap_err();
        assert_eq!((refused.status, refused.code()), (401, "ATTEST-SIMULATED-REFUSED"));
    }
    // Accepted from now on, but not with values that nobody registered.
    world.trustee.reload(cocoon_trustee::Live { accept_sample: true, ..world.trustee.live() }).unwrap();
    let mut guest = Speaker::new(&world, "0.4.0", "sample", Key::p256()).await;
    guest.attest(&world).await.unwrap();
    for (name, code) in
        [("launch_digest", "ATTEST-MEASUREMENT-UNKNOWN"), ("minimum_minor_version", "ATTEST-TCB-OUTDATED")]
    {
        world.trustee.delete_reference_values(name, None).unwrap();
        assert_eq!(guest.attest(&world).await.unwrap_err().code(), code, "{name}");
        sample_values(&world.trustee);
    }
    world.stop().await;
}

#[tokio::test]
async fn sample_guests_get_only_what_is_meant_for_simulated_ones() {
    let world = world().await;
    world.trustee.delete_rule("any").unwrap();
    let plan = init_data("a");
    let mut guest = Speaker::new(&world, "0.4.0", "sample", Key::p256()).await;
    guest.guest.init_data = Some(plan.clone());
    let token = guest.attest(&world).await.unwrap();
    // Sample evidence binds no plan, so that naming a registered one makes nobody that workload.
    world.register(&registration(&plan));
    let denied = guest.guest.get(&token, "default/secret/own").await;
    assert_eq!((denied.status, denied.code()), (401, "RELEASE-WORKLOAD-UNKNOWN"));

    // By a rule.
    world.trustee.put_rule(&rule_for_any("default/key/*", false)).unwrap();
    let denied = guest.guest.get(&token, SECRET).await;
    assert_eq!(denied.status, 401);
    let steps = world.explain(&denied).steps;
    let step = steps.iter().find(|s| s.name == "release.rule").unwrap();
    assert_eq!(step.code.unwrap().as_str(), "ATTEST-SIMULATED-REFUSED");
    world.trustee.put_rule(&rule_for_any("default/key/*", true)).unwrap();
    let reply = guest.guest.get(&token, SECRET).await;
    assert_eq!(guest.open(&reply), b"s3cret");
    world.trustee.delete_rule("any").unwrap();

    // By the resource policy.
    let mut admin = world.client().await;
    for (name, status) in [("default", 401), ("deny_all", 401), ("affirming", 200)] {
        let text = cocoon_policy::resource_sample(name).unwrap();
        let body = json!({"policy": cocoon_protocol::b64::url_encode(text.as_bytes())}).to_string();
        let set = admin.admin("POST", "/kbs/v0/resource-policy", body.as_bytes()).await;
        assert_eq!(set.status, 200, "{}", set.text());
        assert_eq!(guest.guest.get(&token, SECRET).await.status, status, "{name}");
    }

    let gone = admin.admin("DELETE", "/cocoon/v0/policies/resource-policy", b"").await;
    assert_eq!(gone.status, 200);
    assert_eq!(guest.guest.get(&token, SECRET).await.status, 401);

    // By a registration: a simulated guest whose plan is bound.
    let mut bound = world.guest(Some(plan.clone())).await;
    let token = bound.attest(&world).await.unwrap();
    assert_eq!(bound.get(&token, "default/secret/own").await.status, 200);
    world.register(&Registration { accept_simulated: false, ..registration(&plan) });
    let denied = bound.get(&token, "default/secret/own").await;
    assert_eq!(denied.code(), "ATTEST-SIMULATED-REFUSED");
    world.stop().await;
}
