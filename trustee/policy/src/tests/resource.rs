//! Resource policies: the ones that come with Trustee, and the meaning of answers.

use serde_json::{Value, json};

use crate::{Compiled, Error, Kind, RESOURCE_SAMPLES, resource_sample};

fn ask(policy: &str, plugin: &str, input: &Value) -> Result<bool, Error> {
    let compiled = Compiled::new(Kind::Resource, policy).unwrap();
    compiled
        .resource(&json!({"plugin": plugin, "resource-path": ["a", "b", "c"], "query": {"x": "y"}}), input)
}

fn sample(name: &str, plugin: &str, input: &Value) -> bool {
    ask(resource_sample(name).unwrap(), plugin, input).unwrap()
}

fn token(status: &str, evidence: Value) -> Value {
    json!({"submods": {"cpu0": {"ear.status": status, "ear.veraison.annotated-evidence": evidence}}})
}

#[test]
fn samples_decide_as_they_say() {
    let good = token("affirming", json!({"snp": {}}));
    let bad = token("warning", json!({"snp": {}}));
    let sim = token("affirming", json!({"sample": {}}));
    let mut marked = good.clone();
    marked["submods"]["cpu0"]["ear.cocoon.simulated"] = json!(true);
    let mut marked_by_policy = good.clone();
    marked_by_policy["submods"]["cpu0"]["ear.trustee.simulated"] = json!(true);
    let mut two = good.clone();
    two["submods"]["gpu0"] = json!({"ear.status": "contraindicated"});
    let odd = [
        json!({}),
        json!({"submods": {}}),
        json!({"submods": ["affirming"]}),
        json!({"submods": {"cpu0": 1}}),
    ];

    assert!(sample("default", "resource", &good));
    assert!(!sample("default", "other", &good));
    for refused in [&bad, &sim, &marked, &marked_by_policy, &two].into_iter().chain(&odd) {
        assert!(!sample("default", "resource", refused), "{refused}");
    }
    for allowed in [&good, &sim, &marked] {
        assert!(sample("affirming", "resource", allowed));
    }
    for refused in [&bad, &two].into_iter().chain(&odd) {
        assert!(!sample("affirming", "resource", refused), "{refused}");
    }
    assert!(sample("allow_all", "resource", &json!({})));
    assert!(!sample("deny_all", "resource", &good));
    assert!(RESOURCE_SAMPLES.iter().all(|name| resource_sample(name).is_some()));
}

#[test]
fn the_data_document_is_seen() {
    let policy = r#"package policy
        default allow = false
        path := concat("/", data["resource-path"])
        allow if { data.plugin == "resource"; path == "a/b/c"; data.query.x == "y"; input.ok }"#;
    assert!(ask(policy, "resource", &json!({"ok": true})).unwrap());
    assert!(!ask(policy, "resource", &json!({"ok": false})).unwrap());
    assert!(!ask(policy, "sample", &json!({"ok": true})).unwrap());
}

#[test]
fn undefined_denies_and_other_answers_are_errors() {
    assert!(!ask("package policy\nallow if input.ok", "resource", &json!({})).unwrap());
    for answer in ["1", "\"true\"", "{}", "[true]", "null"] {
        let got = ask(&format!("package policy\nallow := {answer}"), "resource", &json!({}));
        assert!(matches!(got, Err(Error::Answer(_))), "{answer}: {got:?}");
    }
}

#[test]
fn data_cannot_hide_the_policy() {
    let compiled = Compiled::new(Kind::Resource, resource_sample("deny_all").unwrap()).unwrap();
    let got = compiled.resource(&json!({"policy": {"allow": true}}), &json!({}));
    assert!(matches!(got, Err(Error::Input(_))), "{got:?}");
    assert!(matches!(compiled.resource(&json!([]), &json!({})), Err(Error::Input(_))));
    let asks = compiled.attestation(&json!({}), &|_| Ok(None));
    assert!(matches!(asks, Err(Error::Failed(_))), "{asks:?}");
}
