//! Nodes that do not answer in time, and what is known of why.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cocoon_cluster_api::{ASKED_ANNOTATION, CANARY_LABEL, CocoonNode, REVISION_LABEL};
use k8s_openapi::api::core::v1::{ContainerState, Event, ObjectReference, Pod, PodSpec, PodStatus};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

/// The code of a node whose process does not answer.
const SILENT: &str = "NODE-SILENT";
/// Longest text that is repeated of what a pod says, in bytes.
const TOLD: usize = 500;

/// A node that has not answered to its wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// It has so long still; and why it has not, if that is known.
    For(Duration, Option<String>),
    /// It had its time.
    Over(String),
}

/// Keeps of a pod of the operator's what is looked at.
pub fn trim(pod: &mut Pod) {
    pod.annotations_mut().clear();
    pod.metadata.owner_references = None;
    let node = pod.spec.take().and_then(|s| s.node_name);
    pod.spec = Some(PodSpec { node_name: node, ..PodSpec::default() });
    let Some(status) = pod.status.take() else { return };
    let mut containers = status.container_statuses.unwrap_or_default();
    for container in &mut containers {
        container.container_id = None;
        container.image.clear();
        container.image_id.clear();
        container.resources = None;
        container.volume_mounts = None;
        container.allocated_resources = None;
    }
    pod.status = Some(PodStatus {
        phase: status.phase,
        message: status.message,
        container_statuses: Some(containers),
        ..PodStatus::default()
    });
}

/// Nodes' processes, by node.
pub type Processes = HashMap<String, Vec<Arc<Pod>>>;

/// Those among the operator's pods.
pub fn by_node(pods: Vec<Arc<Pod>>) -> Processes {
    let mut found = Processes::new();
    for pod in pods.into_iter().filter(|p| !p.labels().contains_key(CANARY_LABEL)) {
        if let Some(node) = pod.spec.as_ref().and_then(|s| s.node_name.clone()) {
            found.entry(node).or_default().push(pod);
        }
    }
    found
}

/// Looks at a node that has not answered. `alive`: since when it could have; one that was away has its time anew.
pub fn look(
    node: &CocoonNode,
    alive: Timestamp,
    processes: &Processes,
    limit: Duration,
    now: Timestamp,
) -> Waiting {
    let asked = node.annotations().get(ASKED_ANNOTATION).and_then(|t| t.parse::<Timestamp>().ok());
    let spent = asked.map_or(0, |asked| now.duration_since(asked.max(alive)).as_secs());
    let left = limit.saturating_sub(Duration::from_secs(u64::try_from(spent).unwrap_or(0)));
    let why = said(node).or_else(|| process(node, processes));
    if left.is_zero() {
        let seconds = limit.as_secs();
        let why = why.map(|w| format!(": {w}")).unwrap_or_default();
        return Waiting::Over(format!("{SILENT}: it has not followed within {seconds} seconds{why}"));
    }
    Waiting::For(left, why)
}

/// What its process says that keeps it.
fn said(node: &CocoonNode) -> Option<String> {
    let status = node.status.as_ref()?;
    let about =
        status.observed_generation == node.metadata.generation && status.revision == node.spec.revision;
    let code = status.code.as_ref().filter(|_| about)?;
    Some(format!("{code}: {}", cut(&status.message)))
}

/// What keeps its process from starting.
fn process(node: &CocoonNode, processes: &Processes) -> Option<String> {
    let of_revision = |pod: &&Arc<Pod>| pod.labels().get(REVISION_LABEL) == Some(&node.spec.revision);
    let pod = processes.get(&node.name_any())?.iter().find(of_revision)?;
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    containers.iter().find_map(|c| words(c.state.as_ref()?))
}

/// Keeps of an Event what is looked at.
pub fn trim_event(event: &mut Event) {
    *event = Event {
        metadata: std::mem::take(&mut event.metadata),
        involved_object: ObjectReference {
            uid: event.involved_object.uid.take(),
            ..ObjectReference::default()
        },
        message: event.message.as_deref().map(|m| cut(m).to_owned()),
        count: event.count,
        ..Event::default()
    };
}

/// Why a container waits, or has ended.
pub fn words(state: &ContainerState) -> Option<String> {
    let waiting = state.waiting.as_ref().map(|w| (w.reason.clone(), w.message.clone()));
    let (reason, message) =
        waiting.or_else(|| state.terminated.as_ref().map(|t| (t.reason.clone(), t.message.clone())))?;
    let words: Vec<String> = [reason, message].into_iter().flatten().collect();
    (!words.is_empty()).then(|| cut(&words.join(": ")).to_owned())
}

/// At most so much of a text as is repeated.
pub fn cut(text: &str) -> &str {
    let end = (0..=TOLD.min(text.len())).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_cluster_api::{CocoonNodeSpec, CocoonNodeStatus, NodeSettings, WantedState};
    use serde_json::json;

    fn node(asked: &str) -> CocoonNode {
        let mut node = CocoonNode::new(
            "n",
            CocoonNodeSpec {
                runtime: "r".into(),
                state: WantedState::Installed,
                force: false,
                revision: "r2".into(),
                settings: NodeSettings::default(),
            },
        );
        node.annotations_mut().insert(ASKED_ANNOTATION.into(), asked.into());
        node
    }

    fn pod(revision: &str, on: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": {REVISION_LABEL: revision}, "annotations": {"a": "b"}},
            "spec": {"nodeName": on, "containers": []},
            "status": {"phase": "Pending", "containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_node_has_its_time_and_then_it_is_told_why() {
        let limit = Duration::from_secs(60);
        let now: Timestamp = "2026-01-01T00:00:20Z".parse().unwrap();
        let mut pods = [pod("r1", "n"), pod("r2", "m"), pod("r2", "n")];
        pods.iter_mut().for_each(trim);
        let pods = pods.map(Arc::new);
        let (all, others) = (by_node(pods.to_vec()), by_node(pods[..2].to_vec()));
        let none = Processes::new();
        let old = Timestamp::UNIX_EPOCH;
        let why = || Some("ImagePullBackOff: no such image".to_owned());
        let asked = node("2026-01-01T00:00:00Z");
        assert_eq!(look(&asked, old, &all, limit, now), Waiting::For(Duration::from_secs(40), why()));
        let later: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        assert!(
            matches!(look(&asked, old, &all, limit, later), Waiting::Over(w) if w.contains("NODE-SILENT") && w.contains("no such"))
        );
        assert_eq!(look(&asked, old, &others, limit, now), Waiting::For(Duration::from_secs(40), None));
        let back: Timestamp = "2026-01-01T00:00:50Z".parse().unwrap();
        assert_eq!(
            look(&asked, back, &none, limit, later),
            Waiting::For(Duration::from_secs(50), None),
            "it was away"
        );
        // A clock that was set back, and a time that is none, give the whole time.
        let future = node("2027-01-01T00:00:00Z");
        assert_eq!(look(&future, old, &none, limit, now), Waiting::For(limit, None));
        assert_eq!(look(&node("soon"), old, &none, limit, now), Waiting::For(limit, None));
    }

    #[test]
    fn what_its_process_says_counts_more() {
        let mut node = node("2026-01-01T00:00:00Z");
        node.metadata.generation = Some(2);
        let mut status = CocoonNodeStatus {
            observed_generation: Some(2),
            revision: "r2".into(),
            code: Some("IMAGE-NOT-FOUND".into()),
            message: "ä".repeat(2000),
            ..CocoonNodeStatus::default()
        };
        node.status = Some(status.clone());
        assert!(said(&node).is_some_and(|s| s.starts_with("IMAGE-NOT-FOUND: ää") && s.len() < 600));
        status.observed_generation = Some(1);
        node.status = Some(status);
        assert_eq!(said(&node), None, "that was about another wish");
    }
}
