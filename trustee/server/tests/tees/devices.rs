//! Devices are no guests, and guests no devices.

use cocoon_protocol::{HashAlgorithm, b64, device_report_data};
use cocoon_trustee::Limits;
use serde_json::{Value, json};

use crate::api::{Api, TOKEN};
use crate::guests::*;
use crate::realm::{self, Platform};
use crate::recorded::vector;
use crate::support::*;

const STALE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

#[tokio::test]
async fn a_device_is_no_guests_own_tee() {
    let world = World::with(|config| config.live.accept_sample = true, Limits::default()).await;
    for tee in ["nvidia", "hygondcu", "nvidia-dpu", "nvidiadpu", "sampledevice"] {
        for version in ["0.1.1", "0.2.0", "0.4.0"] {
            let mut guest = Attester::new(&world, tee, None).await;
            let reply = guest.auth_by(version).await.unwrap_err();
            assert_eq!((reply.status, reply.code()), (401, "ATTEST-TEE-UNSUPPORTED"), "{tee} {version}");
            assert!(guest.guest.cookie.is_empty(), "{tee}: no session begins");
        }
    }
    world.stop().await;
}

/// The device's report data for a challenge and the guest's key.
fn device_data(guest: &Attester, nonce: &str) -> Vec<u8> {
    device_report_data(HashAlgorithm::Sha384, nonce, &guest.guest.key.public()).unwrap()
}

#[tokio::test]
async fn a_second_guest_is_no_device_however_genuine() {
    let platform = Platform::new();
    let world = realm::world(&platform).await;
    let mut guest = Attester::new(&world, "cca", None).await;
    let nonce = guest.auth().await.unwrap();
    let second = platform.token(&device_data(&guest, &nonce), &[]);
    let devices = json!({ "cca": second }).to_string();
    let own = platform.token(&guest.report_data(&nonce, &devices), &[]);
    let refused = guest.answer(&guest.message(&nonce, &own, &devices)).await;
    assert_eq!(code(&world, refused), "ATTEST-TEE-UNSUPPORTED");
    // Beside an SNP guest's, too, with every other kind that parses.
    let mut guest = Attester::new(&world, "snp", None).await;
    let nonce = guest.auth().await.unwrap();
    let second = platform.token(&device_data(&guest, &nonce), &[]);
    let devices = json!({ "cca": second }).to_string();
    let own = snp(&world, &guest.report_data(&nonce, &devices));
    let refused = guest.answer(&guest.message(&nonce, &own, &devices)).await;
    assert_eq!(code(&world, refused), "ATTEST-TEE-UNSUPPORTED");
    world.stop().await;
}

fn snp(world: &World, report_data: &[u8]) -> Value {
    let mut field = [0; 64];
    field[..report_data.len()].copy_from_slice(report_data);
    evidence(world.processor, MEASUREMENT, [0; 32], POLICY, &field)
}

/// A real GPU's report of an old challenge.
fn gpu() -> Option<Value> {
    let report = vector("nvidia/hopperAttestationReport.txt")?;
    let chain = vector("nvidia/hopper_cert_chain_case1.txt")?;
    let report = String::from_utf8(report).unwrap().trim().to_owned();
    Some(json!({"device_evidence_list": [{
        "arch": "HOPPER", "uuid": "1111-2222", "evidence": report, "certificate": b64::std_encode(&chain),
    }]}))
}

#[tokio::test]
async fn a_gpus_report_of_another_challenge_is_refused() {
    let Some(gpu) = gpu() else { return };
    let world = World::new().await;
    let mut guest = Attester::new(&world, "snp", None).await;
    let nonce = guest.auth().await.unwrap();
    let devices = json!({ "nvidia": gpu }).to_string();
    let own = snp(&world, &guest.report_data(&nonce, &devices));
    let refused = guest.answer(&guest.message(&nonce, &own, &devices)).await.unwrap_err();
    assert_eq!(failed(&world, &refused), ["report.nonce"], "all else about it is good");
    assert_eq!(refused.code(), "ATTEST-REPORT-DATA-MISMATCH");
    // Not even where the guest's own evidence leaves it out.
    let nonce = guest.auth().await.unwrap();
    let own = snp(&world, &guest.report_data(&nonce, ""));
    let refused = guest.answer(&guest.message(&nonce, &own, &devices)).await.unwrap_err();
    assert_eq!(refused.code(), "ATTEST-REPORT-DATA-MISMATCH");
    // As a guest's own evidence it has no challenge to answer at all.
    let mut alone = Attester::new(&world, "snp", None).await;
    let nonce = alone.auth().await.unwrap();
    let refused = alone.answer(&alone.message(&nonce, &gpu, "")).await;
    assert_eq!(code(&world, refused), "ATTEST-EVIDENCE-MALFORMED");
    // A stale challenge's own report data is none of the new one's.
    let nonce = alone.auth().await.unwrap();
    let own = snp(&world, &alone.report_data(STALE, ""));
    let refused = alone.answer(&alone.message(&nonce, &own, "")).await;
    assert_eq!(code(&world, refused), "ATTEST-REPORT-DATA-MISMATCH");
    world.stop().await;
}

#[tokio::test]
async fn a_relying_party_may_ask_about_a_gpu_alone() {
    let Some(gpu) = gpu() else { return };
    let world = World::with(
        |config| config.live.access.token_sha256 = Some(sha256(TOKEN.as_bytes())),
        Limits::default(),
    )
    .await;
    let api = Api::start(&world).await;
    let nonce = hex::decode("931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb").unwrap();
    let body = |nonce: &[u8]| {
        let evidence = b64::url_encode(gpu.to_string().as_bytes());
        let one =
            json!({"tee": "nvidia", "evidence": evidence, "runtime_data": {"raw": b64::url_encode(nonce)}});
        json!({"verification_requests": [one], "policy_ids": []})
    };
    // It verifies, but nothing was compared with NVIDIA's manifests, so the default policy knows no firmware.
    let refusal = api.refused("POST", "/attestation", &body(&nonce)).await;
    assert_eq!(refusal, (400, "ATTEST-MEASUREMENT-UNKNOWN".into()));
    let mut other = nonce.clone();
    other[31] ^= 1;
    let refusal = api.refused("POST", "/attestation", &body(&other)).await;
    assert_eq!(refusal, (400, "ATTEST-REPORT-DATA-MISMATCH".into()));
    let policy = "package policy\nimport rego.v1\ntrust_claims := {\"executables\": 3, \"hardware\": 2} if \
                  input.nvidia.arch == \"Hopper\"";
    let policies = world.trustee.policies();
    policies.put("default_gpu", cocoon_policy::Kind::Attestation, policy, "t", "", 1).unwrap();
    let token = api.rest("POST", "/attestation", body(&nonce)).await;
    let claims = api.verified(&token).await;
    let submods = claims["submods"].as_object().unwrap();
    assert_eq!(submods.keys().collect::<Vec<_>>(), ["gpu0"], "no guest is in it");
    assert_eq!(submods["gpu0"]["ear.status"], "affirming");
    // Such a token opens nothing.
    let mut guest = world.guest(None).await;
    assert_eq!(guest.get(token.trim(), OWN).await.status, 401);
    api.stop().await;
    world.stop().await;
}
