//! IBM Secure Execution: the nonce is a request for the machine's Ultravisor.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cocoon_protocol::{HashAlgorithm, b64};
use cocoon_trustee::{Limits, system_clock};
use serde_json::{Value, json};

use crate::api::{Api, TOKEN};
use crate::guests::*;
use crate::support::speaker::rule_for_any;
use crate::support::*;
use crate::ultravisor::{Machine, header};

const SHARED: &str = "default/key/1";

async fn world(machine: &Machine) -> World {
    let expected = Arc::new(machine.expected());
    let world = World::with(|config| config.live.secure_execution = Some(expected), Limits::default()).await;
    world.trustee.put_secret(&path(SHARED), b"s3cret").unwrap();
    world.trustee.put_rule(&rule_for_any("default/key/*", false)).unwrap();
    world
}

fn known(world: &World, machine: &Machine) {
    let known = [
        ("se_image_phkh", json!(machine.key_hash())),
        ("se_attestation_phkh", json!(machine.key_hash())),
        ("se_tag", json!("04".repeat(16))),
    ];
    values(world, &known);
}

/// Evidence of the challenge in a message for it.
fn message(guest: &Attester, machine: &Machine, nonce: &str) -> Value {
    let evidence = machine.attest(nonce, &guest.report_data(nonce, "")).expect("a request for this machine");
    guest.message(nonce, &evidence, "")
}

#[tokio::test]
async fn a_guest_of_a_known_machine_and_image_attests() {
    let machine = Machine::new(system_clock()());
    let world = world(&machine).await;
    let mut guest = Attester::new(&world, "se", None).await;
    let nonce = guest.auth().await.unwrap();
    let challenge: Value = serde_json::from_str(&nonce).unwrap();
    assert!(challenge["request_blob"].is_string() && challenge["measurement_size"] == 64, "{nonce}");
    // The cookie does not carry it: a browser's limit is 4096 bytes.
    assert!(guest.guest.cookie.len() < 1024 && nonce.len() > 1024);
    let good = message(&guest, &machine, &nonce);
    assert_eq!(code(&world, guest.answer(&good).await), "ATTEST-MEASUREMENT-UNKNOWN");
    known(&world, &machine);
    let nonce = guest.auth().await.unwrap();
    let good = message(&guest, &machine, &nonce);
    let token = guest.answer(&good).await.unwrap();
    let claims = claims(&world, &token);
    assert_eq!(claims["submods"]["cpu0"]["ear.status"], "affirming");
    let of = said(&claims, "se");
    for (name, value) in [
        ("cuid", json!("05".repeat(16))),
        ("tag", json!("04".repeat(16))),
        ("version", json!(0x100)),
        ("image_phkh", json!(machine.key_hash())),
        ("attestation_phkh", json!(machine.key_hash())),
        ("report_data", json!(hex::encode(guest.report_data(&nonce, "")))),
    ] {
        assert_eq!(of[name], value, "{name}");
    }
    let runtime = &claims["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["runtime_data_claims"];
    assert_eq!(runtime["nonce"], nonce);
    let reply = guest.guest.get(&token, SHARED).await;
    assert_eq!(guest.guest.decrypt(&reply), b"s3cret");
    // Each reference value counts.
    for name in ["se_image_phkh", "se_attestation_phkh", "se_tag"] {
        world.trustee.delete_reference_values(name, None).unwrap();
        let nonce = guest.auth().await.unwrap();
        let good = message(&guest, &machine, &nonce);
        assert_eq!(code(&world, guest.answer(&good).await), "ATTEST-MEASUREMENT-UNKNOWN", "{name}");
        known(&world, &machine);
    }
    world.stop().await;
}

#[tokio::test]
async fn only_a_challenge_of_0_4_0_carries_the_request() {
    let machine = Machine::new(system_clock()());
    let world = world(&machine).await;
    let mut guest = Attester::new(&world, "se", None).await;
    for old in ["0.1.1", "0.2.0"] {
        let reply = guest.auth_by(old).await.unwrap_err();
        assert_eq!((reply.status, reply.code()), (401, "ATTEST-PROTOCOL-VERSION"), "{old}");
    }
    world.stop().await;
    let bare = World::new().await;
    let mut guest = Attester::new(&bare, "se", None).await;
    let reply = guest.auth().await.unwrap_err();
    assert_eq!((reply.status, reply.code()), (401, "ATTEST-TEE-UNSUPPORTED"));
    bare.stop().await;
}

#[tokio::test]
async fn a_challenge_is_answered_once_in_time_and_to_the_letter() {
    let machine = Machine::new(system_clock()());
    let world = world(&machine).await;
    known(&world, &machine);
    let mut guest = Attester::new(&world, "se", None).await;
    let nonce = guest.auth().await.unwrap();
    let cookie = guest.guest.cookie.clone();
    let good = message(&guest, &machine, &nonce);
    guest.answer(&good).await.unwrap();
    guest.guest.cookie = cookie;
    let refused = guest.answer(&good).await.unwrap_err();
    assert_eq!(refused.code(), "ATTEST-NONCE-REPLAYED");

    // Another text for the same JSON, another challenge of ours, none.
    let older = guest.auth().await.unwrap();
    for alter in [
        &(|nonce: &str| nonce.replacen("{", "{ ", 1)) as &dyn Fn(&str) -> String,
        &|_| older.clone(),
        &|_| "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned(),
        &|_| String::new(),
    ] {
        let nonce = guest.auth().await.unwrap();
        let told = alter(&nonce);
        let evidence = machine.attest(&nonce, &guest.report_data(&told, "")).unwrap();
        let refused = guest.answer(&guest.message(&told, &evidence, "")).await;
        assert_eq!(code(&world, refused), "ATTEST-REPORT-DATA-MISMATCH");
    }
    // Evidence for the right text that carries another's report data.
    let nonce = guest.auth().await.unwrap();
    let evidence = machine.attest(&nonce, &guest.report_data(&older, "")).unwrap();
    let refused = guest.answer(&guest.message(&nonce, &evidence, "")).await;
    assert_eq!(code(&world, refused), "ATTEST-REPORT-DATA-MISMATCH");

    // The state that comes back is sealed.
    let nonce = guest.auth().await.unwrap();
    let mut forged = message(&guest, &machine, &nonce);
    let state = &mut forged["tee-evidence"]["primary_evidence"]["encr_measurement_key"];
    let mut bytes = b64::std_decode(state.as_str().unwrap()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    *state = json!(b64::std_encode(&bytes));
    assert_eq!(code(&world, guest.answer(&forged).await), "ATTEST-NONCE-REPLAYED");

    let nonce = guest.auth().await.unwrap();
    let late = message(&guest, &machine, &nonce);
    world.ahead.fetch_add(301, Ordering::SeqCst);
    assert_eq!(guest.answer(&late).await.unwrap_err().code(), "ATTEST-NONCE-REPLAYED");
    world.stop().await;
}

#[tokio::test]
async fn neither_another_machine_nor_another_image_nor_initdata() {
    let machine = Machine::new(system_clock()());
    let world = world(&machine).await;
    known(&world, &machine);
    let mut guest = Attester::new(&world, "se", None).await;
    let nonce = guest.auth().await.unwrap();
    assert!(Machine::new(system_clock()()).attest(&nonce, &[0; 64]).is_none(), "it cannot read the request");
    // The machine booted another image; whatever the guest says, it measures that one.
    let other = machine.with(header(0x40));
    let bad = message(&guest, &other, &nonce);
    assert_eq!(code(&world, guest.answer(&bad).await), "ATTEST-SIGNATURE-INVALID");
    let machine = other.with(header(0));
    // Nothing binds initdata, so none may be presented.
    let plan = plan("own", HashAlgorithm::Sha256);
    register(&world, &plan, false);
    guest.guest.init_data = Some(plan);
    let nonce = guest.auth().await.unwrap();
    let bad = message(&guest, &machine, &nonce);
    assert_eq!(code(&world, guest.answer(&bad).await), "ATTEST-INITDATA-MISMATCH");
    world.stop().await;
}

#[tokio::test]
async fn there_is_no_challenge_once_the_host_key_is_over() {
    let machine = Machine::new(system_clock()());
    let world = world(&machine).await;
    let mut guest = Attester::new(&world, "se", None).await;
    assert!(guest.auth().await.is_ok());
    // Past 2040.
    world.ahead.store(20 * 366 * 86_400, Ordering::SeqCst);
    let reply = guest.auth().await.unwrap_err();
    assert_eq!(reply.code(), "ATTEST-CERTIFICATE-EXPIRED");
    world.stop().await;
}

#[tokio::test]
async fn any_trustee_on_the_same_state_takes_the_answer_once() {
    let machine = Machine::new(system_clock()());
    let expected = Arc::new(machine.expected());
    let folder = tempfile::tempdir().unwrap();
    let store = shared_store(&folder);
    let sealer = Arc::new(cocoon_store::Sealer::ephemeral().unwrap());
    let one = || {
        let (store, sealer, expected) = (store.clone(), sealer.clone(), expected.clone());
        let change = move |config: &mut cocoon_trustee::Config| {
            (config.store, config.sealer) = (store, sealer);
            config.live.secure_execution = Some(expected);
        };
        World::with(change, Limits::default())
    };
    let (first, second) = (one().await, one().await);
    known(&first, &machine);
    let mut guest = Attester::new(&first, "se", None).await;
    let nonce = guest.auth().await.unwrap();
    let good = message(&guest, &machine, &nonce);
    guest.guest.client = second.client().await;
    let cookie = guest.guest.cookie.clone();
    guest.answer(&good).await.unwrap();
    (guest.guest.client, guest.guest.cookie) = (first.client().await, cookie);
    assert_eq!(guest.answer(&good).await.unwrap_err().code(), "ATTEST-NONCE-REPLAYED");
    first.stop().await;
    second.stop().await;

    // One with a state of its own knows nothing of it.
    let other = world(&machine).await;
    known(&other, &machine);
    let mut guest = Attester::new(&other, "se", None).await;
    let own = guest.auth().await.unwrap();
    let evidence = machine.attest(&nonce, &guest.report_data(&own, "")).unwrap();
    let refused = guest.answer(&guest.message(&own, &evidence, "")).await;
    assert_eq!(code(&other, refused), "ATTEST-NONCE-REPLAYED");
    other.stop().await;
}

#[tokio::test]
async fn a_relying_party_challenges_and_evaluates_by_itself() {
    let machine = Machine::new(system_clock()());
    let expected = Arc::new(machine.expected());
    let access = |config: &mut cocoon_trustee::Config| {
        config.live.access.token_sha256 = Some(sha256(TOKEN.as_bytes()));
    };
    let change = |config: &mut cocoon_trustee::Config| {
        access(config);
        config.live.secure_execution = Some(expected);
    };
    let world = World::with(change, Limits::default()).await;
    known(&world, &machine);
    let api = Api::start(&world).await;
    let challenge = api.rest("POST", "/challenge", json!({"tee": "se"})).await;
    let runtime = json!({"nonce": challenge});
    let data = HashAlgorithm::Sha512.digest(&cocoon_protocol::jcs::canonicalize(&runtime).unwrap());
    let body = |evidence: &Value| {
        let one = json!({
            "tee": "se", "evidence": b64::url_encode(evidence.to_string().as_bytes()),
            "runtime_data": {"structured": runtime}, "runtime_data_hash_algorithm": "sha512",
        });
        json!({"verification_requests": [one], "policy_ids": []})
    };
    let evidence = machine.attest(&challenge, &data).unwrap();
    let token = api.rest("POST", "/attestation", body(&evidence)).await;
    assert_eq!(claims(&world, &token)["submods"]["cpu0"]["ear.status"], "affirming");
    let wrong = machine.attest(&challenge, &[1; 64]).unwrap();
    let refusal = api.refused("POST", "/attestation", &body(&wrong)).await;
    assert_eq!(refusal.1, "ATTEST-REPORT-DATA-MISMATCH");
    world.ahead.fetch_add(301, Ordering::SeqCst);
    let refusal = api.refused("POST", "/attestation", &body(&evidence)).await;
    assert_eq!(refusal.1, "ATTEST-NONCE-REPLAYED");
    api.stop().await;
    world.stop().await;

    let bare = World::with(access, Limits::default()).await;
    let api = Api::start(&bare).await;
    let unsupported = (400, "ATTEST-TEE-UNSUPPORTED".to_owned());
    assert_eq!(api.refused("POST", "/challenge", &json!({"tee": "se"})).await, unsupported);
    assert_eq!(api.refused("POST", "/attestation", &body(&evidence)).await, unsupported);
    api.stop().await;
    bare.stop().await;
}
