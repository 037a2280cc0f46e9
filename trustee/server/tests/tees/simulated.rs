//! Simulated evidence is held against reference values of its own, whatever a policy asks for.

use cocoon_policy::Kind;
use cocoon_trustee::Limits;
use serde_json::{Value, json};

use crate::guests::*;
use crate::intel;
use crate::recorded::{Service, json_vector};
use crate::support::speaker::{rule_for_any, sample};
use crate::support::*;

/// An owner's policy that knows a guest by one reference value of any name.
fn policy(name: &str, claim: &str) -> String {
    format!(
        "package policy\nimport rego.v1\ndefault executables := 33\n\
         executables := 3 if {claim} in query_reference_value(\"{name}\")\n\
         trust_claims := {{\"executables\": executables, \"hardware\": 2, \"configuration\": 2}}"
    )
}

async fn outcome(
    world: &World,
    tee: &'static str,
    evidence: &dyn Fn(&[u8]) -> Value,
) -> Result<Value, String> {
    let mut guest = Attester::new(world, tee, None).await;
    match guest.attest(evidence).await {
        Ok(token) => Ok(claims(world, &token)["submods"]["cpu0"].clone()),
        refused => Err(code(world, refused)),
    }
}

/// A guest whose claim has this value is known by what is registered for simulated guests, and by nothing else.
async fn held_apart(
    world: &World,
    tee: &'static str,
    claim: &str,
    value: Value,
    evidence: &dyn Fn(&[u8]) -> Value,
) {
    let names = [
        ("own_name", "sim_own_name"),
        ("snp_launch_measurement", "sim_launch_measurement"),
        ("measurement", "sim_measurement"),
        ("mr_td", "sim_mr_td"),
        ("simple", "sim_simple"),
    ];
    for (asked, simulated) in names {
        let text = policy(asked, claim);
        world.trustee.policies().put("default_cpu", Kind::Attestation, &text, "t", "", 1).unwrap();
        values(world, &[(asked, value.clone())]);
        let refused = outcome(world, tee, evidence).await.unwrap_err();
        assert_eq!(refused, "ATTEST-MEASUREMENT-UNKNOWN", "{tee} {asked}");
        values(world, &[(simulated, value.clone())]);
        let cpu = outcome(world, tee, evidence).await.unwrap();
        assert_eq!((&cpu["ear.status"], &cpu["ear.cocoon.simulated"]), (&json!("affirming"), &json!(true)));
        world.trustee.delete_reference_values(asked, None).unwrap();
        assert!(outcome(world, tee, evidence).await.is_ok(), "{tee} {asked}: the real value does not matter");
        world.trustee.delete_reference_values(simulated, None).unwrap();
    }
}

#[tokio::test]
async fn of_snp() {
    let world = World::new().await;
    let measured = json!(hex::encode(MEASUREMENT));
    for name in ["sim_launch_measurement", "sim_bootloader", "sim_microcode", "sim_snp_svn", "sim_tee_svn"] {
        world.trustee.delete_reference_values(name, None).unwrap();
    }
    let evidence = |data: &[u8]| {
        let mut field = [0; 64];
        field[..data.len()].copy_from_slice(data);
        evidence(world.processor, MEASUREMENT, [0; 32], POLICY, &field)
    };
    held_apart(&world, "snp", "input.snp.measurement", measured, &evidence).await;
    world.stop().await;
}

#[tokio::test]
async fn of_tdx() {
    let world = intel::world().await;
    let evidence = |data: &[u8]| intel::tdx(data, &[]);
    held_apart(&world, "tdx", "input.tdx.quote.body.mr_td", json!("d0".repeat(48)), &evidence).await;
    world.stop().await;
}

#[tokio::test]
async fn of_sgx() {
    let world = intel::world().await;
    let evidence = |data: &[u8]| intel::sgx(data, &[]);
    held_apart(&world, "sgx", "input.sgx.body.mr_enclave", json!("e1".repeat(32)), &evidence).await;
    world.stop().await;
}

/// Samples are no hardware's kind and keep upstream's names; their tokens say what they are, and open nothing by default.
#[tokio::test]
async fn a_sample_is_marked_whatever_a_policy_says_of_it() {
    let world = World::with(|config| config.live.accept_sample = true, Limits::default()).await;
    let text = policy("launch_digest", "input.sample.launch_digest");
    world.trustee.policies().put("default_cpu", Kind::Attestation, &text, "t", "", 1).unwrap();
    values(&world, &[("launch_digest", json!("abcde"))]);
    let cpu = outcome(&world, "sample", &|data| sample(data)).await.unwrap();
    assert_eq!(cpu["ear.cocoon.simulated"], true);
    world.trustee.put_rule(&rule_for_any("default/key/*", false)).unwrap();
    world.trustee.put_secret(&path("default/key/1"), b"x").unwrap();
    let mut guest = Attester::new(&world, "sample", None).await;
    let token = guest.attest(sample).await.unwrap();
    let denied = guest.guest.get(&token, "default/key/1").await;
    assert_eq!(world.explain(&denied).code.unwrap().as_str(), "RELEASE-WORKLOAD-UNKNOWN");
    let steps = world.explain(&denied).steps;
    let step = steps.iter().find(|step| step.name == "release.rule").unwrap();
    assert_eq!(step.code.unwrap().as_str(), "ATTEST-SIMULATED-REFUSED");
    world.stop().await;
}

/// And a real guest asks for simulated values in vain.
#[tokio::test]
async fn real_evidence_never_meets_simulated_values() {
    let Some(evidence) = json_vector("snp/genoa-v3-evidence.json") else { return };
    let trust = cocoon_trustee::Trust::default();
    let service = Service::new(trust, std::sync::Arc::new(cocoon_trustee::NoCollateral)).await;
    let parsed = cocoon_evidence::snp::Evidence::from_json(&evidence).unwrap();
    let measured = cocoon_evidence::snp::claims(&parsed.report)["measurement"].clone();
    for asked in ["sim_own_name", "sim_launch_measurement", "sim_sim_own_name"] {
        let text = policy(asked, "input.snp.measurement");
        let policies = service.world.trustee.policies();
        policies.put("default_cpu", Kind::Attestation, &text, "t", "", 1).unwrap();
        values(&service.world, &[(asked, measured.clone())]);
        assert_eq!(service.code("snp", &evidence, None).await, "ATTEST-MEASUREMENT-UNKNOWN", "{asked}");
    }
    let text = policy("own_name", "input.snp.measurement");
    service.world.trustee.policies().put("default_cpu", Kind::Attestation, &text, "t", "", 1).unwrap();
    values(&service.world, &[("own_name", measured)]);
    let cpu = service.token("snp", &evidence, None).await;
    assert_eq!(cpu["ear.status"], "affirming");
    service.stop().await;
}
