//! Guests of TPMs: on their own, and of Azure's vTPM on simulated SNP.

use std::sync::LazyLock;

use cocoon_protocol::{HashAlgorithm, b64};
use cocoon_sim::GuestContext;
use cocoon_trustee::{Limits, Trust};
use serde_json::{Value, json};

use crate::guests::*;
use crate::support::*;
use crate::vtpm::{Tpm, paravisor_data, paravisor_report};

/// Made once: RSA keys take a while.
static TPM: LazyLock<Tpm> = LazyLock::new(Tpm::new);

fn known(world: &World) {
    let known = [("trusted_aks", json!(TPM.named())), ("tpm_pcr11", json!(TPM.hex(11)))];
    values(world, &known);
    firmware(world);
}

/// What a guest's firmware measures; 0, 2 and 7 are asked for before a configuration is affirmed.
fn firmware(world: &World) {
    let names = [0, 2, 4, 7].map(|n| (format!("tpm_pcr{n:02}"), json!(TPM.hex(n))));
    values(world, &names.each_ref().map(|(name, value)| (name.as_str(), value.clone())));
}

#[tokio::test]
async fn a_guest_of_a_known_tpm_gets_the_secret_of_its_plan() {
    let world = World::new().await;
    known(&world);
    let kind = Kind { tee: "tpm", simulated: false, longer: Some("ATTEST-INITDATA-MISMATCH") };
    released_by_digest(&world, &kind, &|data, digest| TPM.evidence(&TPM.booted(digest), data)).await;
    world.stop().await;
}

#[tokio::test]
async fn an_unknown_key_is_nobodys_word() {
    let world = World::new().await;
    let mut guest = Attester::new(&world, "tpm", None).await;
    let evidence = |data: &[u8]| TPM.evidence(&TPM.registers, data);
    assert_eq!(code(&world, guest.attest(evidence).await), "ATTEST-KEY-UNTRUSTED");
    known(&world);
    let token = guest.attest(evidence).await.unwrap();
    let claims = claims(&world, &token);
    let of = said(&claims, "tpm");
    assert_eq!((&of["ak_trusted"], &of["ak_public"]), (&json!(true), &json!(TPM.named())));
    let stranger = Tpm::new();
    let refused = guest.attest(|data| stranger.evidence(&stranger.registers, data)).await;
    assert_eq!(code(&world, refused), "ATTEST-KEY-UNTRUSTED");
    // Nor does it help to say that it is the known one.
    let refused = guest
        .attest(|data| {
            let mut evidence = stranger.evidence(&stranger.registers, data);
            evidence["ak_public"] = json!(TPM.named());
            evidence
        })
        .await;
    assert_eq!(code(&world, refused), "ATTEST-SIGNATURE-INVALID");
    // A name that has expired or was taken back is none.
    world.trustee.delete_reference_values("trusted_aks", None).unwrap();
    assert_eq!(code(&world, guest.attest(evidence).await), "ATTEST-KEY-UNTRUSTED");
    world.stop().await;
}

#[tokio::test]
async fn a_key_that_the_settings_enrol_needs_no_reference_value() {
    let enrolled = vec![cocoon_evidence::tpm::Enrolled::Spki(TPM.spki())];
    let tpm = cocoon_evidence::tpm::Trust { enrolled, ..Default::default() };
    let world =
        World::with(|config| config.live.trust = Trust { tpm, ..Trust::default() }, Limits::default()).await;
    let mut guest = Attester::new(&world, "tpm", None).await;
    let evidence = |data: &[u8]| TPM.evidence(&TPM.registers, data);
    assert_eq!(code(&world, guest.attest(evidence).await), "ATTEST-MEASUREMENT-UNKNOWN", "its registers do");
    values(&world, &[("tpm_pcr04", json!(TPM.hex(4))), ("tpm_pcr11", json!(TPM.hex(11)))]);
    let token = guest.attest(evidence).await.unwrap();
    assert_eq!(claims(&world, &token)["submods"]["cpu0"]["ear.status"], "warning", "unknown firmware");
    firmware(&world);
    let token = guest.attest(evidence).await.unwrap();
    assert_eq!(claims(&world, &token)["submods"]["cpu0"]["ear.status"], "affirming");
    world.stop().await;
}

#[tokio::test]
async fn registers_are_those_that_were_quoted() {
    let world = World::new().await;
    known(&world);
    let mut guest = Attester::new(&world, "tpm", None).await;
    // Known good values shown beside a quote of others.
    let mut lived = TPM.registers.clone();
    lived[4] = [0x44; 32];
    let refused = guest
        .attest(|data| {
            let mut evidence = TPM.evidence(&lived, data);
            evidence["tpm_quote"]["pcrs"][4] = json!(TPM.hex(4));
            evidence
        })
        .await
        .unwrap_err();
    assert_eq!(failed(&world, &refused), ["tpm.pcr-digest"]);
    assert_eq!(refused.code(), "ATTEST-SIGNATURE-INVALID");
    // A register that anybody may reset, in the place of the eleventh.
    let substitute = Tpm::quoting((0..11).chain([16]));
    values(&world, &[("trusted_aks", json!(substitute.named()))]);
    let refused = guest.attest(|data| substitute.evidence(&substitute.registers[..12], data)).await;
    assert_eq!(code(&world, refused), "ATTEST-PCR-SELECTION");
    // Genuine, but of software that nobody registered; each of both registers counts.
    known(&world);
    for register in [4, 11] {
        let mut lived = TPM.registers.clone();
        lived[register] = [0x44; 32];
        let refused = guest.attest(|data| TPM.evidence(&lived, data)).await;
        assert_eq!(code(&world, refused), "ATTEST-MEASUREMENT-UNKNOWN", "{register}");
    }
    // Fewer registers than the policy asks about.
    let few = Tpm::quoting(0..9);
    values(&world, &[("trusted_aks", json!(few.named()))]);
    let refused = guest.attest(|data| few.evidence(&few.registers[..9], data)).await;
    assert_eq!(code(&world, refused), "ATTEST-MEASUREMENT-UNKNOWN");
    world.stop().await;
}

#[tokio::test]
async fn the_eighth_register_was_extended_once() {
    let world = World::new().await;
    known(&world);
    let plan = plan("own", HashAlgorithm::Sha256);
    register(&world, &plan, false);
    let mut guest = Attester::new(&world, "tpm", Some(plan.clone())).await;
    let mut twice = TPM.booted(&plan.digest());
    twice[8] = sha256(&[twice[8].as_slice(), &plan.digest()].concat());
    for register in [twice[8], plan.digest().try_into().unwrap(), [0; 32]] {
        let mut registers = TPM.registers.clone();
        registers[8] = register;
        let refused = guest.attest(|data| TPM.evidence(&registers, data)).await;
        assert_eq!(code(&world, refused), "ATTEST-INITDATA-MISMATCH");
    }
    // The digest itself as register, with no document beside it, is no plan's either.
    guest.guest.init_data = None;
    for register in [plan.digest().try_into().unwrap(), TPM.booted(&plan.digest())[8]] {
        let mut registers = TPM.registers.clone();
        registers[8] = register;
        let token = guest.attest(|data| TPM.evidence(&registers, data)).await.unwrap();
        assert_eq!(guest.secret(&world, &token).await.unwrap_err(), "RELEASE-WORKLOAD-UNKNOWN");
    }
    world.stop().await;
}

/// Evidence of a guest on Azure whose SNP processor is simulated.
fn azure(world: &World, version: u8, data: &[u8], digest: &[u8], vtpm: &Tpm) -> Value {
    let told = paravisor_data(vtpm, data);
    let mut field = [0; 64];
    field[..32].copy_from_slice(&sha256(&told));
    let context = GuestContext { measurement: MEASUREMENT, host_data: [0; 32], policy: POLICY };
    let report = world.processor.report(&context, &field).unwrap();
    json!({
        "version": version,
        "tpm_quote": vtpm.azure_quote(&vtpm.booted(digest), data),
        "hcl_report": paravisor_report(&report, 2, &told),
        "vcek": b64::url_encode(world.processor.vcek_der()),
    })
}

/// What the default policy asks of a guest on Azure, under names with this prefix.
fn azure_values(world: &World, names: &[(&str, &str)]) {
    let value = azure(world, 2, &[7; 48], &[0; 32], &TPM);
    let evidence = cocoon_evidence::azure::snp::Evidence::from_json(&value).unwrap();
    let claims = cocoon_evidence::azure::snp::unverified(&evidence);
    let known: Vec<(&str, Value)> = names
        .iter()
        .map(|(name, claim)| (*name, claims.pointer(&format!("/{claim}")).unwrap().clone()))
        .collect();
    values(world, &known);
}

const REAL: [(&str, &str); 13] = [
    ("measurement", "measurement"),
    ("snp_pcr04", "tpm/pcr04"),
    ("snp_pcr11", "tpm/pcr11"),
    ("tcb_bootloader", "reported_tcb_bootloader"),
    ("tcb_microcode", "reported_tcb_microcode"),
    ("tcb_snp", "reported_tcb_snp"),
    ("tcb_tee", "reported_tcb_tee"),
    ("smt_enabled", "platform_smt_enabled"),
    ("tsme_enabled", "platform_tsme_enabled"),
    ("abi_major", "policy_abi_major"),
    ("abi_minor", "policy_abi_minor"),
    ("single_socket", "policy_single_socket"),
    ("smt_allowed", "policy_smt_allowed"),
];

#[tokio::test]
async fn a_guest_behind_azures_vtpm_gets_the_secret_of_its_plan() {
    let world = World::new().await;
    let mut guest = Attester::new(&world, "az-snp-vtpm", None).await;
    // What is registered for real machines is nothing to a simulated one.
    azure_values(&world, &REAL);
    let refused = guest.attest(|data| azure(&world, 2, data, &[1; 32], &TPM)).await;
    assert_eq!(code(&world, refused), "ATTEST-MEASUREMENT-UNKNOWN");
    let simulated: Vec<(String, &str)> = REAL
        .iter()
        .map(|(name, claim)| (format!("sim_{}", name.strip_prefix("snp_").unwrap_or(name)), *claim))
        .collect();
    let simulated: Vec<(&str, &str)> =
        simulated.iter().map(|(name, claim)| (name.as_str(), *claim)).collect();
    azure_values(&world, &simulated);
    for version in [1, 2] {
        let kind = Kind { tee: "az-snp-vtpm", simulated: true, longer: Some("ATTEST-INITDATA-MISMATCH") };
        let make = |data: &[u8], digest: &[u8]| azure(&world, version, data, digest, &TPM);
        released_by_digest(&world, &kind, &make).await;
    }
    // Another vTPM's key is not what the paravisor vouches for.
    let stranger = Tpm::new();
    let refused = guest
        .attest(|data| {
            let mut evidence = azure(&world, 2, data, &[1; 32], &TPM);
            evidence["tpm_quote"] = stranger.azure_quote(&stranger.booted(&[1; 32]), data);
            evidence
        })
        .await;
    assert_eq!(code(&world, refused), "ATTEST-SIGNATURE-INVALID");
    // Nor does the guest's own TPM stand in for the machine, nor its SNP report for all of it.
    let refused = guest.attest(|data| TPM.evidence(&TPM.registers, data)).await;
    assert_eq!(code(&world, refused), "ATTEST-EVIDENCE-MALFORMED");
    let refused = guest.attest(|data| world.evidence_of(data)).await;
    assert_eq!(code(&world, refused), "ATTEST-EVIDENCE-MALFORMED");
    world.stop().await;
}

trait Plain {
    fn evidence_of(&self, report_data: &[u8]) -> Value;
}

impl Plain for World {
    fn evidence_of(&self, report_data: &[u8]) -> Value {
        let mut field = [0; 64];
        field[..report_data.len()].copy_from_slice(report_data);
        evidence(self.processor, MEASUREMENT, [0; 32], POLICY, &field)
    }
}
