//! Release rules and Rego policies, under their own paths and upstream's: what they let out, and what is refused.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod administration;
mod support;

use std::time::{Duration, Instant};

use administration::*;
use serde_json::{Value, json};
use support::*;

/// As upstream's client sends them.
const ALLOW_ALL: &str = "package policy\n\ndefault allow = true\n";
const DENY_ALL: &str = "package policy\n\ndefault allow = false\n";
const BROKEN: &str = "package policy\ndefault allow = {";
/// Affirms every guest.
const AFFIRM: &str = "package policy\nimport rego.v1\ntrust_claims := {\"executables\": 3, \"hardware\": 2, \"configuration\": 2}\n";
const CONTRAINDICATE: &str =
    "package policy\nimport rego.v1\ntrust_claims := {\"executables\": 97, \"hardware\": 97}\n";
/// Hours of work.
const ENDLESS: &str =
    "r := numbers.range(1, 20000)\nx := [1 | some a in r; some b in r; some c in r; a + b + c < 0]";

#[tokio::test]
async fn a_release_rule_lets_out_what_it_names_until_it_goes() {
    let world = World::new().await;
    let mut client = world.client().await;
    assert_eq!(read(&mut client, "/cocoon/v0/rules").await, json!([]));
    for path in ["team/key/one", "other/key/one"] {
        assert_eq!(client.admin("PUT", &format!("/cocoon/v0/secrets/{path}"), b"value").await.status, 200);
    }
    let plan = init_data("a");
    let mut guest = world.guest(Some(plan.clone())).await;
    let token = guest.attest(&world).await.unwrap();
    let denied = guest.get(&token, "team/key/one").await;
    assert_eq!((denied.status, denied.code()), (401, "RELEASE-WORKLOAD-UNKNOWN"));

    let rule = json!({"workload": "any", "path": "team/key/*", "accept_simulated": true, "note": "for all"});
    done(&mut client, "PUT", "/cocoon/v0/rules/one", rule.clone()).await;
    let kept = read(&mut client, "/cocoon/v0/rules/one").await;
    assert_eq!(
        (&kept["id"], &kept["workload"], &kept["path"]),
        (&json!("one"), &json!("any"), &json!("team/key/*"))
    );
    assert_eq!(read(&mut client, "/cocoon/v0/rules").await, json!([kept]));
    let granted = guest.get(&token, "team/key/one").await;
    assert_eq!(guest.decrypt(&granted), b"value");
    let other = guest.get(&token, "other/key/one").await;
    assert_eq!((other.status, other.code()), (401, "RELEASE-WORKLOAD-UNKNOWN"));
    let gone = guest.get(&token, "team/key/absent").await;
    assert_eq!((gone.status, gone.code()), (404, "RELEASE-SECRET-MISSING"));

    let put = "/cocoon/v0/rules/one";
    for (path, body, code) in [
        (put, json!({"id": "two", "workload": "any", "path": "a/b/c"}), "USAGE-INVALID"),
        (put, json!({"workload": "any"}), "USAGE-INVALID"),
        (put, json!({"workload": "nobody", "path": "a/b/c"}), "USAGE-INVALID"),
        (put, json!({"workload": "digest:zz", "path": "a/b/c"}), "USAGE-INVALID"),
        (put, json!({"workload": "any", "path": "a/b"}), "USAGE-INVALID"),
        (put, json!({"workload": "any", "path": "a/*b/c"}), "USAGE-INVALID"),
        (put, json!({"workload": "any", "path": "../b/c"}), "USAGE-INVALID"),
        (put, json!({"workload": "any", "path": "a/b/c", "min_status": "none"}), "USAGE-INVALID"),
        (put, json!({"workload": "any", "path": "a/b/c", "accept_simulatd": true}), "USAGE-INVALID"),
        (put, json!([]), "USAGE-INVALID"),
        ("/cocoon/v0/rules/One_", json!({"workload": "any", "path": "a/b/c"}), "REGISTER-FAILED"),
        (put, json!({"workload": "any", "path": "a/b/c", "note": "x".repeat(513)}), "REGISTER-FAILED"),
    ] {
        refused(&mut client, "PUT", path, body, 400, code).await;
    }
    assert_eq!(read(&mut client, "/cocoon/v0/rules").await, json!([kept]), "nothing changed");

    // A rule that asks for real hardware, and one that has ended, let nothing out.
    let strict = json!({"workload": "any", "path": "team/key/*"});
    done(&mut client, "PUT", put, strict).await;
    assert_eq!(guest.get(&token, "team/key/one").await.status, 401);
    let digest = format!("digest:{}", hex::encode(plan.digest()));
    let end = cocoon_trustee::system_clock()() + 60;
    let mine = json!({"workload": digest, "path": "team/*/*", "accept_simulated": true, "expires_unix": end});
    done(&mut client, "PUT", put, mine).await;
    assert_eq!(guest.get(&token, "team/key/one").await.status, 200);
    world.ahead.store(60, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(guest.get(&token, "team/key/one").await.status, 401);

    done(&mut client, "DELETE", put, Value::Null).await;
    refused(&mut client, "DELETE", put, Value::Null, 404, "USAGE-INVALID").await;
    refused(&mut client, "GET", put, Value::Null, 404, "USAGE-INVALID").await;
    world.stop().await;
}

#[tokio::test]
async fn upstreams_client_sets_the_resource_policy() {
    let world = World::new().await;
    let mut client = world.client().await;
    let (url, secret) = ("/kbs/v0/resource-policy", "/kbs/v0/resource/one/two/three");
    assert_eq!(read(&mut client, url).await, json!([]));
    assert_eq!(client.admin("POST", secret, b"value").await.status, 200);
    let mut guest = world.guest(Some(init_data("a"))).await;
    let token = guest.attest(&world).await.unwrap();
    assert_eq!(guest.get(&token, "one/two/three").await.status, 401, "no policy denies");

    let reply = done(&mut client, "POST", url, upstream_policy(ALLOW_ALL)).await;
    assert!(reply.body.is_empty());
    assert_eq!(read(&mut client, url).await, json!(["resource-policy"]));
    let granted = guest.get(&token, "one/two/three").await;
    assert_eq!(guest.decrypt(&granted), b"value");

    for (body, code) in [
        (upstream_policy(BROKEN), "POLICY-INVALID"),
        (upstream_policy("package other\ndefault allow = true"), "POLICY-INVALID"),
        (upstream_policy("package policy\ndefault allow = http.send({})"), "POLICY-INVALID"),
        (upstream_policy(&format!("{ALLOW_ALL}# {}", "x".repeat(1 << 20))), "POLICY-INVALID"),
        (json!({"policy": "%%%"}), "USAGE-INVALID"),
        (json!({"policy": cocoon_protocol::b64::url_encode(b"\xff\xfe")}), "POLICY-INVALID"),
        (json!({"text": ""}), "USAGE-INVALID"),
        (json!("x"), "USAGE-INVALID"),
    ] {
        refused(&mut client, "POST", url, body, 400, code).await;
    }
    assert_eq!(guest.get(&token, "one/two/three").await.status, 200, "the old one stays");
    assert_eq!(
        read(&mut client, "/cocoon/v0/policies/resource-policy/history").await.as_array().unwrap().len(),
        1
    );

    done(&mut client, "POST", url, upstream_policy(DENY_ALL)).await;
    let denied = guest.get(&token, "one/two/three").await;
    assert_eq!(denied.status, 401);
    assert!(denied.json()["type"].as_str().unwrap().ends_with("/PolicyDeny"));

    // A policy sees path, query, plugin and claims.
    let policy = r#"package policy
        import rego.v1
        default allow := false
        allow if {
            data.plugin == "resource"
            data["resource-path"] == ["one", "two", "three"]
            data.query.why == "because"
            input.submods.cpu0["ear.veraison.annotated-evidence"].snp
        }"#;
    let padded = cocoon_protocol::b64::std_encode(policy.as_bytes()).replace('+', "-").replace('/', "_");
    done(&mut client, "POST", url, json!({"policy": padded})).await;
    assert_eq!(guest.get(&token, "one/two/three").await.status, 401);
    assert_eq!(guest.get(&token, "one/two/three?why=because").await.status, 200);
    let wrong = client.admin("PUT", url, b"{}").await;
    assert_eq!(wrong.status, 405);
    world.stop().await;
}

#[tokio::test]
async fn upstreams_client_sets_attestation_policies() {
    let world = World::new().await;
    let mut client = world.client().await;
    let url = "/kbs/v0/attestation-policy";
    let set = |id: &str, text: &str| {
        let mut body = upstream_policy(text);
        (body["type"], body["policy_id"]) = (json!("rego"), json!(id));
        body
    };
    let mut guest = world.guest(None).await;
    guest.measurement = [9; 48];
    let reply = guest.attest(&world).await.unwrap_err();
    assert_eq!(reply.code(), "ATTEST-MEASUREMENT-UNKNOWN");
    done(&mut client, "POST", url, set("default_cpu", AFFIRM)).await;
    let token = guest.attest(&world).await.unwrap();
    assert_eq!(payload(&token)["submods"]["cpu0"]["ear.status"], "affirming");
    for (body, code) in [
        (set("default_cpu", BROKEN), "POLICY-INVALID"),
        (set("default_cpu", ALLOW_ALL), "POLICY-INVALID"),
        (set("resource-policy", AFFIRM), "USAGE-INVALID"),
        (set("../x", AFFIRM), "USAGE-INVALID"),
        (set("", AFFIRM), "USAGE-INVALID"),
        (json!({"policy": "AA"}), "USAGE-INVALID"),
    ] {
        refused(&mut client, "POST", url, body, 400, code).await;
    }
    guest.attest(&world).await.unwrap();
    done(&mut client, "POST", url, set("default_cpu", CONTRAINDICATE)).await;
    assert_eq!(guest.attest(&world).await.unwrap_err().status, 401);
    assert_eq!(client.admin("GET", url, b"").await.status, 405);
    done(&mut client, "DELETE", "/cocoon/v0/policies/default_cpu", Value::Null).await;
    let native = guest.attest(&world).await.unwrap_err();
    assert_eq!(native.code(), "ATTEST-MEASUREMENT-UNKNOWN", "the native rules are back");
    world.stop().await;
}

#[tokio::test]
async fn policies_have_versions_and_can_be_rolled_back() {
    let world = World::new().await;
    let mut client = world.client().await;
    let url = "/cocoon/v0/policies/default_cpu";
    for path in [url, "/cocoon/v0/policies/default_cpu/history"] {
        refused(&mut client, "GET", path, Value::Null, 404, "USAGE-INVALID").await;
    }
    refused(&mut client, "DELETE", url, Value::Null, 404, "USAGE-INVALID").await;
    let first = done(&mut client, "PUT", url, json!({"policy": AFFIRM, "note": "good"})).await.json();
    assert_eq!(
        (&first["version"], &first["active"], &first["note"]),
        (&json!(1), &json!(true), &json!("good"))
    );
    assert_eq!(first["author"], "admin (admin)");
    let again = done(&mut client, "PUT", url, json!({"policy": AFFIRM})).await.json();
    assert_eq!(again["version"], 1, "the same text makes no new version");
    let second = done(&mut client, "PUT", url, json!({"policy": CONTRAINDICATE})).await.json();
    assert_eq!(second["version"], 2);
    let history = read(&mut client, "/cocoon/v0/policies/default_cpu/history").await;
    let versions: Vec<_> =
        history.as_array().unwrap().iter().map(|v| (v["version"].as_u64(), v["active"].as_bool())).collect();
    assert_eq!(versions, [(Some(2), Some(true)), (Some(1), Some(false))]);
    assert_eq!(read(&mut client, url).await["policy"], CONTRAINDICATE);
    assert_eq!(read(&mut client, &format!("{url}?version=1")).await["policy"], AFFIRM);
    refused(&mut client, "GET", &format!("{url}?version=3"), Value::Null, 404, "USAGE-INVALID").await;
    refused(&mut client, "GET", &format!("{url}?version=x"), Value::Null, 400, "USAGE-INVALID").await;

    let mut guest = world.guest(None).await;
    assert_eq!(guest.attest(&world).await.unwrap_err().status, 401);
    let activate = "/cocoon/v0/policies/default_cpu/activate";
    for bad in [json!({"version": 9}), json!({}), json!({"version": "1"}), json!({"version": 1, "x": 1})] {
        refused(&mut client, "POST", activate, bad, 400, "USAGE-INVALID").await;
    }
    let active = done(&mut client, "POST", activate, json!({"version": 1})).await.json();
    assert_eq!((&active["version"], &active["active"]), (&json!(1), &json!(true)));
    guest.attest(&world).await.unwrap();
    let listed = read(&mut client, "/cocoon/v0/policies").await;
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["version"]), (1, &json!(1)));

    for (body, code) in [
        (json!({"policy": BROKEN}), "POLICY-INVALID"),
        (json!({"policy": AFFIRM, "note": "a\u{7}b"}), "USAGE-INVALID"),
        (json!({"policy": AFFIRM, "notes": ""}), "USAGE-INVALID"),
        (json!({}), "USAGE-INVALID"),
    ] {
        refused(&mut client, "PUT", url, body, 400, code).await;
    }
    assert_eq!(
        read(&mut client, "/cocoon/v0/policies/default_cpu/history").await.as_array().unwrap().len(),
        2
    );
    let defaults = read(&mut client, "/cocoon/v0/policy-defaults").await;
    for name in ["default_cpu", "default_gpu", "resource-policy:allow_all", "resource-policy:default"] {
        assert!(defaults[name].as_str().unwrap().contains("package policy"), "{name}");
        let id = name.split(':').next().unwrap();
        done(&mut client, "PUT", &format!("/cocoon/v0/policies/{id}"), json!({"policy": defaults[name]}))
            .await;
    }
    guest.attest(&world).await.expect("the default policy affirms whom the native rules do");
    world.stop().await;
}

#[tokio::test]
async fn a_policy_is_tried_on_what_was_seen_before() {
    let world = World::new().await;
    let mut client = world.client().await;
    let dry = |id: &str| format!("/cocoon/v0/policies/{id}/dry-run");
    let empty = done(&mut client, "POST", &dry("default_cpu"), json!({"policy": AFFIRM})).await.json();
    assert_eq!(empty, json!({"runs": []}));
    let mut guest = world.guest(Some(init_data("a"))).await;
    let token = guest.attest(&world).await.unwrap();
    let denied = guest.get(&token, "a/b/c").await;
    assert_eq!(denied.status, 401);

    let good = done(&mut client, "POST", &dry("default_cpu"), json!({"policy": AFFIRM})).await.json();
    assert_eq!(good["runs"].as_array().unwrap().len(), 1);
    assert_eq!(good["runs"][0]["status"], "affirming");
    assert_eq!(good["runs"][0]["trustworthiness-vector"]["executables"], 3);
    let bad = done(&mut client, "POST", &dry("default_cpu"), json!({"policy": CONTRAINDICATE})).await.json();
    assert_eq!(bad["runs"][0]["status"], "contraindicated");
    let seen = bad["runs"][0]["request_id"].as_str().unwrap().to_owned();
    assert_eq!(read(&mut client, &format!("/cocoon/v0/explain/{seen}")).await["kind"], "attest");
    let none = done(&mut client, "POST", &dry("default_gpu"), json!({"policy": AFFIRM})).await.json();
    assert_eq!(none, json!({"runs": []}), "no GPU was seen");

    let allow = done(&mut client, "POST", &dry("resource-policy"), json!({"policy": ALLOW_ALL})).await.json();
    assert_eq!(allow["runs"][0]["allow"], true);
    assert_eq!(allow["runs"][0]["path"], "a/b/c");
    assert_eq!(allow["runs"][0]["request_id"], denied.header("x-request-id").unwrap());
    let deny = done(&mut client, "POST", &dry("resource-policy"), json!({"policy": DENY_ALL})).await.json();
    assert_eq!(deny["runs"][0]["allow"], false);

    let fails = "package policy\nimport rego.v1\nallow if { to_number(\"x\") > 1 }\nallow := 7 if input";
    let failed = done(&mut client, "POST", &dry("resource-policy"), json!({"policy": fails})).await.json();
    assert_eq!(failed["runs"][0]["code"], "POLICY-FAILED", "{failed}");
    refused(&mut client, "POST", &dry("resource-policy"), json!({"policy": BROKEN}), 400, "POLICY-INVALID")
        .await;
    let limit = format!("{}?limit=x", dry("default_cpu"));
    refused(&mut client, "POST", &limit, json!({"policy": AFFIRM}), 400, "USAGE-INVALID").await;
    // Nothing was stored, nothing is in force.
    assert_eq!(read(&mut client, "/cocoon/v0/policies").await, json!([]));
    assert_eq!(guest.get(&token, "a/b/c").await.status, 401);
    world.stop().await;
}

#[tokio::test]
async fn a_policy_that_never_ends_neither_hangs_its_request_nor_others() {
    let world = World::new().await;
    let mut client = world.client().await;
    let mut guest = world.guest(Some(init_data("a"))).await;
    let token = guest.attest(&world).await.unwrap();
    guest.get(&token, "a/b/c").await;
    let resource = format!("package policy\nimport rego.v1\nallow if {{\n{ENDLESS}\nx\n}}");
    let attestation = format!(
        "package policy\nimport rego.v1\ntrust_claims := {{\"hardware\": 2}} if {{\n{ENDLESS}\nx\n}}"
    );
    done(&mut client, "PUT", "/cocoon/v0/policies/resource-policy", json!({"policy": resource})).await;
    done(&mut client, "PUT", "/cocoon/v0/policies/default_cpu", json!({"policy": attestation})).await;

    let begun = Instant::now();
    let mut other = world.guest(None).await;
    let (released, attested, slowest) =
        tokio::join!(guest.get(&token, "a/b/c"), other.attest(&world), async {
            let mut slowest = Duration::ZERO;
            for _ in 0..10 {
                let start = Instant::now();
                assert_eq!(client.request("GET", "/healthz", &[], b"").await.status, 200);
                slowest = slowest.max(start.elapsed());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            slowest
        });
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(slowest < Duration::from_millis(1500), "others waited {slowest:?}");
    assert_eq!(released.status, 401);
    assert_eq!(world.explain(&released).code.unwrap().as_str(), released.code());
    assert_eq!(attested.unwrap_err().code(), "POLICY-FAILED");

    // Tried on many verdicts it ends too, long before the request's time is up.
    done(&mut client, "DELETE", "/cocoon/v0/policies/resource-policy", Value::Null).await;
    for _ in 0..20 {
        assert_eq!(guest.get(&token, "a/b/c").await.status, 401);
    }
    let begun = Instant::now();
    let dry = "/cocoon/v0/policies/resource-policy/dry-run?limit=200";
    let tried = done(&mut client, "POST", dry, json!({"policy": resource})).await.json();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(tried["runs"][0]["code"], "POLICY-FAILED");
    assert!(tried["runs"].as_array().unwrap().len() < 20, "it stopped early");
    world.stop().await;
}
