//! Evidence of additional devices: appraised beside the guest's own, bound to the same challenge and key.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use cocoon_protocol::{HashAlgorithm, report_data};
use cocoon_trustee::Limits;
use serde_json::{Value, json};
use support::key::Key;
use support::speaker::{Devices, Speaker, rule_for_any, sample, sample_device, sample_values};
use support::*;

const SECRET: &str = "default/key/1";

async fn world(change: impl FnOnce(&mut cocoon_trustee::Live)) -> World {
    let world = World::with(
        |config| {
            config.live.accept_sample = true;
            change(&mut config.live);
        },
        Limits::default(),
    )
    .await;
    sample_values(&world.trustee);
    world.trustee.put_secret(&path(SECRET), b"s3cret").unwrap();
    world.trustee.put_rule(&rule_for_any("default/key/*", true)).unwrap();
    world
}

fn one(kind: &'static str) -> Devices {
    Box::new(move |guest, nonce| json!({kind: sample_device(&guest.key, nonce)}).to_string())
}

async fn guest(world: &World, devices: Devices) -> Speaker {
    let mut guest = Speaker::new(world, "0.4.0", "snp", Key::p256()).await;
    guest.devices = devices;
    guest
}

/// The code of a refused handshake, and its reason as the owner reads it.
async fn refused(world: &World, devices: Devices) -> (String, String) {
    let reply = guest(world, devices).await.attest(world).await.unwrap_err();
    assert_eq!(reply.status, 401);
    (reply.code().to_owned(), world.explain(&reply).reason.unwrap())
}

fn claims(world: &World, token: &str) -> Value {
    let now = cocoon_trustee::system_clock()();
    cocoon_protocol::token::verify(token, &world.trustee.jwks(), now).unwrap()
}

#[tokio::test]
async fn a_guest_with_a_device_is_appraised_as_both() {
    let world = world(|_| ()).await;
    let mut guest = guest(&world, one("sampledevice")).await;
    let nonce = guest.auth().await;
    let message = guest.message(&world, &nonce);
    let token = guest.answer(&message).await.unwrap();
    let submods = claims(&world, &token)["submods"].clone();
    assert_eq!(submods.as_object().unwrap().keys().collect::<Vec<_>>(), ["cpu0", "gpu0"]);
    for name in ["cpu0", "gpu0"] {
        assert_eq!(submods[name]["ear.status"], "affirming", "{name}");
        assert_eq!(submods[name]["ear.cocoon.simulated"], true, "{name}");
        let runtime = &submods[name]["ear.veraison.annotated-evidence"]["runtime_data_claims"];
        assert_eq!(runtime["nonce"], nonce, "{name}");
    }
    let of = |name: &str| &submods[name]["ear.veraison.annotated-evidence"];
    let devices = &message["tee-evidence"]["additional_evidence"];
    assert_eq!(&of("cpu0")["runtime_data_claims"]["additional-evidence"], devices);
    assert!(of("gpu0")["runtime_data_claims"].get("additional-evidence").is_none());
    assert_eq!(of("gpu0")["sampledevice"]["svn"], "1");
    let reply = guest.guest.get(&token, SECRET).await;
    assert_eq!(guest.open(&reply), b"s3cret");
    world.stop().await;
}

#[tokio::test]
async fn tokens_can_do_without_the_devices_evidence() {
    let world = world(|live| live.verbose_tokens = false).await;
    let mut guest = guest(&world, one("sampledevice")).await;
    let token = guest.attest(&world).await.unwrap();
    let submods = claims(&world, &token)["submods"].clone();
    let runtime = &submods["cpu0"]["ear.veraison.annotated-evidence"]["runtime_data_claims"];
    assert!(runtime.get("additional-evidence").is_none() && runtime.get("tee-pubkey").is_some());
    assert_eq!(submods["gpu0"]["ear.status"], "affirming");
    let reply = guest.guest.get(&token, SECRET).await;
    assert_eq!(guest.open(&reply), b"s3cret");
    world.stop().await;
}

#[tokio::test]
async fn large_evidence_of_devices_needs_tokens_without_it() {
    let large = || -> Devices {
        Box::new(|guest, nonce| {
            let mut device = sample_device(&guest.key, nonce);
            device["padding"] = json!("x".repeat(60_000));
            json!({"sampledevice": device}).to_string()
        })
    };
    let verbose = world(|_| ()).await;
    assert_eq!(refused(&verbose, large()).await.0, "ATTEST-PROTOCOL");
    verbose.stop().await;
    let brief = world(|live| live.verbose_tokens = false).await;
    let mut guest = guest(&brief, large()).await;
    let token = guest.attest(&brief).await.unwrap();
    let reply = guest.guest.get(&token, SECRET).await;
    assert_eq!(guest.open(&reply), b"s3cret");
    brief.stop().await;
}

#[tokio::test]
async fn a_devices_evidence_is_bound_to_this_nonce_and_key() {
    let world = world(|_| ()).await;
    let mismatch = "ATTEST-REPORT-DATA-MISMATCH";
    let other_nonce = Box::new(|guest: &Speaker, _: &str| {
        json!({"sampledevice": sample_device(&guest.key, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")})
            .to_string()
    });
    assert_eq!(refused(&world, other_nonce).await.0, mismatch);
    let other_key = Box::new(|_: &Speaker, nonce: &str| {
        json!({"sampledevice": sample_device(&Key::p256(), nonce)}).to_string()
    });
    assert_eq!(refused(&world, other_key).await.0, mismatch);
    // The report data of the guest's own TEE is not a device's.
    let own = Box::new(|guest: &Speaker, nonce: &str| {
        let data = report_data(HashAlgorithm::Sha384, nonce, &guest.key.public(), "").unwrap();
        json!({"sampledevice": sample(&data)}).to_string()
    });
    assert_eq!(refused(&world, own).await.0, mismatch);
    world.stop().await;
}

#[tokio::test]
async fn the_guests_own_evidence_binds_its_devices_to_the_letter() {
    let world = world(|_| ()).await;
    let mut guest = guest(&world, one("sampledevice")).await;
    for change in [
        (|text: &str| format!("{text} ")) as fn(&str) -> String,
        |text| text.replace(':', ": "),
        |_| String::new(),
        |_| "{}".to_owned(),
    ] {
        let nonce = guest.auth().await;
        let mut message = guest.message(&world, &nonce);
        let devices = &mut message["tee-evidence"]["additional_evidence"];
        *devices = json!(change(devices.as_str().unwrap()));
        let refused = guest.answer(&message).await.unwrap_err();
        assert_eq!(refused.code(), "ATTEST-REPORT-DATA-MISMATCH");
    }
    // And devices cannot be put beside evidence that was made without them.
    guest.devices = Box::new(|_, _| String::new());
    let nonce = guest.auth().await;
    let mut message = guest.message(&world, &nonce);
    message["tee-evidence"]["additional_evidence"] =
        json!(json!({"sampledevice": sample_device(&guest.key, &nonce)}).to_string());
    let refused = guest.answer(&message).await.unwrap_err();
    assert_eq!(refused.code(), "ATTEST-REPORT-DATA-MISMATCH");
    world.stop().await;
}

#[tokio::test]
async fn what_is_no_device_is_refused_by_name() {
    let world = world(|_| ()).await;
    for kind in ["sample", "nvidia", "nvidia-dpu", "hygondcu", "tdx", "tpm", "sev"] {
        let (code, reason) = refused(&world, one(kind)).await;
        let expected = match kind {
            "sample" | "sev" | "tdx" | "tpm" => "ATTEST-TEE-UNSUPPORTED",
            _ => "ATTEST-EVIDENCE-MALFORMED",
        };
        assert_eq!(code, expected, "{kind}");
        assert!(reason.contains(kind), "{reason}");
    }
    // A second guest beside the first, with evidence that verifies.
    let snp = Box::new(|guest: &Speaker, nonce: &str| {
        let data = cocoon_protocol::device_report_data(HashAlgorithm::Sha384, nonce, &guest.key.public());
        let mut field = [0; 64];
        field[..48].copy_from_slice(&data.unwrap());
        json!({"snp": evidence(&PROCESSORS[0], MEASUREMENT, [0; 32], POLICY, &field)}).to_string()
    });
    assert_eq!(refused(&world, snp).await.0, "ATTEST-TEE-UNSUPPORTED");
    world.stop().await;
}

#[tokio::test]
async fn malformed_and_too_many_devices_are_refused() {
    let world = world(|_| ()).await;
    let fixed = |text: String| -> Devices { Box::new(move |_, _| text.clone()) };
    let kinds =
        |n: usize| Value::Object((0..n).map(|i| (format!("kind{i}"), json!({}))).collect()).to_string();
    let (code, reason) = refused(&world, fixed(kinds(17))).await;
    assert_eq!(code, "ATTEST-PROTOCOL");
    assert!(reason.contains("17 kinds"), "{reason}");
    for bad in [kinds(1), "[]".into(), "7".into(), "{".into(), " ".into(), "[".repeat(100_000)] {
        assert_eq!(refused(&world, fixed(bad)).await.0, "ATTEST-PROTOCOL");
    }
    for bad in [json!({}), json!([]), json!(null), json!({"svn": "1", "report_data": "*"})] {
        let devices = fixed(json!({"sampledevice": bad}).to_string());
        assert_eq!(refused(&world, devices).await.0, "ATTEST-EVIDENCE-MALFORMED");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_devices_fault_is_the_guests() {
    // A device that nobody registered gets its guest no token.
    let strict = world(|_| ()).await;
    strict.trustee.delete_reference_values("device_svn", None).unwrap();
    assert_eq!(refused(&strict, one("sampledevice")).await.0, "ATTEST-TCB-OUTDATED");
    strict.stop().await;
    // Where tokens are given all the same, its status is the one that counts.
    let lenient = world(|live| live.issue_contraindicated = true).await;
    lenient.trustee.delete_reference_values("device_svn", None).unwrap();
    let mut guest = guest(&lenient, one("sampledevice")).await;
    let token = guest.attest(&lenient).await.unwrap();
    assert_eq!(claims(&lenient, &token)["submods"]["cpu0"]["ear.status"], "affirming");
    let denied = guest.guest.get(&token, SECRET).await;
    assert_eq!(denied.status, 401);
    let steps = lenient.explain(&denied).steps;
    let step = steps.iter().find(|s| s.name == "release.rule").unwrap();
    assert_eq!(step.code.unwrap().as_str(), "RELEASE-STATUS-INSUFFICIENT");
    lenient.stop().await;
    // And devices that prove nothing are as little accepted as guests that prove nothing.
    let off = world(|live| live.accept_sample = false).await;
    assert_eq!(refused(&off, one("sampledevice")).await.0, "ATTEST-SIMULATED-REFUSED");
    off.stop().await;
}
