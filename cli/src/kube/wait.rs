//! Waits until the pods of a workload are ready, by watching; a refusal ends it at once.

use std::collections::BTreeMap;
use std::time::Duration;

use cocoon_stage::{Code, Failure, Stage};
use cocoon_workload::{Document, INITDATA};
use futures_util::StreamExt as _;
use kube::core::WatchEvent;
use serde_json::Value;
use tokio::time::Instant;

use super::cluster::{Changes, Cluster};
use super::trouble::{Trouble, of_event, of_pod};
use crate::client::segment;
use crate::output::Output;

/// What is waited for.
pub struct Target<'a> {
    /// The object, as it was applied.
    pub document: &'a Document,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name: the server's, where it was made from the beginning of one.
    pub name: &'a str,
    /// The annotation that its pods have.
    pub initdata: &'a str,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub ready: usize,
    pub wanted: usize,
    /// Names of the pods that are ready.
    pub pods: Vec<String>,
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, pointer: &str) -> Option<usize> {
    value.pointer(pointer).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok())
}

impl Target<'_> {
    /// Which pods are its own; nothing for what makes no pods at once.
    fn selector(&self) -> Option<String> {
        match self.document.kind() {
            "CronJob" => None,
            "Pod" => Some(format!("fieldSelector=metadata.name%3D{}", segment(self.name))),
            "Job" => Some(format!("labelSelector=batch.kubernetes.io%2Fjob-name%3D{}", segment(self.name))),
            kind => {
                let of = if kind == "ReplicationController" {
                    "/spec/selector"
                } else {
                    "/spec/selector/matchLabels"
                };
                let labels = self.document.value.pointer(of).and_then(Value::as_object)?;
                let pairs: Vec<String> =
                    labels.iter().filter_map(|(k, v)| Some(format!("{k}={}", v.as_str()?))).collect();
                Some(format!("labelSelector={}", segment(&pairs.join(","))))
            }
        }
    }

    /// How many pods there are to be.
    async fn wanted(&self, cluster: &Cluster) -> Result<Option<usize>, Failure> {
        let value = &self.document.value;
        Ok(match self.document.kind() {
            "Pod" => Some(1),
            "Job" => {
                let parallelism = number(value, "/spec/parallelism").unwrap_or(1);
                Some(parallelism.min(number(value, "/spec/completions").unwrap_or(parallelism)))
            }
            "DaemonSet" => {
                // On how many nodes is the cluster's to say, once it has looked.
                let now = cluster.current(self.document).await?.unwrap_or_default();
                let seen = number(&now, "/status/observedGeneration") == number(&now, "/metadata/generation");
                number(&now, "/status/desiredNumberScheduled").filter(|n| seen && *n > 0)
            }
            _ => Some(number(value, "/spec/replicas").unwrap_or(1)),
        })
    }

    fn is_own(&self, pod: &Value) -> bool {
        let annotation =
            pod.pointer("/metadata/annotations").and_then(|a| a.get(INITDATA)).and_then(Value::as_str);
        annotation == Some(self.initdata) && pod.pointer("/metadata/deletionTimestamp").is_none()
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let ready =
        conditions.into_iter().flatten().any(|c| text(c, "/type") == "Ready" && text(c, "/status") == "True");
    ready || text(pod, "/status/phase") == "Succeeded"
}

/// The pods of a target as far as they are known, and what went wrong with them.
#[derive(Default)]
struct Seen {
    pods: BTreeMap<String, Value>,
    told: usize,
}

impl Seen {
    fn take(&mut self, pod: Value, there: bool) {
        let name = text(&pod, "/metadata/name").to_owned();
        if there {
            self.pods.insert(name, pod);
        } else {
            self.pods.remove(&name);
        }
    }

    fn ready(&self, target: &Target<'_>) -> Vec<String> {
        let ready = |(_, pod): &(&String, &Value)| target.is_own(pod) && is_ready(pod);
        self.pods.iter().filter(ready).map(|(name, _)| name.clone()).collect()
    }

    /// What will not get better by itself.
    fn trouble(&self, target: &Target<'_>) -> Option<(String, Trouble)> {
        let own = self.pods.iter().filter(|(_, pod)| target.is_own(pod));
        own.flat_map(|(name, pod)| of_pod(pod).into_iter().map(|t| (name.clone(), t)))
            .find(|(_, trouble)| trouble.is_final())
    }

    /// The same of an event.
    fn event(&self, event: &Value, target: &Target<'_>) -> Option<(String, Trouble)> {
        let name = text(event, "/involvedObject/name");
        let pod = self.pods.get(name).filter(|pod| target.is_own(pod))?;
        // A pod of this name that was there before is another.
        if text(event, "/involvedObject/uid") != text(pod, "/metadata/uid") {
            return None;
        }
        of_event(event).filter(Trouble::is_final).map(|trouble| (name.to_owned(), trouble))
    }
}

/// Waits until as many pods as there are to be are ready.
///
/// # Errors
/// The code with which a pod was refused; `CLUSTER-TIMEOUT` with what the cluster says of pods that are not ready.
pub async fn ready(
    cluster: &Cluster,
    target: &Target<'_>,
    until: Instant,
    output: Output,
) -> Result<Option<Ready>, Failure> {
    let Some(selector) = target.selector() else { return Ok(None) };
    let mut seen = Seen::default();
    let waited = tokio::time::timeout_at(until, follow(cluster, target, &selector, &mut seen, output)).await;
    match waited {
        Ok(result) => result.map(Some),
        Err(_) => {
            let mut why = format!("{}: {} pods are ready", target.document.label(), seen.ready(target).len());
            for (name, pod) in &seen.pods {
                for trouble in of_pod(pod) {
                    why.push_str(&format!("\n{name}: {}", trouble.words));
                }
            }
            Err(Failure::new(Code::ClusterTimeout, why))
        }
    }
}

async fn follow(
    cluster: &Cluster,
    target: &Target<'_>,
    selector: &str,
    seen: &mut Seen,
    output: Output,
) -> Result<Ready, Failure> {
    let place = format!("/api/v1/namespaces/{}", segment(target.namespace));
    let (pods, events) = (format!("{place}/pods"), format!("{place}/events"));
    const OF_PODS: &str = "fieldSelector=involvedObject.kind%3DPod";
    loop {
        let began = Instant::now();
        let list = cluster.get(&format!("{pods}?{selector}"), "pods").await?.unwrap_or_default();
        let version = text(&list, "/metadata/resourceVersion").to_owned();
        seen.pods.clear();
        for pod in list.get("items").and_then(Value::as_array).into_iter().flatten() {
            seen.take(pod.clone(), true);
        }
        let told = cluster.get(&format!("{events}?{OF_PODS}"), "events").await?.unwrap_or_default();
        for event in told.get("items").and_then(Value::as_array).into_iter().flatten() {
            if let Some((pod, trouble)) = seen.event(event, target) {
                return Err(refused(&pod, &trouble));
            }
        }
        let mut of_pods: Changes = cluster.watch(&pods, selector, &version).await?;
        let told_version = text(&told, "/metadata/resourceVersion");
        let mut of_events: Changes = cluster.watch(&events, OF_PODS, told_version).await?;
        loop {
            if let Some((pod, trouble)) = seen.trouble(target) {
                return Err(refused(&pod, &trouble));
            }
            let ready = seen.ready(target);
            let wanted = target.wanted(cluster).await?;
            if wanted.is_some_and(|wanted| ready.len() >= wanted) {
                return Ok(Ready { ready: ready.len(), wanted: wanted.unwrap_or_default(), pods: ready });
            }
            if ready.len() != seen.told {
                seen.told = ready.len();
                let of = wanted.map(|w| format!(" of {w}")).unwrap_or_default();
                output.progress(
                    Stage::Serve,
                    &format!("{}: {}{of} pods are ready", target.document.label(), ready.len()),
                );
            }
            let (change, about_pods) = tokio::select! {
                change = of_pods.next() => (change, true),
                change = of_events.next() => (change, false),
            };
            match change {
                Some(Ok(WatchEvent::Added(value) | WatchEvent::Modified(value))) if about_pods => {
                    seen.take(value, true)
                }
                Some(Ok(WatchEvent::Deleted(value))) if about_pods => seen.take(value, false),
                Some(Ok(WatchEvent::Added(value) | WatchEvent::Modified(value))) => {
                    if let Some((pod, trouble)) = seen.event(&value, target) {
                        return Err(refused(&pod, &trouble));
                    }
                }
                Some(Ok(WatchEvent::Deleted(_) | WatchEvent::Bookmark(_))) => {}
                // The server ended it, or no longer knows the version: everything is asked anew.
                Some(Ok(WatchEvent::Error(_)) | Err(_)) | None => break,
            }
        }
        // A server that ends every watch at once is not asked without end.
        tokio::time::sleep_until(began + Duration::from_secs(1)).await;
    }
}

fn refused(pod: &str, trouble: &Trouble) -> Failure {
    let of = trouble.container.as_ref().map(|c| format!(", container {c}")).unwrap_or_default();
    let code = trouble.code.unwrap_or(Code::ClusterTimeout);
    Failure::new(code, format!("pod {pod}{of}: {}", trouble.words))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(value: Value) -> Document {
        Document { value }
    }

    #[test]
    fn pods_are_found_by_what_owns_them() {
        let of = |value: Value| {
            let document = document(value);
            Target { document: &document, namespace: "n", name: "x", initdata: "i" }.selector()
        };
        let deployment =
            json!({"kind": "Deployment", "spec": {"selector": {"matchLabels": {"app": "web", "a/b": "c"}}}});
        assert_eq!(of(deployment).as_deref(), Some("labelSelector=app%3Dweb%2Ca%2Fb%3Dc"));
        assert_eq!(of(json!({"kind": "Pod"})).as_deref(), Some("fieldSelector=metadata.name%3Dx"));
        assert_eq!(
            of(json!({"kind": "Job"})).as_deref(),
            Some("labelSelector=batch.kubernetes.io%2Fjob-name%3Dx")
        );
        assert_eq!(of(json!({"kind": "CronJob"})), None);
    }

    #[test]
    fn only_pods_with_this_plan_count() {
        let document = document(json!({"kind": "Deployment"}));
        let target = Target { document: &document, namespace: "n", name: "x", initdata: "mine" };
        let pod = |name: &str, initdata: &str, ready: &str| {
            json!({"metadata": {"name": name, "uid": name, "annotations": {"dev.cocoon.initdata": initdata}},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}})
        };
        let mut seen = Seen::default();
        seen.take(pod("a", "mine", "True"), true);
        seen.take(pod("b", "old", "True"), true);
        seen.take(pod("c", "mine", "False"), true);
        assert_eq!(seen.ready(&target), ["a"]);
        let event = |uid: &str| {
            json!({"type": "Warning", "reason": "Failed", "message": "PLAN-REQUEST-REFUSED: x",
                "involvedObject": {"name": "c", "uid": uid}})
        };
        assert!(seen.event(&event("c"), &target).is_some());
        assert!(seen.event(&event("another"), &target).is_none());
        seen.take(pod("c", "mine", "False"), false);
        assert!(seen.event(&event("c"), &target).is_none());
    }
}
