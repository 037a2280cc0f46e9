//! Clusters that are well, and such as are not.

use serde_json::json;

use super::super::findings::State;
use super::*;

fn found(look: impl FnOnce(&mut Findings)) -> Vec<(String, State)> {
    let mut findings = Findings::default();
    look(&mut findings);
    findings.states().into_iter().map(|(about, state)| (about.to_owned(), state)).collect()
}

fn node(name: &str, labels: Value, ready: &str) -> Value {
    json!({"metadata": {"name": name, "labels": labels}, "status": {"conditions": [{"type": "Ready", "status": ready}],
        "allocatable": {SLOTS: "7"}}})
}

#[test]
fn runtimes_say_what_is_wrong() {
    let runtime = |ready: &str, degraded: &str, seen: i64| {
        json!({"items": [{"metadata": {"name": "a", "generation": 2}, "status": {"observedGeneration": seen, "classes": ["cocoon"],
            "conditions": [{"type": "Ready", "status": ready}, {"type": "Degraded", "status": degraded}]}}]})
    };
    let states = |list: Value| -> Vec<State> {
        found(|f| drop(runtimes(&list, f))).into_iter().map(|(_, state)| state).collect()
    };
    assert_eq!(states(runtime("True", "False", 2)), [State::Ok]);
    assert_eq!(states(runtime("True", "False", 1)), [State::Ok, State::Warn]);
    assert_eq!(states(runtime("False", "False", 2)), [State::Fail]);
    assert_eq!(states(runtime("True", "True", 2)), [State::Fail]);
    assert_eq!(states(json!({"items": []})), [State::Fail]);
    assert_eq!(states(json!({"items": "nonsense"})), [State::Fail]);
    assert_eq!(states(json!({"items": [{}]})), [State::Fail]);
    let mut findings = Findings::default();
    assert_eq!(runtimes(&runtime("True", "False", 2), &mut findings), ["cocoon".to_owned()].into());
}

#[test]
fn classes_need_nodes_and_overhead() {
    let class = |name: &str, key: &str, overhead: Value| json!({"metadata": {"name": name}, "handler": "cocoon-sim", "scheduling": {"nodeSelector": {key: "true"}}, "overhead": overhead});
    let nodes = json!({"items": [node("n", json!({"cocoon.dev/class.cocoon-sim": "true"}), "True")]});
    let good = json!({"podFixed": {"memory": "640Mi"}});
    let state = |class: Value, expected: &[&str]| -> Vec<State> {
        let expected = expected.iter().map(|n| (*n).to_owned()).collect();
        let states = found(|f| runtime_classes(&json!({"items": [class]}), &nodes, &expected, f));
        states.into_iter().map(|(_, state)| state).collect()
    };
    let key = "cocoon.dev/class.cocoon-sim";
    assert_eq!(state(class("a", key, good.clone()), &["a"]), [State::Ok]);
    assert_eq!(state(class("a", "other", good.clone()), &[]), [State::Warn]);
    assert_eq!(state(class("a", key, Value::Null), &[]), [State::Warn]);
    assert_eq!(state(class("a", key, good), &["a", "b"]), [State::Fail, State::Ok]);
    assert_eq!(state(json!({"metadata": {"name": "runc"}, "handler": "runc"}), &[]), [State::Fail]);
}

#[test]
fn nodes_without_tees_are_said_to_be_such() {
    let sim = node("a", json!({"cocoon.dev/platform.sim": "true"}), "True");
    let snp = node("b", json!({"cocoon.dev/platform.snp": "true"}), "False");
    let of = |nodes: Value| found(|f| tees(&json!({ "items": nodes }), f));
    assert_eq!(of(json!([sim])), [("TEEs".to_owned(), State::Warn)]);
    assert_eq!(of(json!([sim, snp])), [("TEEs".to_owned(), State::Ok), ("nodes".to_owned(), State::Fail)]);
    let phase = |phase: &str| {
        found(|f| {
            cocoon_nodes(&json!({"items": [{"metadata": {"name": "n"}, "status": {"phase": phase}}]}), f)
        })
    };
    assert_eq!(phase("Ready"), [("nodes of Cocoon".to_owned(), State::Ok)]);
    assert_eq!(phase("Failed"), [("node n".to_owned(), State::Fail)]);
    assert_eq!(phase("\u{1b}[31m"), [("node n".to_owned(), State::Warn)]);
}

#[test]
fn webhooks_of_others_are_noticed_where_they_reach_pods() {
    let webhook =
        |groups: Value, resources: Value| json!({"rules": [{"apiGroups": groups, "resources": resources}]});
    assert!(of_pods(&webhook(json!([""]), json!(["pods"]))));
    assert!(of_pods(&webhook(json!(["*"]), json!(["*"]))));
    assert!(!of_pods(&webhook(json!(["apps"]), json!(["*"]))));
    assert!(!of_pods(&webhook(json!([""]), json!(["configmaps"]))));
    assert!(!of_pods(&json!({"rules": 7})));
}
