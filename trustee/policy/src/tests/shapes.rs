//! Policies as third parties write them, and what answers mean.

use serde_json::json;

use super::from;
use crate::{Compiled, Error, Kind, dry_run};

fn attest(policy: &str, input: serde_json::Value) -> Result<crate::AttestationOutcome, Error> {
    Compiled::new(Kind::Attestation, policy)?.attestation(&input, &from(&json!({"digests": ["a", "b"]})))
}

#[test]
fn with_the_import() {
    let policy = r#"
package policy

import rego.v1

default executables := 33

default hardware := 97

executables := 3 if {
    some digest in query_reference_value("digests")
    lower(input.snp.measurement) == digest
}

hardware := 2 if {
    every name in ["a", "b"] { input.snp[name] >= to_number("3") }
}

trust_claims := {"executables": executables, "hardware": hardware}
"#;
    let outcome = attest(policy, json!({"snp": {"measurement": "B", "a": 3, "b": 4}})).unwrap();
    assert_eq!((outcome.vector.executables, outcome.vector.hardware), (3, 2));
    assert_eq!(outcome.trace.asked.len(), 1);
    let outcome = attest(policy, json!({"snp": {"measurement": "c", "a": 3, "b": 2}})).unwrap();
    assert_eq!((outcome.vector.executables, outcome.vector.hardware), (33, 97));
}

#[test]
fn without_the_import() {
    let policy = r#"package policy
default hardware = 97
hardware = 2 if { startswith(sprintf("%v-%s", [input.tdx.n, "x"]), "7-"); regex.match(`^[a-f]+$`, input.tdx.h) }
trust_claims["hardware"] := hardware
extensions := [{"name": "ear.example", "key": -70000, "value": {"tee": "tdx", "list": [1, 2.5, null]}}]"#;
    let outcome = attest(policy, json!({"tdx": {"n": 7, "h": "abc"}})).unwrap();
    assert_eq!(outcome.vector.hardware, 2);
    assert_eq!(outcome.extensions["ear.example"], json!({"tee": "tdx", "list": [1, 2.5, null]}));
}

#[test]
fn a_rule_without_a_value_claims_nothing() {
    let outcome = attest("package policy\ntrust_claims := {\"hardware\": 2} if input.x", json!({})).unwrap();
    assert_eq!(outcome.vector, cocoon_protocol::token::TrustVector::default());
}

#[test]
fn meaningless_claims_are_errors() {
    for claims in [
        r#"{"hardwear": 2}"#,
        r#"{"hardware": 128}"#,
        r#"{"hardware": -129}"#,
        r#"{"hardware": 2.5}"#,
        r#"{"hardware": "2"}"#,
        r#"{"hardware": 18446744073709551618}"#,
        r#"{1: 2}"#,
        "{}",
        "[]",
        "7",
    ] {
        let got = attest(&format!("package policy\ntrust_claims := {claims}"), json!({}));
        assert!(matches!(got, Err(Error::Answer(_))), "{claims}: {got:?}");
    }
}

#[test]
fn meaningless_extensions_are_errors() {
    for list in [
        r#"{"name": "a", "key": 1, "value": 1}"#,
        r#"[{"name": "a", "key": 1}]"#,
        r#"[{"name": "a", "key": "1", "value": 1}]"#,
        r#"[{"key": 1, "value": 1}]"#,
        r#"[{"name": "ear.status", "key": 1, "value": "affirming"}]"#,
        r#"[{"name": "ear.cocoon.simulated", "key": 1, "value": false}]"#,
        r#"[{"name": "a", "key": 1, "value": 1}, {"name": "a", "key": 1, "value": 2}]"#,
        r#"[{"name": "", "key": 1, "value": 1}]"#,
    ] {
        let policy = format!("package policy\ntrust_claims := {{\"hardware\": 2}}\nextensions := {list}");
        let got = attest(&policy, json!({}));
        assert!(matches!(got, Err(Error::Answer(_))), "{list}: {got:?}");
    }
}

#[test]
fn a_reference_value_that_cannot_be_looked_up_is_an_error() {
    let policy = "package policy\ntrust_claims := {\"hardware\": 2} if not query_reference_value(\"x\")";
    let compiled = Compiled::new(Kind::Attestation, policy).unwrap();
    let got = compiled.attestation(&json!({}), &|_| Err("the database is gone".into()));
    assert!(matches!(&got, Err(Error::Reference { id, .. }) if id == "x"), "{got:?}");
}

#[test]
fn a_dry_run_goes_on_after_a_failure() {
    let policy = "package policy\ntrust_claims := {\"hardware\": input.n}";
    let compiled = Compiled::new(Kind::Attestation, policy).unwrap();
    let inputs = [
        ("good".to_owned(), json!({"n": 2})),
        ("bad".to_owned(), json!({"n": 999})),
        ("none".to_owned(), json!({})),
    ];
    let runs = dry_run(&compiled, &inputs, &from(&json!({})));
    assert_eq!(runs.iter().map(|run| run.label.as_str()).collect::<Vec<_>>(), ["good", "bad", "none"]);
    assert_eq!(runs[0].outcome.as_ref().unwrap().vector.hardware, 2);
    assert!(matches!(runs[1].outcome, Err(Error::Answer(_))));
    assert_eq!(runs[2].outcome.as_ref().unwrap().vector.hardware, 0);
}
