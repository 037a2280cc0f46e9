//! `cocoon plan explain` and `cocoon explain pod/NAME`: what a guest enforces, and why a pod does not run.

use cocoon_stage::{Code, Failure};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::compile::Compilation;
use super::manifests;
use super::trouble::{Trouble, of_event, of_pod};
use crate::admin::{say, usage};
use crate::args::{ClusterArgs, PlanExplainArgs};
use crate::client::segment;
use crate::output::Output;

/// Says of manifests what the guest will enforce. Exit status 1 where one of them becomes no plan.
pub async fn explain_plan(args: PlanExplainArgs) -> Result<u8, Failure> {
    let output = Output { json: args.json, quiet: true };
    let documents = manifests::documents(&args.compile.manifests)?;
    let cluster = Cluster::open(&args.compile.cluster).await.ok();
    let again = documents.clone();
    let prepared =
        Compilation::prepare(&args.compile, documents, cluster.as_ref(), !args.offline, output).await;
    let compilation = match prepared {
        // Nothing here depends on a cluster that does not answer.
        Err(failure) if matches!(failure.code, Code::ClusterUnreachable | Code::ClusterRefused) => {
            Compilation::prepare(&args.compile, again, None, !args.offline, output).await?
        }
        prepared => prepared?,
    };
    let (workloads, passed, coco) = compilation.examine();
    let mut status = 0;
    let mut told = Vec::new();
    for (_, workload) in &workloads {
        let wrong = workload.plan().err();
        status |= u8::from(wrong.is_some());
        if args.json {
            told.push(json!({
                "workload": workload.label, "namespace": workload.namespace, "decisions": workload.decisions,
                "problems": workload.problems, "code": wrong.as_ref().map(|e| e.code()),
            }));
            continue;
        }
        say(workload.explain().trim_end());
        if let Some(error @ cocoon_workload::Error::Plan { .. }) = &wrong {
            say(&format!("  wrong    {error}"));
        }
    }
    if args.json {
        say(&json!({"workloads": told, "others": passed, "coco": coco}).to_string());
        return Ok(status);
    }
    for label in coco {
        say(&format!("{label}\n  brings a policy of CoCo's own, and is left as it is."));
    }
    if passed > 0 {
        say(&format!("{passed} other objects go to the cluster as they are."));
    }
    Ok(status)
}

/// Whether an argument of `explain` names a pod, and which: `pod/NAME`; to kubectl's plugin also `NAME`, as to kubectl, unless it
/// has the form of a request's id (24 hexadecimal digits). Anything else is a request's id.
pub fn is_pod(argument: &str, plugin: bool) -> Option<&str> {
    let named = ["pod/", "pods/", "po/"].into_iter().find_map(|prefix| argument.strip_prefix(prefix));
    let is_request = argument.len() == 24 && argument.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    named.or_else(|| (plugin && !is_request).then_some(argument))
}

/// Says why a pod does not run: the code in what the cluster has of it, with its entry in the catalogue.
pub async fn explain_pod(name: &str, args: &ClusterArgs, as_json: bool) -> Result<u8, Failure> {
    let cluster = Cluster::open(args).await?;
    let place = format!("/api/v1/namespaces/{}", segment(cluster.namespace()));
    let pod = cluster.get(&format!("{place}/pods/{}", segment(name)), &format!("pod {name}")).await?;
    let Some(pod) = pod else {
        return Err(usage(format!("there is no pod {name} in namespace {}", cluster.namespace())));
    };
    let query = format!("fieldSelector=involvedObject.kind%3DPod%2CinvolvedObject.name%3D{}", segment(name));
    let events = cluster.get(&format!("{place}/events?{query}"), "events").await?.unwrap_or_default();
    let uid = pod.pointer("/metadata/uid");
    let own = events
        .get("items")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|e| e.pointer("/involvedObject/uid") == uid);
    let mut troubles = of_pod(&pod);
    for trouble in own.filter_map(of_event) {
        if !troubles.iter().any(|t| t.code == trouble.code && t.container == trouble.container) {
            troubles.push(trouble);
        }
    }
    // A container's state and its last one, and a pod's events, tell the same refusal over and over.
    let mut seen = std::collections::BTreeSet::new();
    troubles.retain(|t| t.code.is_none_or(|code| seen.insert((code.as_str(), t.container.clone()))));
    // What has a code says more than what has none.
    troubles.sort_by_key(|t| t.code.is_none());
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or("Unknown");
    if as_json {
        let told: Vec<Value> = troubles.iter().map(entry).collect();
        say(&json!({"pod": name, "namespace": cluster.namespace(), "phase": phase, "troubles": told})
            .to_string());
    } else {
        say(&format!("pod {}/{name} is {phase}", cluster.namespace()));
        match troubles.is_empty() {
            true => say("  the cluster says of nothing that went wrong"),
            false => troubles.iter().for_each(|trouble| tell(name, trouble)),
        }
    }
    Ok(u8::from(!troubles.is_empty()))
}

/// The request that a text of ours names, `request ID`.
fn request(words: &str) -> Option<&str> {
    let (_, rest) = words.split_once("request ")?;
    let end = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
    rest.get(..end).filter(|id| id.len() == 24)
}

fn entry(trouble: &Trouble) -> Value {
    json!({
        "container": trouble.container, "code": trouble.code, "words": trouble.words,
        "stage": trouble.code.map(|c| c.stage().to_string()),
        "what": trouble.code.map(Code::summary), "next": trouble.code.map(Code::next_step),
        "request": request(&trouble.words),
    })
}

fn tell(pod: &str, trouble: &Trouble) {
    let of = trouble.container.as_deref().map(|c| format!("container {c}: ")).unwrap_or_default();
    match trouble.code {
        None => say(&format!("  {of}{}", trouble.words)),
        Some(code) => {
            say(&format!("  {of}{code} ({})", code.stage()));
            say(&format!("    what:   {}", code.summary()));
            say(&format!("    words:  {}", trouble.words));
            say(&format!("    next:   {}", code.next_step()));
            match request(&trouble.words) {
                Some(id) => say(&format!(
                    "    more:   cocoon explain {id} --trustee URL shows Trustee's tree of checks"
                )),
                None => say(&format!("    more:   kubectl describe pod {pod}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_and_requests_are_told_apart() {
        for plugin in [false, true] {
            assert_eq!(is_pod("pod/0123456789abcdef01234567", plugin), Some("0123456789abcdef01234567"));
            assert_eq!(is_pod("po/a", plugin), Some("a"));
            assert_eq!(is_pod("0123456789abcdef01234567", plugin), None);
        }
        assert_eq!(is_pod("web-5d9c-x", true), Some("web-5d9c-x"));
        assert_eq!(is_pod("web-5d9c-x", false), None);
        let words = "RELEASE-DENIED at fetch (request 0123456789abcdef01234567)";
        assert_eq!(request(words), Some("0123456789abcdef01234567"));
        assert_eq!(request("request 12"), None);
    }
}
