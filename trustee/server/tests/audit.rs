//! Every act leaves an entry in the audit log, which anybody can check elsewhere, and none holds a secret.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod administration;
mod support;

use administration::*;
use cocoon_audit::{ConsistencyProof, InclusionProof, Kind, Logged, Outcome, PublicKey, SignedHead, offline};
use cocoon_protocol::b64;
use serde_json::{Value, json};
use support::*;

const SECRET: &str = "kept-quite-secret-7431";

async fn head(client: &mut Client) -> SignedHead {
    serde_json::from_value(read(client, "/cocoon/v0/audit/head").await).unwrap()
}

async fn entries(client: &mut Client, query: &str) -> Vec<Logged> {
    serde_json::from_value(read(client, &format!("/cocoon/v0/audit/entries{query}")).await).unwrap()
}

async fn key(client: &mut Client) -> PublicKey {
    let shown = read(client, "/cocoon/v0/audit/key").await;
    let key: PublicKey = shown["public_key"].as_str().unwrap().parse().unwrap();
    assert_eq!(shown["key_id"], key.key_id());
    key
}

/// The one entry of a request.
async fn entry_of(client: &mut Client, reply: &Reply) -> cocoon_audit::Entry {
    let id = reply.header("x-request-id").unwrap();
    // A refusal is not waited for: its entry may come after the answer.
    for _ in 0..40 {
        let all = entries(client, "?limit=1000").await;
        let found: Vec<_> = all.into_iter().filter(|l| l.entry.request_id == id).collect();
        if let [one] = found.as_slice() {
            return one.entry.clone();
        }
        assert!(found.is_empty(), "one entry of {id}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("no entry of {id}: {}", reply.text());
}

#[tokio::test]
async fn each_act_leaves_one_entry_without_a_secret_in_it() {
    let world = World::new().await;
    let mut client = world.client().await;
    let plan = init_data("a");
    let digest = hex::encode(plan.digest());
    let b64_secret = b64::std_encode(SECRET.as_bytes());
    let policy = "package policy\ndefault allow := false";
    let sample = json!({"type": "sample", "payload": b64::std_encode(b"{\"x\": [1]}")});
    let upstream = upstream_policy(policy);
    let acts: Vec<(&str, String, Value)> = vec![
        (
            "PUT",
            format!("/cocoon/v0/workloads/{digest}"),
            json!({"name": "web", "secrets": {"own/a/b": b64_secret}, "allow": ["a/b/c"], "accept_simulated": true}),
        ),
        ("PUT", "/cocoon/v0/secrets/a/b/c".into(), json!(SECRET)),
        ("POST", "/kbs/v0/resource/a/b/d".into(), json!(SECRET)),
        ("PUT", "/cocoon/v0/rules/one".into(), json!({"workload": "any", "path": "z/z/z"})),
        ("PUT", "/cocoon/v0/policies/resource-policy".into(), json!({"policy": policy})),
        ("POST", "/kbs/v0/resource-policy".into(), upstream),
        ("POST", "/cocoon/v0/policies/resource-policy/activate".into(), json!({"version": 1})),
        ("POST", "/kbs/v0/reference-value".into(), sample.clone()),
        ("PUT", "/cocoon/v0/reference-values".into(), json!({"source": "s", "values": {"y": [1]}})),
        (
            "POST",
            "/cocoon/v0/reference-values/import".into(),
            json!({"message": sample, "unsigned": true, "set": "s"}),
        ),
        ("DELETE", "/cocoon/v0/reference-values/y".into(), Value::Null),
        ("DELETE", "/cocoon/v0/reference-sets/s".into(), Value::Null),
        ("PUT", "/cocoon/v0/tenants/red".into(), Value::Null),
        ("POST", "/cocoon/v0/tenants/red/token".into(), Value::Null),
        ("DELETE", "/cocoon/v0/tenants/red".into(), Value::Null),
        ("POST", "/cocoon/v0/token-key/rotate".into(), Value::Null),
    ];
    for (method, path, body) in &acts {
        let reply = done(&mut client, method, path, body.clone()).await;
        let entry = entry_of(&mut client, &reply).await;
        assert_eq!((entry.kind, entry.outcome), (Kind::Admin, Outcome::Granted), "{method} {path}");
        assert_eq!((entry.actor.as_str(), entry.subject), ("admin (admin)", format!("{method} {path}")));
    }
    // Refused acts of an administrator too.
    for (method, path, body) in [
        ("PUT", "/cocoon/v0/rules/One", json!({"workload": "any", "path": "z/z/z"})),
        ("DELETE", "/cocoon/v0/rules/none", Value::Null),
        ("PUT", "/cocoon/v0/policies/default_cpu", json!({"policy": SECRET})),
        ("PUT", "/cocoon/v0/secrets/a/b/c~", json!(SECRET)),
    ] {
        let reply = admin(&mut client, method, path, body).await;
        assert!(reply.status >= 400, "{method} {path}");
        let entry = entry_of(&mut client, &reply).await;
        let code = reply.header("x-cocoon-code").unwrap();
        assert!(matches!(entry.outcome, Outcome::Refused(Some(c)) if c.as_str() == code), "{method} {path}");
    }
    let before = head(&mut client).await.size;
    read(&mut client, "/cocoon/v0/secrets").await;
    read(&mut client, "/cocoon/v0/explain").await;
    assert_eq!(head(&mut client).await.size, before, "reading leaves none");

    // A guest's acts.
    let mut guest = world.guest(Some(plan.clone())).await;
    let challenge = guest.auth().await;
    let message = guest.attestation(&world, &challenge);
    let reply = guest.post("/kbs/v0/attest", &message).await;
    let entry = entry_of(&mut client, &reply).await;
    assert_eq!(
        (entry.kind, entry.outcome, entry.subject.as_str()),
        (Kind::Handshake, Outcome::Granted, "snp")
    );
    assert_eq!(entry.init_data.as_deref(), Some(&digest[..64]));
    assert_eq!(entry.details.get("simulated").map(String::as_str), Some("true"));
    let token = reply.json()["token"].as_str().unwrap().to_owned();
    let granted = guest.get(&token, "a/b/c").await;
    let entry = entry_of(&mut client, &granted).await;
    assert_eq!(
        (entry.kind, entry.outcome, entry.subject.as_str()),
        (Kind::Release, Outcome::Granted, "a/b/c")
    );
    assert_eq!(
        (entry.actor.as_str(), entry.details.get("workload").map(String::as_str)),
        ("guest", Some("web"))
    );
    let denied = guest.get(&token, "z/z/z").await;
    let entry = entry_of(&mut client, &denied).await;
    assert_eq!((entry.kind, entry.subject.as_str()), (Kind::Refusal, "z/z/z"));
    assert!(matches!(entry.outcome, Outcome::Refused(Some(c)) if c.as_str() == "RELEASE-DENIED"));
    let mut stranger = world.guest(None).await;
    stranger.measurement = [3; 48];
    let refusal = stranger.attest(&world).await.unwrap_err();
    let entry = entry_of(&mut client, &refusal).await;
    assert!(matches!(entry.outcome, Outcome::Refused(Some(c)) if c.as_str() == "ATTEST-MEASUREMENT-UNKNOWN"));
    let bearer = format!("Bearer {token}");
    let failure =
        serde_json::to_vec(&cocoon_stage::Failure::new(cocoon_stage::Code::ImagePullFailed, SECRET)).unwrap();
    let reported =
        guest.client.request("POST", "/cocoon/v0/report", &[("authorization", &bearer)], &failure).await;
    assert_eq!(reported.status, 200);

    let all = read(&mut client, "/cocoon/v0/audit/entries?limit=1000").await.to_string();
    for secret in [
        SECRET,
        &b64_secret,
        ADMIN,
        &token,
        b64::url_encode(SECRET.as_bytes()).as_str(),
        &world_cookie(&guest),
    ] {
        assert!(!all.contains(secret), "{secret}");
    }
    world.stop().await;
}

fn world_cookie(guest: &Guest) -> String {
    guest.cookie.split_once('=').unwrap().1.to_owned()
}

#[tokio::test]
async fn an_auditor_checks_the_log_without_the_server() {
    let world = World::new().await;
    let mut client = world.client().await;
    let key = key(&mut client).await;
    let empty = head(&mut client).await;
    offline::verify_head(&key, &empty).unwrap();
    let mut heads = vec![empty];
    for n in 0..9 {
        done(&mut client, "PUT", &format!("/cocoon/v0/secrets/a/b/{n}"), json!("x")).await;
        heads.push(head(&mut client).await);
    }
    let last = heads.last().unwrap().clone();
    assert_eq!(last.size, heads[0].size + 9);
    let logged = entries(&mut client, "?from=0&limit=1000").await;
    assert_eq!(logged.len() as u64, last.size);
    for (place, logged) in logged.iter().enumerate() {
        assert_eq!(logged.index, place as u64);
        let url = format!("/cocoon/v0/audit/proof/inclusion/{}?size={}", logged.index, last.size);
        let proof: InclusionProof = serde_json::from_value(read(&mut client, &url).await).unwrap();
        offline::verify_entry(&key, &last, &logged.entry, &proof).unwrap();
        let mut forged = logged.entry.clone();
        forged.actor = "somebody else".into();
        assert!(offline::verify_entry(&key, &last, &forged, &proof).is_err());
        // Without a size it is proved for the newest head.
        let newest = read(&mut client, &format!("/cocoon/v0/audit/proof/inclusion/{}", logged.index)).await;
        assert_eq!(newest["size"], last.size);
    }
    for earlier in &heads {
        let url = format!("/cocoon/v0/audit/proof/consistency/{}/{}", earlier.size, last.size);
        let proof: ConsistencyProof = serde_json::from_value(read(&mut client, &url).await).unwrap();
        offline::verify_growth(&key, earlier, &last, &proof).unwrap();
    }
    let foreign = World::new().await;
    let mut other = foreign.client().await;
    done(&mut other, "PUT", "/cocoon/v0/secrets/a/b/c", json!("x")).await;
    let theirs = head(&mut other).await;
    assert!(offline::verify_head(&key, &theirs).is_err(), "another Trustee's head");
    foreign.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn pages_and_numbers_are_bounded() {
    let world = World::new().await;
    let mut client = world.client().await;
    for n in 0..12 {
        done(&mut client, "PUT", &format!("/cocoon/v0/secrets/a/b/{n}"), json!("x")).await;
    }
    let size = head(&mut client).await.size;
    let index = |page: &[Logged]| page.iter().map(|l| l.index).collect::<Vec<_>>();
    assert_eq!(index(&entries(&mut client, "?from=2&limit=3").await), [2, 3, 4]);
    assert_eq!(index(&entries(&mut client, &format!("?from={}", size - 1)).await), [size - 1]);
    assert!(entries(&mut client, &format!("?from={size}")).await.is_empty());
    assert!(entries(&mut client, &format!("?from={}&limit=1000", u64::MAX)).await.is_empty());
    assert!(entries(&mut client, "?limit=0").await.is_empty());
    let newest = index(&entries(&mut client, "?limit=2").await);
    assert!(newest.contains(&(size - 1)) && newest.len() == 2, "{newest:?}");
    assert_eq!(entries(&mut client, "?limit=999999999").await.len() as u64, size);
    for bad in ["?from=-1", "?from=x", "?limit=x", "?limit=", "?from=99999999999999999999999"] {
        refused(
            &mut client,
            "GET",
            &format!("/cocoon/v0/audit/entries{bad}"),
            Value::Null,
            400,
            "USAGE-INVALID",
        )
        .await;
    }
    let beyond = size + 1;
    for bad in [
        format!("inclusion/{size}"),
        format!("inclusion/0?size={beyond}"),
        "inclusion/0?size=0".into(),
        "inclusion/x".into(),
        "inclusion/-1".into(),
        "inclusion/0?size=x".into(),
        format!("inclusion/{}?size={}", u64::MAX, u64::MAX),
        format!("consistency/1/{beyond}"),
        "consistency/2/1".into(),
        "consistency/x/1".into(),
        format!("consistency/0/{}", u64::MAX),
    ] {
        let reply = admin(&mut client, "GET", &format!("/cocoon/v0/audit/proof/{bad}"), Value::Null).await;
        assert_eq!((reply.status, reply.refusal().0), (400, "USAGE-INVALID"), "{bad}: {}", reply.text());
    }
    for path in ["head", "key", "entries", "proof/inclusion/0", "proof/consistency/0/1"] {
        let reply = client.request("GET", &format!("/cocoon/v0/audit/{path}"), &[], b"").await;
        assert_eq!((reply.status, reply.refusal().0), (401, "ACCESS-DENIED"), "{path}");
    }
    world.stop().await;
}
