//! Arm CCA: realms of a platform that a test plays, endorsed in the operator's stores.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use cocoon_evidence::{Error, Trust, cca};
use cocoon_protocol::b64;
use cocoon_trustee::Limits;
use serde_json::{Value, json};

use crate::guests::*;
use crate::support::*;

/// A platform and the realm on it.
pub struct Platform {
    cpak: EcdsaKeyPair,
    rak: EcdsaKeyPair,
    pub lifecycle: u32,
    pub initial_measurement: Vec<u8>,
}

impl Platform {
    pub fn new() -> Platform {
        let key = || EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        Platform { cpak: key(), rak: key(), lifecycle: 0x3000, initial_measurement: vec![0x1a; 32] }
    }

    pub fn anchors(&self) -> Value {
        let (x, y) = self.cpak.public_key().as_ref()[1..].split_at(48);
        json!([{
            "pkey": {"kty": "EC", "crv": "P-384", "x": b64::url_encode(x), "y": b64::url_encode(y)},
            "implementation-id": "00".repeat(32),
            "instance-id": format!("01{}", "00".repeat(32)),
        }])
    }

    pub fn store(&self) -> cca::Store {
        cca::Store::from_json(&self.anchors(), &references()).unwrap()
    }

    pub fn token(&self, report_data: &[u8], digest: &[u8]) -> Value {
        let mut builder = cca::TokenBuilder::new(self.rak.public_key().as_ref());
        builder.platform.lifecycle = self.lifecycle.try_into().unwrap();
        builder.realm.initial_measurement = self.initial_measurement.clone();
        builder.realm.challenge[..report_data.len()].copy_from_slice(report_data);
        builder.realm.personalization_value[..digest.len()].copy_from_slice(digest);
        let sign = |key: &EcdsaKeyPair, message: &[u8]| {
            Ok::<_, Error>(key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec())
        };
        let evidence = builder.bind().sign_with(|m| sign(&self.cpak, m), |m| sign(&self.rak, m));
        evidence.unwrap().to_json()
    }
}

/// The state that the builder gives a platform.
fn references() -> Value {
    let component = json!({
        "component-type": "RMM", "measurement-value": "00".repeat(32), "signer-id": "00".repeat(32),
        "hash-algo-id": "sha-256",
    });
    json!({"platform": [{
        "implementation-id": "00".repeat(32), "platform-configuration": "00000000", "sw-components": [component],
    }]})
}

pub async fn world(platform: &Platform) -> World {
    let store = Arc::new(platform.store());
    let world =
        World::with(|config| config.live.trust = Trust { cca: store, ..Trust::default() }, Limits::default())
            .await;
    let measurement = b64::std_encode(&platform.initial_measurement);
    let known = [
        ("cca_realm_initial_measurement", json!(measurement)),
        ("cca_platform_config", json!(b64::std_encode(&[0; 4]))),
    ];
    values(&world, &known);
    world
}

#[tokio::test]
async fn a_realm_gets_the_secret_of_its_plan() {
    let platform = Platform::new();
    let world = world(&platform).await;
    let kind = Kind { tee: "cca", simulated: false, longer: None };
    released_by_digest(&world, &kind, &|data, digest| platform.token(data, digest)).await;
    let mut guest = Attester::new(&world, "cca", None).await;
    let token = guest.attest(|data| platform.token(data, &[])).await.unwrap();
    let claims = claims(&world, &token);
    let of = said(&claims, "cca");
    assert_eq!(of["platform"]["cca-platform-lifecycle-state"], "secured");
    assert_eq!(of["init_data"], "00".repeat(64));
    assert_eq!(
        guest.secret(&world, &token).await.unwrap_err(),
        "RELEASE-WORKLOAD-UNKNOWN",
        "zeros are no plan"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_realm_that_nobody_endorsed_gets_nothing() {
    let platform = Platform::new();
    let world = world(&platform).await;
    let mut guest = Attester::new(&world, "cca", None).await;
    // The same ids with keys of somebody's own.
    let other = Platform::new();
    assert_eq!(code(&world, guest.attest(|d| other.token(d, &[])).await), "ATTEST-SIGNATURE-INVALID");
    // His realm key with this platform's token, and the other way round.
    let mixed = Platform { rak: Platform::new().rak, ..Platform::new() };
    assert_eq!(code(&world, guest.attest(|d| mixed.token(d, &[])).await), "ATTEST-SIGNATURE-INVALID");
    let (mut debug, mut unknown) = (Platform::new(), Platform::new());
    (debug.cpak, debug.lifecycle) = (clone(&platform.cpak), 0x4000);
    assert_eq!(code(&world, guest.attest(|d| debug.token(d, &[])).await), "ATTEST-DEBUG-ENABLED");
    (unknown.cpak, unknown.initial_measurement) = (clone(&platform.cpak), vec![0x1b; 32]);
    assert_eq!(code(&world, guest.attest(|d| unknown.token(d, &[])).await), "ATTEST-MEASUREMENT-UNKNOWN");
    // Known, so that it was the measurement.
    unknown.initial_measurement = platform.initial_measurement.clone();
    assert!(guest.attest(|d| unknown.token(d, &[])).await.is_ok(), "a realm key of its own is as good");
    world.trustee.delete_reference_values("cca_platform_config", None).unwrap();
    assert_eq!(code(&world, guest.attest(|d| platform.token(d, &[])).await), "ATTEST-TCB-OUTDATED");
    world.stop().await;

    // Without stores nobody is trusted, and his token is not evidence of another kind.
    let bare = World::new().await;
    let mut guest = Attester::new(&bare, "cca", None).await;
    assert_eq!(code(&bare, guest.attest(|d| platform.token(d, &[])).await), "ATTEST-CHAIN-UNTRUSTED");
    for tee in ["snp", "tdx", "sgx", "az-snp-vtpm", "az-tdx-vtpm", "tpm", "csv"] {
        let mut guest = Attester::new(&bare, tee, None).await;
        let refused = guest.attest(|d| platform.token(d, &[])).await;
        assert_eq!(code(&bare, refused), "ATTEST-EVIDENCE-MALFORMED", "{tee}");
    }
    bare.stop().await;
}

fn clone(key: &EcdsaKeyPair) -> EcdsaKeyPair {
    let der = key.to_pkcs8v1().unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, der.as_ref()).unwrap()
}
