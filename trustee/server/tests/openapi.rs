//! The API does what its document says: every operation is called, and every answer held against its schema.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;

use cocoon_protocol::b64;
use serde_json::{Value, json};
use support::*;

/// A JSON Schema validator for what the document uses. What it does not know is an error, not a pass.
struct Validator<'d>(&'d Value);

impl Validator<'_> {
    fn check(&self, schema: &Value, value: &Value, at: &str) {
        let members = schema.as_object().unwrap_or_else(|| panic!("{at}: a schema is an object"));
        for (keyword, rule) in members {
            match keyword.as_str() {
                "description" | "format" | "maxLength" => {}
                "$ref" => {
                    let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                    self.check(self.0.pointer(pointer).unwrap(), value, at);
                }
                "type" => {
                    let kinds: Vec<&str> = match rule {
                        Value::String(kind) => vec![kind],
                        kinds => kinds.as_array().unwrap().iter().map(|k| k.as_str().unwrap()).collect(),
                    };
                    assert!(kinds.iter().any(|kind| is(kind, value)), "{at}: {value} is not {kinds:?}");
                }
                "enum" => assert!(rule.as_array().unwrap().contains(value), "{at}: {value} is not of {rule}"),
                "minimum" => {
                    if let Some(number) = value.as_i64() {
                        assert!(number >= rule.as_i64().unwrap(), "{at}: {number}");
                    }
                }
                "required" => {
                    let Some(object) = value.as_object() else { continue };
                    for name in rule.as_array().unwrap() {
                        assert!(
                            object.contains_key(name.as_str().unwrap()),
                            "{at}: {name} is missing in {value}"
                        );
                    }
                }
                "properties" => {
                    let (Some(object), rules) = (value.as_object(), rule.as_object().unwrap()) else {
                        continue;
                    };
                    for (name, member) in object {
                        let place = format!("{at}.{name}");
                        match (rules.get(name), members.get("additionalProperties")) {
                            (Some(rule), _) => self.check(rule, member, &place),
                            (None, Some(Value::Bool(true))) => {}
                            (None, Some(other)) if other.is_object() => {}
                            // Stricter than the standard: what is answered must be described.
                            (None, _) => panic!("{place} is not described"),
                        }
                    }
                }
                "additionalProperties" => {
                    let known = members.get("properties").and_then(Value::as_object);
                    for (name, member) in value.as_object().into_iter().flatten() {
                        if rule.is_object() && !known.is_some_and(|k| k.contains_key(name)) {
                            self.check(rule, member, &format!("{at}.{name}"));
                        }
                    }
                }
                "items" => {
                    for (place, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(rule, item, &format!("{at}[{place}]"));
                    }
                }
                other => panic!("{at}: this validator does not know {other}"),
            }
        }
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{other} is no type"),
    }
}

#[test]
fn the_validator_finds_what_is_wrong() {
    let document = json!({"x": {"type": "integer", "minimum": 0}});
    let schema = json!({"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#/x"}, "b": {"type": ["string", "null"]}}});
    let fails =
        |value: Value| std::panic::catch_unwind(|| Validator(&document).check(&schema, &value, "")).is_err();
    assert!(!fails(json!({"a": 1})) && !fails(json!({"a": 0, "b": null})));
    for bad in [
        json!([]),
        json!({}),
        json!({"a": "1"}),
        json!({"a": -1}),
        json!({"a": 1, "b": 1}),
        json!({"a": 1, "c": 1}),
    ] {
        assert!(fails(bad.clone()), "{bad}");
    }
}

#[tokio::test]
async fn the_served_document_is_the_checked_in_one() {
    let world = World::new().await;
    let mut client = world.client().await;
    let served = client.request("GET", "/cocoon/v0/openapi.json", &[], b"").await;
    assert_eq!((served.status, served.header("content-type")), (200, Some("application/json")));
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let kept: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(served.json() == kept, "the unit test admin::openapi with COCOON_BLESS=1 writes it anew");
    world.stop().await;
}

#[tokio::test]
async fn every_operation_answers_as_described() {
    let world = World::new().await;
    let mut client = world.client().await;
    let document = client.request("GET", "/cocoon/v0/openapi.json", &[], b"").await.json();
    let plan = init_data("a");
    let digest = hex::encode(plan.digest());
    let workload = format!("/cocoon/v0/workloads/{digest}");
    let sample = json!({"type": "sample", "payload": b64::std_encode(b"{\"x\": [1], \"single\": 2}")});
    let policy = "package policy\ntrust_claims := {\"executables\": 3, \"hardware\": 2}";
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = key.public_key_pem();
    let end = cocoon_trustee::system_clock()() + 600;
    let mut asked = BTreeSet::new();

    // A verdict of each kind first.
    let mut guest = world.guest(Some(plan)).await;
    let token = guest.attest(&world).await.unwrap();
    let denied = guest.get(&token, "a/b/c").await;
    let id = denied.header("x-request-id").unwrap().to_owned();
    let report =
        serde_json::to_vec(&cocoon_stage::Failure::new(cocoon_stage::Code::ImagePullFailed, "x")).unwrap();
    let bearer = format!("Bearer {token}");
    guest.client.request("POST", "/cocoon/v0/report", &[("authorization", &bearer)], &report).await;

    // Method, path, template, body.
    let text = |text: &str| text.as_bytes().to_vec();
    let of = |value: Value| value.to_string().into_bytes();
    let none = Vec::new;
    let calls: Vec<(&str, String, &str, Vec<u8>)> = vec![
        ("GET", "/status".into(), "/status", none()),
        (
            "PUT",
            workload[10..].into(),
            "/workloads/{digest}",
            of(
                json!({"name": "web", "secrets": {"o/w/n": "AA=="}, "allow": ["a/b/c"], "accept_simulated": true, "expires_unix": end}),
            ),
        ),
        ("GET", workload[10..].into(), "/workloads/{digest}", none()),
        ("GET", "/workloads".into(), "/workloads", none()),
        (
            "PUT",
            "/rules/one".into(),
            "/rules/{id}",
            of(
                json!({"workload": "any", "path": "a/b/*", "min_status": "warning", "accept_simulated": true, "expires_unix": end, "note": "n"}),
            ),
        ),
        ("PUT", "/rules/two".into(), "/rules/{id}", of(json!({"workload": "name:web", "path": "a/b/c"}))),
        ("GET", "/rules/one".into(), "/rules/{id}", none()),
        ("GET", "/rules".into(), "/rules", none()),
        ("PUT", "/secrets/a/b/c".into(), "/secrets/{repository}/{type}/{tag}", text("value")),
        ("GET", "/secrets".into(), "/secrets", none()),
        ("PUT", "/policies/default_cpu".into(), "/policies/{id}", of(json!({"policy": policy, "note": "n"}))),
        ("GET", "/policies/default_cpu".into(), "/policies/{id}", none()),
        ("GET", "/policies".into(), "/policies", none()),
        ("GET", "/policies/default_cpu/history".into(), "/policies/{id}/history", none()),
        (
            "POST",
            "/policies/default_cpu/activate".into(),
            "/policies/{id}/activate",
            of(json!({"version": 1})),
        ),
        (
            "POST",
            "/policies/default_cpu/dry-run".into(),
            "/policies/{id}/dry-run",
            of(json!({"policy": policy})),
        ),
        (
            "POST",
            "/policies/resource-policy/dry-run".into(),
            "/policies/{id}/dry-run",
            of(json!({"policy": "package policy\ndefault allow := true"})),
        ),
        (
            "POST",
            "/policies/resource-policy/dry-run?limit=1".into(),
            "/policies/{id}/dry-run",
            of(json!({"policy": "package policy\nallow := 7"})),
        ),
        ("GET", "/policy-defaults".into(), "/policy-defaults", none()),
        (
            "PUT",
            "/reference-values".into(),
            "/reference-values",
            of(json!({"source": "s", "values": {"y": [1, "z"]}, "expires_unix": end})),
        ),
        (
            "POST",
            "/reference-values/preview".into(),
            "/reference-values/preview",
            of(json!({"message": sample, "unsigned": true, "set": "s"})),
        ),
        (
            "POST",
            "/reference-values/import".into(),
            "/reference-values/import",
            of(json!({"message": sample, "unsigned": true, "set": "s", "expires_unix": end})),
        ),
        ("GET", "/reference-values".into(), "/reference-values", none()),
        ("GET", "/reference-sets".into(), "/reference-sets", none()),
        ("GET", "/reference-sets/s".into(), "/reference-sets/{name}", none()),
        ("PUT", "/trust-anchors/k".into(), "/trust-anchors/{id}", text(&pem)),
        ("GET", "/trust-anchors".into(), "/trust-anchors", none()),
        ("GET", "/explain?limit=100".into(), "/explain", none()),
        ("GET", format!("/explain/{id}"), "/explain/{id}", none()),
        ("GET", "/audit/head".into(), "/audit/head", none()),
        ("GET", "/audit/key".into(), "/audit/key", none()),
        ("GET", "/audit/entries?limit=1000".into(), "/audit/entries", none()),
        ("GET", "/audit/proof/inclusion/0".into(), "/audit/proof/inclusion/{index}", none()),
        ("GET", "/audit/proof/consistency/1/3".into(), "/audit/proof/consistency/{from}/{to}", none()),
        ("PUT", "/tenants/red".into(), "/tenants/{name}", of(json!({"secrets": 1}))),
        ("PUT", "/tenants/red".into(), "/tenants/{name}", of(json!({}))),
        ("GET", "/tenants".into(), "/tenants", none()),
        ("POST", "/tenants/red/token".into(), "/tenants/{name}/token", none()),
        ("DELETE", "/tenants/red".into(), "/tenants/{name}", none()),
        ("POST", "/backup".into(), "/backup", none()),
        ("POST", "/token-key/rotate".into(), "/token-key/rotate", none()),
        ("DELETE", "/trust-anchors/k".into(), "/trust-anchors/{id}", none()),
        ("DELETE", "/reference-sets/s".into(), "/reference-sets/{name}", none()),
        ("DELETE", "/reference-values/y".into(), "/reference-values/{name}", none()),
        ("DELETE", "/policies/default_cpu".into(), "/policies/{id}", none()),
        ("DELETE", "/secrets/a/b/c".into(), "/secrets/{repository}/{type}/{tag}", none()),
        ("DELETE", "/rules/one".into(), "/rules/{id}", none()),
        ("DELETE", workload[10..].into(), "/workloads/{digest}", none()),
    ];
    let validator = Validator(&document);
    for (method, path, template, body) in calls {
        let described = &document["paths"][format!("/cocoon/v0{template}")][method.to_ascii_lowercase()];
        assert!(described.is_object(), "{method} {template} is not described");
        asked.insert(format!("{method} /cocoon/v0{template}"));
        // What is sent is what the document says, too.
        if let Some(content) = described.pointer("/requestBody/content/application~1json") {
            let sent: Value = serde_json::from_slice(&body).unwrap();
            validator.check(&content["schema"], &sent, &format!("body of {method} {path}"));
        }
        for pair in path.split_once('?').into_iter().flat_map(|(_, query)| query.split('&')) {
            let name = pair.split('=').next().unwrap();
            let parameters = described["parameters"].as_array().unwrap();
            assert!(parameters.iter().any(|p| p["in"] == "query" && p["name"] == name), "{path}");
        }
        let reply = client.admin(method, &format!("/cocoon/v0{path}"), &body).await;
        assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text());
        match described.pointer("/responses/200/content") {
            None => assert!(reply.body.is_empty(), "{method} {path}: {}", reply.text()),
            Some(content) => {
                let kind = reply.header("content-type").unwrap();
                if kind == "application/octet-stream" {
                    assert!(content.get(kind).is_some(), "{method} {path}");
                    let whole = cocoon_store::verify_backup(&mut std::io::Cursor::new(&reply.body), None);
                    assert!(whole.unwrap().records > 0);
                } else {
                    validator.check(&content[kind]["schema"], &reply.json(), &format!("{method} {path}"));
                }
            }
        }
        // Without credentials it is refused as described.
        let refusal = client.request(method, &format!("/cocoon/v0{path}"), &[], &body).await;
        assert_eq!(refusal.status, 401, "{method} {path}");
        let schema = &described["responses"]["401"]["content"]["application/json"]["schema"];
        validator.check(schema, &refusal.json(), &format!("401 of {method} {path}"));
    }
    let described: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |m| format!("{} {path}", m.to_ascii_uppercase()))
        })
        .collect();
    assert_eq!(asked, described, "every operation was called");
    world.stop().await;
}
