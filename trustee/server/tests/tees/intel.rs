//! Guests on a simulated Intel platform whose collateral is at hand: TDX, SGX, and TDX behind Azure's vTPM.

use std::sync::LazyLock;

use cocoon_evidence::eventlog::{Algorithm, EventLog};
use cocoon_protocol::b64;
use cocoon_trustee::Limits;
use serde_json::{Value, json};

use crate::guests::*;
use crate::platform::{Platform, configured, enclave, td, td_report};
use crate::support::*;
use crate::vtpm::{Tpm, paravisor_data, paravisor_report};

static PLATFORM: LazyLock<Platform> = LazyLock::new(Platform::new);
static TPM: LazyLock<Tpm> = LazyLock::new(Tpm::new);

pub async fn world() -> World {
    World::with(
        |config| {
            config.live.trust = PLATFORM.trust();
            config.live.collateral = PLATFORM.shelf();
        },
        Limits::default(),
    )
    .await
}

pub fn tdx(data: &[u8], digest: &[u8]) -> Value {
    json!({"quote": b64::std_encode(&PLATFORM.quote(&td(data, digest))), "cc_eventlog": null})
}

pub fn sgx(data: &[u8], digest: &[u8]) -> Value {
    json!({"quote": b64::std_encode(&PLATFORM.quote(&configured(data, digest)))})
}

/// `registers` are the vTPM's, and its key is the one that the paravisor names.
fn azure(data: &[u8], digest: &[u8]) -> Value {
    let told = paravisor_data(&TPM, data);
    let body = td(&sha256(&told), &[]);
    json!({
        "version": 2,
        "tpm_quote": TPM.azure_quote(&TPM.booted(digest), data),
        "hcl_report": paravisor_report(&td_report(&body), 4, &told),
        "td_quote": b64::url_encode(&PLATFORM.quote(&body)),
    })
}

/// Registers values for real machines, which must not matter, then for simulated ones. Refused without any, by either.
async fn known(
    world: &World,
    tee: &'static str,
    make: &dyn Fn(&[u8], &[u8]) -> Value,
    known: &[(&str, Value)],
) {
    let mut guest = Attester::new(world, tee, None).await;
    for real in [false, true] {
        if real {
            values(world, known);
        }
        let refused = guest.attest(|data| make(data, &[1; 32])).await;
        assert_eq!(code(world, refused), "ATTEST-MEASUREMENT-UNKNOWN", "{tee}, real values: {real}");
    }
    let simulated: Vec<(String, Value)> =
        known.iter().map(|(name, value)| (format!("sim_{name}"), value.clone())).collect();
    let simulated: Vec<(&str, Value)> = simulated.iter().map(|(n, v)| (n.as_str(), v.clone())).collect();
    values(world, &simulated);
}

fn of_td(mr_td: &'static str, xfam: &'static str) -> [(&'static str, Value); 2] {
    [(mr_td, json!("d0".repeat(48))), (xfam, json!("00".repeat(8)))]
}

fn of_tdx() -> Vec<(&'static str, Value)> {
    let rtmr = |n: &str| json!(n.repeat(48));
    [("rtmr_1", rtmr("02")), ("rtmr_2", rtmr("03"))].into_iter().chain(of_td("mr_td", "xfam")).collect()
}

fn of_azure() -> Vec<(&'static str, Value)> {
    let registers = [("tdx_pcr04", json!(TPM.hex(4))), ("tdx_pcr11", json!(TPM.hex(11)))];
    registers.into_iter().chain(of_td("az_tdx_mr_td", "az_tdx_xfam")).collect()
}

#[tokio::test]
async fn a_td_gets_the_secret_of_its_plan() {
    let world = world().await;
    known(&world, "tdx", &tdx, &of_tdx()).await;
    let kind = Kind { tee: "tdx", simulated: true, longer: None };
    released_by_digest(&world, &kind, &tdx).await;
    world.stop().await;
}

#[tokio::test]
async fn an_enclave_gets_the_secret_of_its_plan() {
    let world = world().await;
    let names = [
        ("sgx_mr_enclave", json!("e1".repeat(32))),
        ("sgx_mr_signer", json!("51".repeat(32))),
        ("sgx_isv_svn", json!("0000")),
    ];
    known(&world, "sgx", &sgx, &names).await;
    let kind = Kind { tee: "sgx", simulated: true, longer: None };
    released_by_digest(&world, &kind, &sgx).await;
    // Without key separation CONFIGID is anybody's.
    let plan = plan("own", cocoon_protocol::HashAlgorithm::Sha256);
    let mut guest = Attester::new(&world, "sgx", Some(plan.clone())).await;
    let refused = guest
        .attest(|data| {
            let mut body = configured(data, &plan.digest());
            body[48] = enclave(data)[48];
            json!({"quote": b64::std_encode(&PLATFORM.quote(&body))})
        })
        .await;
    let refused = code(&world, refused);
    assert!(
        ["ATTEST-INITDATA-MISMATCH", "ATTEST-EVIDENCE-MALFORMED"].contains(&refused.as_str()),
        "{refused}"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_guest_behind_azures_vtpm_gets_the_secret_of_its_plan() {
    let world = world().await;
    // The firmware that plain TDX knows does not vouch for a vTPM.
    values(&world, &of_tdx());
    known(&world, "az-tdx-vtpm", &azure, &of_azure()).await;
    let kind = Kind { tee: "az-tdx-vtpm", simulated: true, longer: Some("ATTEST-INITDATA-MISMATCH") };
    released_by_digest(&world, &kind, &azure).await;
    let mut guest = Attester::new(&world, "az-tdx-vtpm", None).await;
    world.trustee.delete_reference_values("sim_az_tdx_mr_td", None).unwrap();
    values(&world, &[("sim_mr_td", json!("d0".repeat(48)))]);
    let refused = guest.attest(|data| azure(data, &[1; 32])).await;
    assert_eq!(code(&world, refused), "ATTEST-TCB-OUTDATED");
    world.stop().await;
}

#[tokio::test]
async fn debug_guests_and_unknown_platforms_get_nothing() {
    let world = world().await;
    known(&world, "tdx", &tdx, &of_tdx()).await;
    let mut guest = Attester::new(&world, "tdx", None).await;
    let refused = guest
        .attest(|data| {
            let mut body = td(data, &[]);
            body[120] |= 1;
            json!({"quote": b64::std_encode(&PLATFORM.quote(&body))})
        })
        .await;
    assert_eq!(code(&world, refused), "ATTEST-DEBUG-ENABLED");
    let stranger = Platform::new();
    let refused =
        guest.attest(|data| json!({"quote": b64::std_encode(&stranger.quote(&td(data, &[])))})).await;
    assert_eq!(code(&world, refused), "ATTEST-CHAIN-UNTRUSTED");
    // An enclave is no TD, nor the other way round.
    assert_eq!(code(&world, guest.attest(|data| sgx(data, &[])).await), "ATTEST-TEE-UNSUPPORTED");
    let mut enclave = Attester::new(&world, "sgx", None).await;
    assert_eq!(code(&world, enclave.attest(|data| tdx(data, &[])).await), "ATTEST-TEE-UNSUPPORTED");
    world.stop().await;

    // Where no root but Intel's is trusted it is a simulation, whoever made it.
    let strict = World::with(|config| config.live.collateral = PLATFORM.shelf(), Limits::default()).await;
    let mut guest = Attester::new(&strict, "tdx", None).await;
    values(&strict, &of_tdx());
    assert_eq!(code(&strict, guest.attest(|data| tdx(data, &[])).await), "ATTEST-SIMULATED-REFUSED");
    strict.stop().await;
}

/// A TD that booted as a real log tells: evidence with the log, and what the log says, as claims.
fn logged(log: &[u8], data: &[u8], spoiled: Option<u32>) -> Value {
    let registers = EventLog::parse(log).unwrap().replay(Algorithm::Sha384);
    let mut body = td(data, &[]);
    for (index, at) in (1u32..).zip([328, 376, 424, 472]) {
        body[at..at + 48].copy_from_slice(registers.get(&index).map_or(&[0; 48][..], Vec::as_slice));
        body[at] ^= u8::from(spoiled == Some(index));
    }
    json!({"quote": b64::std_encode(&PLATFORM.quote(&body)), "cc_eventlog": b64::std_encode(log)})
}

#[tokio::test]
async fn a_tds_kernel_is_known_by_its_event_log() {
    let Some(log) = crate::recorded::vector("tdx/CCEL_data_ovmf") else { return };
    let end = log.iter().rposition(|byte| *byte != 0xff).unwrap() + 1;
    let log = &log[..end];
    let world = world().await;
    let evidence = cocoon_evidence::tdx::Evidence::from_json(&logged(log, &[7; 48], None)).unwrap();
    let told = cocoon_evidence::tdx::unverified(&evidence);
    let digest = |kind: &str, of: &dyn Fn(&Value) -> bool| -> Value {
        let events = told["uefi_event_logs"].as_array().unwrap();
        let event = events.iter().find(|event| event["type_name"] == kind && of(event)).unwrap();
        event["digests"][0]["digest"].clone()
    };
    let kernel = digest("EV_EFI_BOOT_SERVICES_APPLICATION", &|event| {
        event["details"]["device_paths"]
            .as_array()
            .is_some_and(|paths| paths.contains(&json!("File(kernel)")))
    });
    let parameters =
        digest("EV_EVENT_TAG", &|event| event["details"]["string"] == "LOADED_IMAGE::LoadOptions");
    let body = &told["quote"]["body"];
    let registers = [("sim_rtmr_1", body["rtmr_1"].clone()), ("sim_rtmr_2", body["rtmr_2"].clone())];
    values(&world, &registers);
    of_td("sim_mr_td", "sim_xfam").into_iter().for_each(|known| values(&world, &[known]));
    let mut guest = Attester::new(&world, "tdx", None).await;
    let mut executables = async |expected: i64| {
        let token = guest.attest(|data| logged(log, data, None)).await.unwrap();
        let claims = claims(&world, &token);
        let got = &claims["submods"]["cpu0"]["ear.trustworthiness-vector"]["executables"];
        assert_eq!(got.as_i64(), Some(expected));
    };
    // By its registers, which are of the whole boot.
    executables(4).await;
    values(&world, &[("sim_tdvfkernel", kernel)]);
    executables(4).await;
    values(&world, &[("sim_tdvfkernelparams", parameters)]);
    executables(3).await;
    for spoiled in 1..=4 {
        let refused = guest.attest(|data| logged(log, data, Some(spoiled))).await;
        assert_eq!(code(&world, refused), "ATTEST-EVENT-LOG-MISMATCH", "register {spoiled}");
    }
    world.stop().await;
}
