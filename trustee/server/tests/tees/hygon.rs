//! Guests and accelerators of a simulated Hygon machine.

use std::sync::LazyLock;

use cocoon_protocol::HashAlgorithm;
use cocoon_trustee::Limits;
use serde_json::json;

use crate::accelerators::{beside, denied};
use crate::chip::Machine;
use crate::guests::*;
use crate::support::speaker::rule_for_any;
use crate::support::*;

static MACHINE: LazyLock<Machine> = LazyLock::new(Machine::new);

/// No debugging, no sharing of keys, no sending, encrypted registers, third generation.
const CLOSED: u32 = 0x0103_004f;
const SHARED: &str = "default/key/1";

async fn world() -> World {
    let change = |config: &mut cocoon_trustee::Config| {
        config.live.trust = MACHINE.trust();
        config.live.collateral = MACHINE.shelf();
    };
    let world = World::with(change, Limits::default()).await;
    world.trustee.put_secret(&path(SHARED), b"s3cret").unwrap();
    world.trustee.put_rule(&rule_for_any("default/key/*", true)).unwrap();
    world
}

#[tokio::test]
async fn a_guest_attests_but_binds_no_plan() {
    let world = world().await;
    let mut guest = Attester::new(&world, "csv", None).await;
    let good = |data: &[u8]| MACHINE.guest(CLOSED, data);
    values(&world, &[("csv_measure", json!("5a".repeat(32))), ("csv_build", json!(2337))]);
    assert_eq!(
        code(&world, guest.attest(good).await),
        "ATTEST-MEASUREMENT-UNKNOWN",
        "those are of real ones"
    );
    values(&world, &[("sim_csv_measure", json!("5a".repeat(32))), ("sim_csv_build", json!(2337))]);
    let token = guest.attest(good).await.unwrap();
    let claims = claims(&world, &token);
    let cpu = &claims["submods"]["cpu0"];
    assert_eq!((&cpu["ear.status"], &cpu["ear.cocoon.simulated"]), (&json!("affirming"), &json!(true)));
    let of = said(&claims, "csv");
    assert_eq!((&of["version"], &of["policy"]["csv3"], &of["build"]), (&json!("2"), &json!(1), &json!(2337)));
    let reply = guest.guest.get(&token, SHARED).await;
    assert_eq!(guest.guest.decrypt(&reply), b"s3cret");

    // Whatever is registered, nothing of it is this guest's own.
    let plan = plan("own", HashAlgorithm::Sha256);
    register(&world, &plan, true);
    assert_eq!(guest.secret(&world, &token).await.unwrap_err(), "RELEASE-WORKLOAD-UNKNOWN");
    guest.guest.init_data = Some(plan);
    assert_eq!(code(&world, guest.attest(good).await), "ATTEST-INITDATA-MISMATCH");
    guest.guest.init_data = None;
    let refused = guest.attest(|_| MACHINE.guest(CLOSED, &[1; 64])).await;
    assert_eq!(code(&world, refused), "ATTEST-REPORT-DATA-MISMATCH");
    let refused = guest.attest(|data| MACHINE.guest(CLOSED & !1, data)).await;
    assert_eq!(code(&world, refused), "ATTEST-DEBUG-ENABLED");
    world.stop().await;

    let strict = World::with(|config| config.live.collateral = MACHINE.shelf(), Limits::default()).await;
    let mut guest = Attester::new(&strict, "csv", None).await;
    assert_eq!(code(&strict, guest.attest(good).await), "ATTEST-SIMULATED-REFUSED");
    strict.stop().await;
}

#[tokio::test]
async fn an_accelerator_beside_a_guest() {
    let world = world().await;
    let chip = hex::encode("SIMDCU0000000001");
    let known = [("dcu_measure", json!("77".repeat(32))), ("dcu_chip_id", json!(chip))];
    values(&world, &known);
    let device = |data: &[u8]| MACHINE.accelerator(data);
    let refused = beside(&world, "hygondcu", &device).await;
    assert_eq!(denied(&world, refused), "ATTEST-MEASUREMENT-UNKNOWN", "those are of real ones");
    let known = known.map(|(name, value)| (format!("sim_{name}"), value));
    known.iter().for_each(|(name, value)| values(&world, &[(name, value.clone())]));
    let (mut guest, token) = beside(&world, "hygondcu", &device).await;
    let token = token.unwrap();
    let claims = claims(&world, &token);
    assert_eq!(claims["submods"]["cpu0"]["ear.status"], "affirming");
    let dcu = &claims["submods"]["dcu0"];
    assert_eq!((&dcu["ear.status"], &dcu["ear.cocoon.simulated"]), (&json!("affirming"), &json!(true)));
    let reply = guest.guest.get(&token, SHARED).await;
    assert_eq!(guest.guest.decrypt(&reply), b"s3cret");
    let refused = beside(&world, "hygondcu", &|_: &[u8]| MACHINE.accelerator(&[1; 64])).await;
    assert_eq!(denied(&world, refused), "ATTEST-REPORT-DATA-MISMATCH");
    world.stop().await;
    // The chip's certificates do not come with the evidence.
    let alone = World::with(|config| config.live.trust = MACHINE.trust(), Limits::default()).await;
    let refused = beside(&alone, "hygondcu", &device).await;
    assert_eq!(denied(&alone, refused), "ATTEST-COLLATERAL-MISSING");
    alone.stop().await;
}
