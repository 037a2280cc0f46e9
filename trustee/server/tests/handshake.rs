//! A guest attests and gets its secrets; every way in which it must not is tried.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::atomic::Ordering;

use cocoon_protocol::TeeKeyPair;
use cocoon_trustee::{Limits, MinStatus, Registration};
use serde_json::{Value, json};
use support::*;

#[tokio::test]
async fn a_registered_guest_gets_its_secrets_by_token_and_by_cookie() {
    let world = World::new().await;
    let plan = init_data("a");
    world.register(&registration(&plan));
    world.trustee.put_secret(&path("default/key/shared"), b"shared").unwrap();
    let mut guest = world.guest(Some(plan.clone())).await;
    let token = guest.attest(&world).await.unwrap();

    let own = guest.get(&token, "default/secret/own").await;
    assert_eq!(own.header("content-type"), Some("application/json"));
    assert!(!own.text().contains("s3cret"));
    assert_eq!(guest.decrypt(&own), b"s3cret");
    let shared = guest.get(&token, "default/key/shared").await;
    assert_eq!(guest.decrypt(&shared), b"shared");
    let by_cookie = guest.get_by_cookie("default/secret/own").await;
    assert_eq!(guest.decrypt(&by_cookie), b"s3cret");
    let gone = guest.get(&token, "default/key/gone").await;
    assert_eq!((gone.status, gone.code()), (404, "RELEASE-SECRET-MISSING"));

    // Another guest that steals the token gets ciphertext for a key it does not have.
    let thief = TeeKeyPair::generate().unwrap();
    let stolen = guest.get(&token, "default/secret/own").await;
    assert!(thief.decrypt(&serde_json::from_slice(&stolen.body).unwrap()).is_err());

    // The token as relying parties read it.
    let jwks = guest.client.request("GET", "/.well-known/jwks.json", &[], b"").await.json();
    assert_eq!(jwks, world.trustee.jwks());
    let now = cocoon_trustee::system_clock()();
    let claims = cocoon_protocol::token::verify(&token, &jwks, now).unwrap();
    let cpu = &claims["submods"]["cpu0"];
    assert_eq!(cpu["ear.status"], "affirming");
    assert_eq!(cpu["ear.cocoon.simulated"], true);
    let vector = &cpu["ear.trustworthiness-vector"];
    assert_eq!(
        (&vector["executables"], &vector["hardware"], &vector["configuration"]),
        (&json!(3), &json!(2), &json!(3))
    );
    let evidence = &cpu["ear.veraison.annotated-evidence"];
    assert_eq!(evidence["snp"]["measurement"], hex::encode(MEASUREMENT));
    assert_eq!(evidence["init_data"], hex::encode(&plan.digest()[..32]));
    assert_eq!(evidence["init_data_claims"]["aa.toml"]["token_configs"]["kbs"]["url"], "https://localhost");
    assert_eq!(
        evidence["runtime_data_claims"]["tee-pubkey"],
        serde_json::to_value(guest.key.public()).unwrap()
    );

    let explanation = world.explain(&own);
    assert_eq!((explanation.code, explanation.workload.as_deref()), (None, Some("web")));
    world.stop().await;
}

#[tokio::test]
async fn each_challenge_is_good_for_one_answer() {
    let world = World::new().await;
    world.register(&registration(&init_data("a")));
    let mut guest = world.guest(Some(init_data("a"))).await;
    let challenge = guest.auth().await;
    let challenge_cookie = guest.cookie.clone();
    let message = guest.attestation(&world, &challenge);
    assert_eq!(guest.post("/kbs/v0/attest", &message).await.status, 200);
    // With the cookie of the finished session, out of order.
    let repeated = guest.post("/kbs/v0/attest", &message).await;
    assert_eq!((repeated.status, repeated.code()), (401, "ATTEST-PROTOCOL"));
    // With the first cookie, a replay.
    guest.cookie = challenge_cookie;
    let replayed = guest.post("/kbs/v0/attest", &message).await;
    assert_eq!((replayed.status, replayed.code()), (401, "ATTEST-NONCE-REPLAYED"));

    // A failed answer uses the challenge up as well.
    let challenge = guest.auth().await;
    let message = guest.attestation(&world, &challenge);
    assert_eq!(guest.post("/kbs/v0/attest", &json!({})).await.code(), "ATTEST-PROTOCOL");
    assert_eq!(guest.post("/kbs/v0/attest", &message).await.code(), "ATTEST-NONCE-REPLAYED");
    // And a new handshake works.
    guest.attest(&world).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn of_many_equal_answers_at_once_one_succeeds() {
    let world = World::new().await;
    let mut guest = world.guest(Some(init_data("a"))).await;
    let challenge = guest.auth().await;
    let message = guest.attestation(&world, &challenge).to_string();
    let mut racers = Vec::new();
    for _ in 0..8 {
        let (mut client, cookie, message) = (world.client().await, guest.cookie.clone(), message.clone());
        racers.push(tokio::spawn(async move {
            client.request("POST", "/kbs/v0/attest", &[("cookie", &cookie)], message.as_bytes()).await.status
        }));
    }
    let mut granted = 0;
    for racer in racers {
        granted += usize::from(racer.await.unwrap() == 200);
    }
    assert_eq!(granted, 1);
    world.stop().await;
}

#[tokio::test]
async fn cookies_that_are_forged_missing_or_expired_are_refused() {
    let world = World::new().await;
    let mut guest = world.guest(Some(init_data("a"))).await;
    let challenge = guest.auth().await;
    let message = guest.attestation(&world, &challenge);
    let genuine = guest.cookie.clone();
    let mut flipped = genuine.clone().into_bytes();
    let last = flipped.len() - 5;
    flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
    for cookie in
        ["", "kbs-session-id=0123456789abcdef0123456789abcdef", std::str::from_utf8(&flipped).unwrap()]
    {
        guest.cookie = cookie.into();
        assert_eq!(guest.post("/kbs/v0/attest", &message).await.code(), "ATTEST-PROTOCOL", "{cookie}");
    }
    guest.cookie = genuine.clone();
    world.ahead.store(300, Ordering::SeqCst);
    assert_eq!(guest.post("/kbs/v0/attest", &message).await.code(), "ATTEST-NONCE-REPLAYED");
    world.ahead.store(0, Ordering::SeqCst);
    // The other Trustee's cookie is not ours.
    let other = World::new().await;
    let mut stranger = other.guest(Some(init_data("a"))).await;
    stranger.cookie = genuine;
    assert_eq!(stranger.post("/kbs/v0/attest", &message).await.code(), "ATTEST-PROTOCOL");
    other.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn evidence_must_be_made_for_this_challenge_key_and_plan() {
    let world = World::new().await;
    let mut guest = world.guest(Some(init_data("a"))).await;

    let mut attempt = async |change: &dyn Fn(&mut Value)| {
        let challenge = guest.auth().await;
        let mut message = guest.attestation(&world, &challenge);
        change(&mut message);
        let reply = guest.post("/kbs/v0/attest", &message).await;
        assert_eq!(reply.status, 401);
        let code = reply.code().to_owned();
        assert_eq!(world.explain(&reply).code.unwrap().as_str(), code);
        code
    };
    let other_key = serde_json::to_value(TeeKeyPair::generate().unwrap().public()).unwrap();
    let mismatch = "ATTEST-REPORT-DATA-MISMATCH";
    assert_eq!(attempt(&|m| m["runtime-data"]["tee-pubkey"] = other_key.clone()).await, mismatch);
    assert_eq!(attempt(&|m| m["runtime-data"]["nonce"] = json!("AAAA")).await, mismatch);
    let other_plan = init_data("b");
    let changed_plan = json!({"format": "toml", "body": other_plan.text()});
    assert_eq!(attempt(&|m| m["init-data"] = changed_plan.clone()).await, "ATTEST-INITDATA-MISMATCH");
    assert_eq!(attempt(&|m| m["init-data"]["body"] = json!("not toml [")).await, "INITDATA-MALFORMED");
    assert_eq!(attempt(&|m| m["init-data"]["format"] = json!("json")).await, "INITDATA-MALFORMED");
    let malformed = "ATTEST-EVIDENCE-MALFORMED";
    assert_eq!(attempt(&|m| m["tee-evidence"]["primary_evidence"] = json!({"a": 1})).await, malformed);
    // Devices are bound by the report data of the guest's own evidence; see devices.rs.
    let devices = "{\"nvidia\":{}}";
    assert_eq!(attempt(&|m| m["tee-evidence"]["additional_evidence"] = json!(devices)).await, mismatch);
    assert_eq!(
        attempt(&|m| {
            let byte = &mut m["tee-evidence"]["primary_evidence"]["attestation_report"]["measurement"][0];
            *byte = json!(byte.as_u64().unwrap() ^ 1);
        })
        .await,
        "ATTEST-SIGNATURE-INVALID"
    );
    assert_eq!(
        attempt(&|m| m["tee-evidence"]["primary_evidence"]["cert_chain"] = Value::Null).await,
        "ATTEST-COLLATERAL-MISSING"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_changed_guest_is_refused_and_explained_to_the_owner_only() {
    let world = World::new().await;
    world.register(&registration(&init_data("a")));
    let mut guest = world.guest(Some(init_data("a"))).await;
    guest.measurement = [0xcd; 48];
    let refused = guest.attest(&world).await.unwrap_err();
    assert_eq!((refused.status, refused.code()), (401, "ATTEST-MEASUREMENT-UNKNOWN"));
    assert!(!refused.text().contains("abab") && !refused.text().contains("cdcd"));
    let explanation = world.explain(&refused);
    let step = explanation.steps.iter().find(|s| s.name == "appraisal.measurement").unwrap();
    assert_eq!(step.got, "cd".repeat(48));
    assert!(step.expected.contains(&"ab".repeat(48)));
    assert!(explanation.simulated);

    guest.measurement = MEASUREMENT;
    guest.policy = POLICY | 1 << 19;
    assert_eq!(guest.attest(&world).await.unwrap_err().code(), "ATTEST-DEBUG-ENABLED");
    world.stop().await;
}

#[tokio::test]
async fn secrets_go_to_their_own_workload_only() {
    let world = World::new().await;
    let (ours, theirs) = (init_data("a"), init_data("b"));
    let mut stranger = world.guest(Some(theirs.clone())).await;
    let token = stranger.attest(&world).await.unwrap();
    world.register(&registration(&ours));
    world.trustee.put_secret(&path("default/key/private"), b"private").unwrap();
    for path in ["default/secret/own", "default/key/private", "no/such/path"] {
        let reply = stranger.get(&token, path).await;
        assert_eq!((reply.status, reply.code()), (401, "RELEASE-WORKLOAD-UNKNOWN"));
    }
    let mut second = registration(&theirs);
    second.secrets.clear();
    world.register(&second);
    let denied = stranger.get(&token, "default/secret/own").await;
    assert_eq!((denied.status, denied.code()), (401, "RELEASE-DENIED"));
    assert_eq!(denied.json()["type"].as_str().unwrap().rsplit('/').next(), Some("PolicyDeny"));
    // Existing in the store, another workload's, or nowhere: the answers are the same.
    let existing = stranger.get(&token, "default/key/private").await;
    let unknown = stranger.get(&token, "no/such/path").await;
    assert_eq!(denied.shape(), existing.shape());
    assert_eq!(denied.shape(), unknown.shape());

    // A guest without initdata is no registered workload, whatever it says.
    let mut bare = world.guest(None).await;
    let token = bare.attest(&world).await.unwrap();
    assert_eq!(bare.get(&token, "default/secret/own").await.code(), "RELEASE-WORKLOAD-UNKNOWN");
    // Unregistering takes effect at once, for tokens given before too.
    let mut owner = world.guest(Some(ours.clone())).await;
    let token = owner.attest(&world).await.unwrap();
    assert_eq!(owner.get(&token, "default/secret/own").await.status, 200);
    world.trustee.unregister_workload(&hex::encode(ours.digest())).unwrap();
    assert_eq!(owner.get(&token, "default/secret/own").await.code(), "RELEASE-WORKLOAD-UNKNOWN");
    world.stop().await;
}

#[tokio::test]
async fn the_registration_sets_the_least_status_and_whether_simulation_will_do() {
    let world = World::new().await;
    let plan = init_data("a");
    let mut guest = world.guest(Some(plan.clone())).await;
    guest.policy = POLICY | 1 << 18;
    let token = guest.attest(&world).await.unwrap();
    world.register(&registration(&plan));
    assert_eq!(guest.get(&token, "default/secret/own").await.code(), "RELEASE-STATUS-INSUFFICIENT");
    world.register(&Registration { min_status: MinStatus::Warning, ..registration(&plan) });
    assert_eq!(guest.get(&token, "default/secret/own").await.status, 200);
    world.register(&Registration {
        min_status: MinStatus::Warning,
        accept_simulated: false,
        ..registration(&plan)
    });
    assert_eq!(guest.get(&token, "default/secret/own").await.code(), "ATTEST-SIMULATED-REFUSED");
    world.stop().await;
}

#[tokio::test]
async fn simulated_guests_are_refused_unless_their_root_is_configured() {
    let world = World::with(|config| config.live.simulated_roots.clear(), Limits::default()).await;
    let mut guest = world.guest(Some(init_data("a"))).await;
    let refused = guest.attest(&world).await.unwrap_err();
    assert_eq!((refused.status, refused.code()), (401, "ATTEST-SIMULATED-REFUSED"));
    world.stop().await;

    // The root of another simulator is not ours.
    let mut world = World::new().await;
    let mut guest = world.guest(Some(init_data("a"))).await;
    world.processor = &PROCESSORS[1];
    let challenge = guest.auth().await;
    let message = guest.attestation(&world, &challenge);
    assert_eq!(guest.post("/kbs/v0/attest", &message).await.code(), "ATTEST-CHAIN-UNTRUSTED");
    world.stop().await;
}

#[tokio::test]
async fn simulated_evidence_never_meets_a_real_reference_value() {
    let world = World::new().await;
    for name in world.trustee.reference_values().unwrap().iter().map(|r| r.name.clone()) {
        world.trustee.delete_reference_values(&name, None).unwrap();
    }
    reference_values(&world.trustee, world.processor, "snp");
    let mut guest = world.guest(Some(init_data("a"))).await;
    assert_eq!(guest.attest(&world).await.unwrap_err().code(), "ATTEST-MEASUREMENT-UNKNOWN");
    reference_values(&world.trustee, world.processor, "sim");
    guest.attest(&world).await.unwrap();
    world.trustee.delete_reference_values("sim_microcode", None).unwrap();
    assert_eq!(guest.attest(&world).await.unwrap_err().code(), "ATTEST-TCB-OUTDATED");
    world.stop().await;
}

#[tokio::test]
async fn a_contraindicated_token_is_given_only_if_configured_and_gets_no_secret() {
    let world = World::with(|config| config.live.issue_contraindicated = true, Limits::default()).await;
    let plan = init_data("a");
    world.register(&Registration { min_status: MinStatus::Warning, ..registration(&plan) });
    world.trustee.delete_reference_values("sim_microcode", None).unwrap();
    let mut guest = world.guest(Some(plan)).await;
    let token = guest.attest(&world).await.unwrap();
    assert_eq!(guest.get(&token, "default/secret/own").await.code(), "RELEASE-STATUS-INSUFFICIENT");
    world.stop().await;
}

#[tokio::test]
async fn tokens_must_be_ours_unaltered_and_fresh() {
    let world = World::new().await;
    let plan = init_data("a");
    world.register(&registration(&plan));
    let mut guest = world.guest(Some(plan.clone())).await;
    let token = guest.attest(&world).await.unwrap();
    let missing = guest.client.request("GET", "/kbs/v0/resource/default/secret/own", &[], b"").await;
    assert_eq!((missing.status, missing.code()), (401, "RELEASE-TOKEN-INVALID"));
    assert!(missing.json()["type"].as_str().unwrap().ends_with("/TokenNotFound"));

    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let mut payload = cocoon_protocol::b64::url_decode(&parts[1]).unwrap();
    let at = payload.windows(9).position(|w| w == b"affirming").unwrap();
    payload[at] = b'A';
    parts[1] = cocoon_protocol::b64::url_encode(&payload);
    let altered = parts.join(".");
    let unsigned = format!("{}.{}.", parts[0], parts[1]);
    let other = World::new().await;
    let mut stranger = other.guest(Some(plan)).await;
    let foreign = stranger.attest(&other).await.unwrap();
    let long = "a".repeat(60_000);
    for bad in [altered.as_str(), &unsigned, &foreign, "x", "a.b.c", &long] {
        assert_eq!(guest.get(bad, "default/secret/own").await.code(), "RELEASE-TOKEN-INVALID");
    }
    assert_eq!(guest.get(&token, "default/secret/own").await.status, 200);
    world.ahead.store(300, Ordering::SeqCst);
    assert_eq!(guest.get(&token, "default/secret/own").await.code(), "RELEASE-TOKEN-INVALID");
    assert_eq!(guest.get_by_cookie("default/secret/own").await.code(), "RELEASE-TOKEN-INVALID");
    other.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn other_versions_and_tees_are_named_as_such() {
    let world = World::new().await;
    let mut guest = world.guest(None).await;
    for version in ["0.1.0", "0.3.0", "0.4.1", "9", "\u{0}"] {
        let body = json!({"version": version, "tee": "snp", "extra-params": ""});
        let reply = guest.post("/kbs/v0/auth", &body).await;
        let (code, words) = reply.refusal();
        assert_eq!((reply.status, code), (401, "ATTEST-PROTOCOL-VERSION"), "{version}");
        assert!(words.unwrap().starts_with("KBS Client Protocol Version Mismatch"));
        assert_eq!(reply.kind(), "AttestationError");
    }
    for version in ["0.1.1", "0.2.0"] {
        let body = json!({"version": version, "tee": "snp", "extra-params": ""});
        assert_eq!(guest.post("/kbs/v0/auth", &body).await.status, 200);
    }
    assert_eq!(guest.post("/kbs/v0/auth", &json!({"version": "0.4.0"})).await.code(), "ATTEST-PROTOCOL");
    let body = json!({"version": "0.4.0", "tee": "tdx", "extra-params": ""});
    let reply = guest.post("/kbs/v0/auth", &body).await;
    let challenge = serde_json::from_slice(&reply.body).unwrap();
    let message = guest.attestation(&world, &challenge);
    assert_eq!(guest.post("/kbs/v0/attest", &message).await.code(), "ATTEST-EVIDENCE-MALFORMED");
    // Sample evidence proves nothing and is not taken unless configured.
    let body = json!({"version": "0.4.0", "tee": "sample", "extra-params": ""});
    let reply = guest.post("/kbs/v0/auth", &body).await;
    let challenge = serde_json::from_slice(&reply.body).unwrap();
    let message = guest.attestation(&world, &challenge);
    assert_eq!(guest.post("/kbs/v0/attest", &message).await.code(), "ATTEST-SIMULATED-REFUSED");
    world.stop().await;
}
