//! Tenants share a server and nothing else.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod administration;
mod support;

use administration::*;
use cocoon_trustee::Limits;
use serde_json::{Value, json};
use support::*;

/// Makes a tenant; its administrator's token.
async fn tenant(client: &mut Client, name: &str, quota: Value) -> String {
    let made = done(client, "PUT", &format!("/cocoon/v0/tenants/{name}"), quota).await.json();
    made["admin_token"].as_str().unwrap().to_owned()
}

async fn ok(client: &mut Client, token: &str, method: &str, path: &str, body: Value) -> Value {
    let reply = with_token(client, token, method, path, &body).await;
    assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text());
    if reply.body.is_empty() { Value::Null } else { reply.json() }
}

async fn not_ok(client: &mut Client, token: &str, method: &str, path: &str, body: Value) -> (u16, String) {
    let reply = with_token(client, token, method, path, &body).await;
    assert!(reply.status >= 400, "{method} {path}: {}", reply.text());
    (reply.status, reply.refusal().0.to_owned())
}

/// Lets a tenant's guests of the usual measurement in, and gives every one of them `a/b/c`.
async fn open_house(world: &World, client: &mut Client, token: &str, prefix: &str, value: &[u8]) {
    ok(client, token, "PUT", &format!("{prefix}/cocoon/v0/reference-values"), all_values(world)).await;
    let bearer = format!("Bearer {token}");
    let url = format!("{prefix}/kbs/v0/resource/a/b/c");
    assert_eq!(client.request("POST", &url, &[("authorization", &bearer)], value).await.status, 200);
    let rule = json!({"workload": "any", "path": "a/b/*", "accept_simulated": true});
    ok(client, token, "PUT", &format!("{prefix}/cocoon/v0/rules/all"), rule).await;
}

#[tokio::test]
async fn a_tenant_is_made_once_and_serves_its_own_guests() {
    let world = World::new().await;
    let mut client = world.client().await;
    let made = done(&mut client, "PUT", "/cocoon/v0/tenants/red", Value::Null).await.json();
    assert_eq!((&made["name"], &made["path"]), (&json!("red"), &json!("/t/red")));
    let token = made["admin_token"].as_str().unwrap().to_owned();
    assert_eq!(token.len(), 64);
    let again = done(&mut client, "PUT", "/cocoon/v0/tenants/red", json!({"secrets": 5})).await.json();
    assert_eq!(
        (&again["admin_token"], &again["quota"]["secrets"]),
        (&Value::Null, &json!(5)),
        "its token is given once"
    );
    let listed = read(&mut client, "/cocoon/v0/tenants").await;
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["name"]), (1, &json!("red")));
    assert!(!listed.to_string().contains("token"));

    open_house(&world, &mut client, &token, "/t/red", b"red's").await;
    let mut guest = Visitor::new(&world, "/t/red", Some(init_data("a"))).await;
    let guests = guest.attest(&world).await.unwrap();
    assert!(guest.guest.cookie.starts_with("kbs-session-id="));
    let reply = guest.get(&guests, "a/b/c").await;
    assert_eq!(guest.guest.decrypt(&reply), b"red's");
    let keys = client.request("GET", "/t/red/.well-known/jwks.json", &[], b"").await.json();
    cocoon_protocol::token::verify(&guests, &keys, cocoon_trustee::system_clock()()).unwrap();
    let discovery = client.request("GET", "/t/red/.well-known/openid-configuration", &[], b"").await.json();
    assert!(discovery["jwks_uri"].as_str().unwrap().ends_with("/t/red/.well-known/jwks.json"));
    assert_eq!(client.request("GET", "/t/red/healthz", &[], b"").await.status, 200);
    assert_eq!(client.request("GET", "/t/red/readyz", &[], b"").await.status, 200);
    assert_eq!(client.request("GET", "/t/red/metrics", &[], b"").await.status, 404);
    // The Trustee's own administrator may administer all of them.
    assert_eq!(read(&mut client, "/t/red/cocoon/v0/secrets").await, json!(["a/b/c"]));
    assert_eq!(read(&mut client, "/t/red/cocoon/v0/status").await["tenant"], "red");
    world.stop().await;
}

#[tokio::test]
async fn tenants_see_nothing_of_each_other_or_of_the_trustee() {
    let world = World::new().await;
    let mut client = world.client().await;
    let red = tenant(&mut client, "red", Value::Null).await;
    let blue = tenant(&mut client, "blue", Value::Null).await;
    open_house(&world, &mut client, &red, "/t/red", b"red's").await;
    open_house(&world, &mut client, &blue, "/t/blue", b"blue's").await;
    open_house(&world, &mut client, ADMIN, "", b"root's").await;

    // An administrator of one is nobody elsewhere.
    for path in [
        "/cocoon/v0/secrets",
        "/cocoon/v0/status",
        "/cocoon/v0/audit/head",
        "/cocoon/v0/explain",
        "/cocoon/v0/workloads",
    ] {
        for (token, prefix) in [(&red, ""), (&blue, ""), (&red, "/t/blue"), (&blue, "/t/red")] {
            let refusal = not_ok(&mut client, token, "GET", &format!("{prefix}{path}"), Value::Null).await;
            assert_eq!(refusal, (401, "ACCESS-DENIED".into()), "{prefix}{path}");
        }
        ok(&mut client, &red, "GET", &format!("/t/red{path}"), Value::Null).await;
    }
    for (method, path) in [
        ("GET", "/tenants"),
        ("PUT", "/tenants/green"),
        ("PUT", "/tenants/red"),
        ("POST", "/tenants/red/token"),
        ("DELETE", "/tenants/red"),
        ("DELETE", "/tenants/blue"),
    ] {
        let own = not_ok(&mut client, &red, method, &format!("/t/red/cocoon/v0{path}"), Value::Null).await;
        assert_eq!(own, (404, "USAGE-INVALID".into()), "{method} {path}");
        let root = not_ok(&mut client, &red, method, &format!("/cocoon/v0{path}"), Value::Null).await;
        assert_eq!(root, (401, "ACCESS-DENIED".into()), "{method} {path}");
        // A tenant has no tenants, whoever asks.
        let asked = not_ok(&mut client, ADMIN, method, &format!("/t/red/cocoon/v0{path}"), Value::Null).await;
        assert_eq!(asked, (404, "USAGE-INVALID".into()), "{method} {path}");
    }
    assert_eq!(read(&mut client, "/cocoon/v0/tenants").await.as_array().unwrap().len(), 2);

    // A guest's token, cookie and challenge hold where they were given.
    let mut guests = Vec::new();
    for prefix in ["/t/red", "/t/blue", ""] {
        let mut guest = Visitor::new(&world, prefix, Some(init_data("a"))).await;
        let token = guest.attest(&world).await.unwrap();
        guests.push((guest, token, prefix));
    }
    for (own, value) in [(0, b"red's".as_slice()), (1, b"blue's"), (2, b"root's")] {
        let (token, cookie) = (guests[own].1.clone(), guests[own].0.guest.cookie.clone());
        let reply = guests[own].0.get(&token, "a/b/c").await;
        assert_eq!(guests[own].0.guest.decrypt(&reply), value);
        for (other, prefix) in [(0, "/t/red"), (1, "/t/blue"), (2, "")] {
            if other == own {
                continue;
            }
            let url = format!("{prefix}/kbs/v0/resource/a/b/c");
            let bearer = format!("Bearer {token}");
            let reply = client.request("GET", &url, &[("authorization", &bearer)], b"").await;
            assert_eq!((reply.status, reply.code()), (401, "RELEASE-TOKEN-INVALID"), "{own} at {other}");
            let reply = client.request("GET", &url, &[("cookie", &cookie)], b"").await;
            assert_eq!((reply.status, reply.code()), (401, "RELEASE-TOKEN-INVALID"), "{own} at {other}");
            let report = format!("{prefix}/cocoon/v0/report");
            let reply = client.request("POST", &report, &[("authorization", &bearer)], b"{}").await;
            assert_eq!(reply.status, 401);
        }
    }
    let challenge = guests[0].0.auth().await;
    let message = guests[0].0.guest.attestation(&world, &challenge);
    let crossed = guests[0].0.guest.post("/t/blue/kbs/v0/attest", &message).await;
    assert_eq!((crossed.status, crossed.code()), (401, "ATTEST-PROTOCOL"));
    let home = guests[0].0.guest.post("/t/red/kbs/v0/attest", &message).await;
    assert_eq!(home.status, 200, "{}", home.text());

    // Keys, verdicts and logs differ.
    let mut seen = std::collections::BTreeSet::new();
    for prefix in ["/t/red", "/t/blue", ""] {
        let keys = client.request("GET", &format!("{prefix}/.well-known/jwks.json"), &[], b"").await.text();
        let head = read(&mut client, &format!("{prefix}/cocoon/v0/audit/head")).await;
        let key = read(&mut client, &format!("{prefix}/cocoon/v0/audit/key")).await;
        for text in [keys, head["log_id"].to_string(), key["key_id"].to_string()] {
            assert!(seen.insert(text.clone()), "{text}");
        }
    }
    let denied = {
        let token = guests[0].1.clone();
        guests[0].0.get(&token, "x/y/z").await
    };
    let id = denied.header("x-request-id").unwrap();
    ok(&mut client, &red, "GET", &format!("/t/red/cocoon/v0/explain/{id}"), Value::Null).await;
    let elsewhere =
        not_ok(&mut client, &blue, "GET", &format!("/t/blue/cocoon/v0/explain/{id}"), Value::Null).await;
    assert_eq!(elsewhere, (404, "USAGE-INVALID".into()));
    refused(&mut client, "GET", &format!("/cocoon/v0/explain/{id}"), Value::Null, 404, "USAGE-INVALID").await;
    let blues =
        ok(&mut client, &blue, "GET", "/t/blue/cocoon/v0/audit/entries", Value::Null).await.to_string();
    assert!(!blues.contains(id) && !blues.contains("/t/red") && blues.contains("tenant blue"));
    world.stop().await;
}

#[tokio::test]
async fn a_quota_bounds_what_a_tenant_keeps() {
    let world = World::new().await;
    let mut client = world.client().await;
    let quota = json!({"secrets": 2, "workloads": 1, "rules": 1, "reference_values": 3, "policies": 1});
    let token = tenant(&mut client, "small", quota).await;
    let at = |path: &str| format!("/t/small/cocoon/v0{path}");
    let full = (507, "STORE-QUOTA".to_owned());
    for path in ["/secrets/a/b/1", "/secrets/a/b/2", "/secrets/a/b/1"] {
        ok(&mut client, &token, "PUT", &at(path), json!("x")).await;
    }
    assert_eq!(not_ok(&mut client, &token, "PUT", &at("/secrets/a/b/3"), json!("x")).await, full);
    assert_eq!(not_ok(&mut client, &token, "POST", "/t/small/kbs/v0/resource/a/b/3", json!("x")).await, full);
    ok(&mut client, &token, "DELETE", &at("/secrets/a/b/2"), Value::Null).await;
    ok(&mut client, &token, "PUT", &at("/secrets/a/b/3"), json!("x")).await;

    let workload = |n: u8| at(&format!("/workloads/{}", hex::encode([n; 48])));
    for (n, name) in [(1, "one"), (1, "renamed")] {
        ok(&mut client, &token, "PUT", &workload(n), json!({"name": name})).await;
    }
    assert_eq!(not_ok(&mut client, &token, "PUT", &workload(2), json!({"name": "two"})).await, full);

    let rule = json!({"workload": "any", "path": "a/b/c"});
    for _ in 0..2 {
        ok(&mut client, &token, "PUT", &at("/rules/one"), rule.clone()).await;
    }
    assert_eq!(not_ok(&mut client, &token, "PUT", &at("/rules/two"), rule).await, full);

    let policy = |text: &str| json!({"policy": format!("package policy\ndefault allow := {text}")});
    for text in ["true", "false"] {
        ok(&mut client, &token, "PUT", &at("/policies/resource-policy"), policy(text)).await;
    }
    let other = json!({"policy": "package policy\ntrust_claims := {\"hardware\": 2}"});
    assert_eq!(not_ok(&mut client, &token, "PUT", &at("/policies/default_cpu"), other).await, full);

    let values = |names: &[&str]| {
        let map: serde_json::Map<String, Value> =
            names.iter().map(|n| ((*n).to_owned(), json!([1]))).collect();
        json!({"source": "me", "values": map})
    };
    let url = at("/reference-values");
    assert_eq!(
        not_ok(&mut client, &token, "PUT", &url, values(&["a", "b", "c", "d"])).await,
        full,
        "not all at once either"
    );
    ok(&mut client, &token, "PUT", &url, values(&["a", "b"])).await;
    ok(&mut client, &token, "PUT", &url, values(&["a", "b", "c"])).await;
    ok(&mut client, &token, "PUT", &url, values(&["a", "b"])).await;
    assert_eq!(not_ok(&mut client, &token, "PUT", &url, values(&["d"])).await, full);
    let payload = cocoon_protocol::b64::std_encode(b"{\"d\": [1]}");
    let message = json!({"type": "sample", "payload": payload});
    assert_eq!(
        not_ok(&mut client, &token, "POST", "/t/small/kbs/v0/reference-value", message.clone()).await,
        full
    );
    let import = json!({"message": message, "unsigned": true});
    assert_eq!(not_ok(&mut client, &token, "POST", &at("/reference-values/import"), import).await, full);
    let counts = ok(&mut client, &token, "GET", &at("/status"), Value::Null).await["counts"].clone();
    assert_eq!(
        (&counts["workloads"], &counts["rules"], &counts["reference_values"]),
        (&json!(1), &json!(1), &json!(3))
    );
    // More room, at once.
    done(&mut client, "PUT", "/cocoon/v0/tenants/small", json!({"secrets": 3})).await;
    ok(&mut client, &token, "PUT", &at("/secrets/a/b/4"), json!("x")).await;
    world.stop().await;
}

#[tokio::test]
async fn a_new_token_ends_the_old_one() {
    let world = World::new().await;
    let mut client = world.client().await;
    let old = tenant(&mut client, "red", Value::Null).await;
    ok(&mut client, &old, "GET", "/t/red/cocoon/v0/status", Value::Null).await;
    refused(&mut client, "POST", "/cocoon/v0/tenants/blue/token", Value::Null, 404, "USAGE-INVALID").await;
    let new = done(&mut client, "POST", "/cocoon/v0/tenants/red/token", Value::Null).await.json();
    let new = new["admin_token"].as_str().unwrap();
    assert_ne!(new, old);
    let refusal = not_ok(&mut client, &old, "GET", "/t/red/cocoon/v0/status", Value::Null).await;
    assert_eq!(refusal, (401, "ACCESS-DENIED".into()));
    ok(&mut client, new, "GET", "/t/red/cocoon/v0/status", Value::Null).await;
    let entries = read(&mut client, "/cocoon/v0/audit/entries").await.to_string();
    assert!(!entries.contains(new) && !entries.contains(&old));
    world.stop().await;
}

#[tokio::test]
async fn a_removed_tenant_leaves_nothing_behind() {
    let world = World::new().await;
    let mut client = world.client().await;
    let token = tenant(&mut client, "red", Value::Null).await;
    let neighbour = tenant(&mut client, "red-2", Value::Null).await;
    open_house(&world, &mut client, &token, "/t/red", b"red's").await;
    open_house(&world, &mut client, &neighbour, "/t/red-2", b"neighbour's").await;
    let mut guest = Visitor::new(&world, "/t/red", Some(init_data("a"))).await;
    let guests = guest.attest(&world).await.unwrap();
    let log = read(&mut client, "/t/red/cocoon/v0/audit/head").await["log_id"].clone();

    done(&mut client, "DELETE", "/cocoon/v0/tenants/red", Value::Null).await;
    refused(&mut client, "DELETE", "/cocoon/v0/tenants/red", Value::Null, 404, "USAGE-INVALID").await;
    for path in [
        "/t/red/cocoon/v0/status",
        "/t/red/kbs/v0/resource/a/b/c",
        "/t/red/healthz",
        "/t/red/.well-known/jwks.json",
    ] {
        let reply = with_token(&mut client, &token, "GET", path, &Value::Null).await;
        assert_eq!(reply.status, 404, "{path}");
    }
    assert_eq!(read(&mut client, "/cocoon/v0/tenants").await.as_array().unwrap().len(), 1);

    let new = tenant(&mut client, "red", Value::Null).await;
    assert_eq!(not_ok(&mut client, &token, "GET", "/t/red/cocoon/v0/status", Value::Null).await.0, 401);
    let at = |path: &str| format!("/t/red/cocoon/v0{path}");
    for list in ["/secrets", "/rules", "/reference-values", "/policies", "/workloads", "/explain"] {
        assert_eq!(ok(&mut client, &new, "GET", &at(list), Value::Null).await, json!([]), "{list}");
    }
    let entries = ok(&mut client, &new, "GET", &at("/audit/entries"), Value::Null).await;
    assert_eq!(entries, json!([]), "quiet reads leave no entry");
    assert_ne!(read(&mut client, "/t/red/cocoon/v0/audit/head").await["log_id"], log);
    let stale = guest.get(&guests, "a/b/c").await;
    assert_eq!((stale.status, stale.code()), (401, "RELEASE-TOKEN-INVALID"));
    // The neighbour whose name begins alike still has everything.
    assert_eq!(
        ok(&mut client, &neighbour, "GET", "/t/red-2/cocoon/v0/secrets", Value::Null).await,
        json!(["a/b/c"])
    );
    world.stop().await;
}

#[tokio::test]
async fn what_is_under_way_for_a_removed_tenant_leaves_nothing_either() {
    let world = World::new().await;
    let mut client = world.client().await;
    let token = tenant(&mut client, "red", Value::Null).await;
    let mut slow = world.client().await;
    let head = format!(
        "PUT /t/red/cocoon/v0/secrets/a/b/c HTTP/1.1\r\nhost: l\r\nauthorization: Bearer {token}\r\ncontent-length: 5\r\n\r\nva"
    );
    slow.send(head.as_bytes()).await.unwrap();
    // The tenant's router has the request once its log is open.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    done(&mut client, "DELETE", "/cocoon/v0/tenants/red", Value::Null).await;
    slow.send(b"lue").await.unwrap();
    let late = slow.receive().await.unwrap();
    assert_eq!((late.status, late.refusal().0), (503, "STORE-UNAVAILABLE"));
    let new = tenant(&mut client, "red", Value::Null).await;
    for list in ["secrets", "audit/entries", "explain"] {
        assert_eq!(
            ok(&mut client, &new, "GET", &format!("/t/red/cocoon/v0/{list}"), Value::Null).await,
            json!([])
        );
    }
    ok(&mut client, &new, "PUT", "/t/red/cocoon/v0/secrets/a/b/c", json!("v")).await;
    world.stop().await;
}

#[tokio::test]
async fn odd_names_are_no_tenants() {
    let world = World::with(|_| {}, Limits::default()).await;
    let mut client = world.client().await;
    let token = tenant(&mut client, "a", Value::Null).await;
    for name in
        ["A", "..", "%2e%2e", "%2e", "a%2fb", "a_b", "%20", "a.b", "%00", "%c3%a9", &"x".repeat(41), "a%00"]
    {
        let reply = admin(&mut client, "PUT", &format!("/cocoon/v0/tenants/{name}"), Value::Null).await;
        assert!((400..=404).contains(&reply.status), "{name}: {}", reply.status);
        for path in ["cocoon/v0/status", "kbs/v0/resource/a/b/c", "healthz"] {
            let reply =
                with_token(&mut client, &token, "GET", &format!("/t/{name}/{path}"), &Value::Null).await;
            assert!(matches!(reply.status, 400 | 404), "{name}: {}", reply.status);
        }
    }
    assert_eq!(read(&mut client, "/cocoon/v0/tenants").await.as_array().unwrap().len(), 1);
    for path in [
        "/t/a/../cocoon/v0/status",
        "/t/a/../../cocoon/v0/status",
        "/t/%61/cocoon/v0/status",
        "/t/a/t/a/cocoon/v0/status",
        "/t//cocoon/v0/status",
        "/t/a//cocoon/v0/status",
        "/t/a",
        "/t/a/",
        "/t/",
    ] {
        let reply = with_token(&mut client, &token, "GET", path, &Value::Null).await;
        assert_eq!(reply.status, 404, "{path}: {}", reply.text());
        assert_eq!(reply.code(), "USAGE-INVALID", "{path}");
    }
    let longest = "x".repeat(40);
    tenant(&mut client, &longest, json!({})).await;
    for bad in [json!({"secrets": -1}), json!({"secret": 1}), json!([]), json!("x")] {
        refused(&mut client, "PUT", "/cocoon/v0/tenants/b", bad, 400, "USAGE-INVALID").await;
    }
    world.stop().await;
}
