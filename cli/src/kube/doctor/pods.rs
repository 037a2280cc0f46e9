//! Confidential pods in trouble, and warnings of Cocoon's parts.

use serde_json::Value;

use super::super::cluster::Cluster;
use super::super::pods::{all, at};
use super::super::trouble::{code_in, of_pod};
use super::findings::Findings;

/// So many of each are named.
const NAMED: usize = 5;

pub async fn look(cluster: &Cluster, findings: &mut Findings) {
    match all(cluster, None).await {
        Ok(pods) => {
            let own: Vec<_> = pods.iter().filter(|p| p.is_ours()).collect();
            let mut count = 0;
            for pod in &own {
                let Some(trouble) = of_pod(&pod.value).into_iter().next() else { continue };
                count += 1;
                if count <= NAMED {
                    let next = format!("cocoon explain pod/{} -n {}", pod.name, pod.namespace);
                    findings.warn(
                        &format!("pod {}", pod.label()),
                        &trouble.words,
                        &super::super::pods::plain(&next),
                    );
                }
            }
            let words = format!("{} confidential, {count} in trouble", own.len());
            match count {
                0 => findings.ok("pods", words),
                _ => findings.warn("pods", words, "cocoon status -A lists all"),
            }
        }
        Err(failure) => findings.unknown("pods", &failure),
    }
    match cluster.get("/api/v1/events?fieldSelector=type%3DWarning&limit=500", "events").await {
        Ok(list) => events(&list.unwrap_or_default(), findings),
        Err(failure) => findings.unknown("events", &failure),
    }
}

/// Warnings of Cocoon's own objects, and those that name a code of ours and are not a pod's (a pod's are told with it).
fn events(list: &Value, findings: &mut Findings) {
    let all = list.get("items").and_then(Value::as_array).into_iter().flatten();
    let ours = |event: &&Value| match at(event, "/involvedObject/kind") {
        "CocoonRuntime" | "CocoonNode" | "Trustee" => true,
        "Pod" => at(event, "/involvedObject/namespace") == cocoon_cluster_api::NAMESPACE,
        _ => code_in(at(event, "/message")).is_some(),
    };
    let mut own: Vec<&Value> = all.filter(ours).collect();
    own.sort_by_key(|e| std::cmp::Reverse(at(e, "/lastTimestamp").to_owned()));
    if own.is_empty() {
        findings.ok("events", "no warnings of Cocoon's parts");
    }
    for event in own.into_iter().take(NAMED) {
        let about = format!("{} {}", at(event, "/involvedObject/kind"), at(event, "/involvedObject/name"));
        let code = code_in(at(event, "/message"));
        let next = code.map_or("kubectl describe it", cocoon_stage::Code::next_step);
        findings.warn(&about, format!("{}: {}", at(event, "/reason"), at(event, "/message")), next);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::findings::State;
    use super::*;

    #[test]
    fn events_of_others_are_not_ours() {
        let event = |kind: &str, namespace: &str, message: &str| json!({"involvedObject": {"kind": kind, "name": "x", "namespace": namespace}, "message": message});
        let list = json!({"items": [
            event("Pod", "default", "Back-off"), event("Node", "", "rebooted"), event("Pod", "cocoon-system", "OOM"),
            event("CocoonNode", "", "drift"), event("DaemonSet", "x", "NODE-BUSY"),
        ]});
        let mut findings = Findings::default();
        events(&list, &mut findings);
        assert_eq!(findings.states().len(), 3);
        assert!(findings.states().iter().all(|(_, state)| *state == State::Warn));
        let mut none = Findings::default();
        events(&json!({"items": 7}), &mut none);
        assert_eq!(none.states(), [("events", State::Ok)]);
    }
}
