//! An attested guest tells its owner what failed inside it; nobody else can, and not without bound.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use cocoon_stage::{Code, Failure, Stage};
use support::*;

async fn report(guest: &mut Guest, token: &str, body: &[u8]) -> Reply {
    let bearer = format!("Bearer {token}");
    guest.client.request("POST", "/cocoon/v0/report", &[("authorization", &bearer)], body).await
}

#[tokio::test]
async fn what_failed_in_the_guest_reaches_its_owner() {
    let world = World::new().await;
    let plan = init_data("a");
    world.register(&registration(&plan));
    let mut guest = world.guest(Some(plan.clone())).await;
    let token = guest.attest(&world).await.unwrap();
    let failure = Failure::new(Code::ImageLayerUnsafe, "layer 2:\n entry ../../etc/passwd leaves the root");
    let body = serde_json::to_vec(&failure).unwrap();

    let reply = report(&mut guest, &token, &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let kept = world.explain(&reply);
    assert_eq!(kept.code, Some(Code::ImageLayerUnsafe));
    assert_eq!(kept.reason.as_deref(), Some("layer 2: entry ../../etc/passwd leaves the root"));
    assert_eq!(kept.subject, cocoon_trustee::Subject::Guest { stage: Stage::Pull });
    assert_eq!(kept.init_data, Some(hex::encode(&plan.digest()[..32])));
    assert!(kept.simulated);

    // One token cannot push out everybody else's verdicts.
    for _ in 0..7 {
        assert_eq!(report(&mut guest, &token, &body).await.status, 200);
    }
    for _ in 0..3 {
        assert_eq!(report(&mut guest, &token, &body).await.status, 429);
    }
    world.stop().await;
}

#[tokio::test]
async fn nobody_else_can_report_and_nonsense_is_refused() {
    let world = World::new().await;
    let plan = init_data("a");
    world.register(&registration(&plan));
    let mut guest = world.guest(Some(plan)).await;
    let body = serde_json::to_vec(&Failure::new(Code::ImagePullFailed, "x")).unwrap();
    let without = guest.client.request("POST", "/cocoon/v0/report", &[], &body).await;
    assert_eq!((without.status, without.code()), (401, "RELEASE-TOKEN-INVALID"));
    assert_eq!(report(&mut guest, "forged.forged.forged", &body).await.status, 401);
    let token = guest.attest(&world).await.unwrap();
    let long = serde_json::to_vec(&Failure::new(Code::ImagePullFailed, "y".repeat(5000))).unwrap();
    for bad in [b"".as_slice(), b"{", b"[]", b"{\"stage\":\"pull\",\"code\":\"NOPE\",\"reason\":\"\"}", &long]
    {
        assert_eq!(report(&mut guest, &token, bad).await.code(), "ATTEST-PROTOCOL");
    }
    world.stop().await;
}
