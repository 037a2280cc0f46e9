//! Why a request was answered as it was: everything for the owner, a code and an id for the guest.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod administration;
mod support;

use administration::*;
use cocoon_trustee::{Explanation, Subject};
use serde_json::Value;
use support::*;

/// The verdict of a reply, by the id in it.
async fn explained(client: &mut Client, reply: &Reply) -> Explanation {
    let id = reply.header("x-request-id").unwrap();
    let kept = read(client, &format!("/cocoon/v0/explain/{id}")).await;
    assert_eq!(kept["request_id"], id);
    serde_json::from_value(kept).unwrap()
}

/// Nothing in the answer but code and id: none of the verdict's words, and none of the owner's names.
fn tells_nothing(reply: &Reply, verdict: &Explanation) {
    reply.code();
    let text = format!("{:?} {}", reply.headers, reply.text());
    assert!(!text.contains("web") && !text.contains("default/key"), "{text}");
    if let Some(reason) = &verdict.reason {
        assert!(!text.contains(reason.as_str()), "{text}");
    }
    for step in verdict.steps.iter().filter(|s| s.code.is_some()) {
        for words in [&step.name, &step.expected, &step.got].into_iter().filter(|w| w.len() > 5) {
            assert!(!text.contains(words.as_str()), "{words}: {text}");
        }
    }
}

#[tokio::test]
async fn a_granted_handshake_and_release_show_every_check() {
    let world = World::new().await;
    let mut client = world.client().await;
    let plan = init_data("a");
    world.register(&registration(&plan));
    client.admin("POST", "/kbs/v0/resource/default/key/shared", b"v").await;
    let mut guest = world.guest(Some(plan.clone())).await;
    let challenge = guest.auth().await;
    let message = guest.attestation(&world, &challenge);
    let attested = guest.post("/kbs/v0/attest", &message).await;
    let verdict = explained(&mut client, &attested).await;
    assert_eq!((verdict.code, verdict.subject.clone()), (None, Subject::Attest { tee: "snp".into() }));
    assert!(verdict.simulated && verdict.reason.is_none());
    assert_eq!(verdict.init_data.as_deref(), Some(&hex::encode(plan.digest())[..64]));
    let names: Vec<&str> = verdict.steps.iter().map(|s| s.name.as_str()).collect();
    for name in ["appraisal.measurement", "appraisal.tcb.bootloader", "appraisal.tcb.snp"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert!(verdict.steps.iter().all(|s| s.code.is_none() && !s.source.is_empty()), "{:#?}", verdict.steps);
    let token = attested.json()["token"].as_str().unwrap().to_owned();

    let released = guest.get(&token, "default/key/shared").await;
    let verdict = explained(&mut client, &released).await;
    assert_eq!(verdict.code, None);
    assert_eq!(verdict.workload.as_deref(), Some("web"));
    let names: Vec<&str> = verdict.steps.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "release.init_data",
            "release.workload",
            "release.expiry",
            "release.simulated",
            "release.status",
            "release.path",
            "release.rule",
            "release.policy",
            "release.secret",
        ]
    );
    assert!(!serde_json::to_string(&verdict).unwrap().contains("s3cret"));
    world.stop().await;
}

#[tokio::test]
async fn a_refused_handshake_names_the_check_to_the_owner_only() {
    let world = World::new().await;
    let mut client = world.client().await;
    let mut guest = world.guest(Some(init_data("a"))).await;
    guest.measurement = [9; 48];
    let unknown = guest.attest(&world).await.unwrap_err();
    let verdict = explained(&mut client, &unknown).await;
    assert_eq!(verdict.code.unwrap().as_str(), "ATTEST-MEASUREMENT-UNKNOWN");
    let failed = verdict.steps.iter().find(|s| s.name == "appraisal.measurement").unwrap();
    assert!(
        failed.code.is_some() && failed.got.contains("0909") && failed.source == "reference values",
        "{failed:?}"
    );
    tells_nothing(&unknown, &verdict);

    let mut guest = world.guest(Some(init_data("a"))).await;
    let challenge = guest.auth().await;
    let mut message = guest.attestation(&world, &challenge);
    message["init-data"]["body"] = init_data("b").text().into();
    let swapped = guest.post("/kbs/v0/attest", &message).await;
    let verdict = explained(&mut client, &swapped).await;
    assert_eq!(swapped.status, 401);
    assert!(verdict.steps.iter().any(|s| s.code == verdict.code), "{:#?}", verdict.steps);
    tells_nothing(&swapped, &verdict);

    let challenge = guest.auth().await;
    let mut message = guest.attestation(&world, &challenge);
    message["tee-evidence"]["primary_evidence"] = "nonsense".into();
    let malformed = guest.post("/kbs/v0/attest", &message).await;
    let verdict = explained(&mut client, &malformed).await;
    assert_eq!(verdict.code.unwrap().as_str(), "ATTEST-EVIDENCE-MALFORMED");
    tells_nothing(&malformed, &verdict);
    world.stop().await;
}

#[tokio::test]
async fn a_refused_release_names_the_rule_to_the_owner_only() {
    let world = World::new().await;
    let mut client = world.client().await;
    let plan = init_data("a");
    world.register(&registration(&plan));
    let mut guest = world.guest(Some(plan)).await;
    let token = guest.attest(&world).await.unwrap();
    let denied = guest.get(&token, "default/other/key").await;
    let verdict = explained(&mut client, &denied).await;
    assert_eq!(verdict.subject, Subject::Release { path: "default/other/key".into() });
    assert_eq!(verdict.code.unwrap().as_str(), "RELEASE-DENIED");
    let step = |name: &str| verdict.steps.iter().find(|s| s.name == name).unwrap().clone();
    assert!(step("release.path").code.is_some() && step("release.status").passed());
    assert!(step("release.secret").skipped, "whether it exists was not even looked at");
    tells_nothing(&denied, &verdict);
    let absent = guest.get(&token, "default/key/gone").await;
    assert_eq!((absent.status, absent.code()), (404, "RELEASE-SECRET-MISSING"));
    assert!(
        explained(&mut client, &absent)
            .await
            .steps
            .iter()
            .any(|s| s.name == "release.secret" && s.code.is_some())
    );

    // Newest first; nobody else reads them, and no other id leads anywhere.
    let latest = read(&mut client, "/cocoon/v0/explain?limit=2").await;
    let ids: Vec<&str> =
        latest.as_array().unwrap().iter().map(|e| e["request_id"].as_str().unwrap()).collect();
    assert_eq!(ids, [absent.header("x-request-id").unwrap(), denied.header("x-request-id").unwrap()]);
    assert_eq!(read(&mut client, "/cocoon/v0/explain?limit=0").await, serde_json::json!([]));
    for id in [
        "0",
        "000000000000000000000000",
        "..%2f..",
        "%20",
        &denied.header("x-request-id").unwrap().to_uppercase(),
    ] {
        if id == denied.header("x-request-id").unwrap() {
            continue;
        }
        refused(&mut client, "GET", &format!("/cocoon/v0/explain/{id}"), Value::Null, 404, "USAGE-INVALID")
            .await;
    }
    refused(&mut client, "GET", "/cocoon/v0/explain?limit=-1", Value::Null, 400, "USAGE-INVALID").await;
    let url = format!("/cocoon/v0/explain/{}", ids[0]);
    let bearer = format!("Bearer {token}");
    for headers in [&[][..], &[("authorization", bearer.as_str())]] {
        let reply = client.request("GET", &url, headers, b"").await;
        assert_eq!((reply.status, reply.refusal().0), (401, "ACCESS-DENIED"));
    }
    world.stop().await;
}
