//! Nodes: which are meant, what they are given, and what is made of what they say.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use cocoon_cluster_api::{
    ASKED_ANNOTATION, BEST_CLASS, CocoonNode, CocoonRuntimeSpec, GROUP, LABEL_PREFIX, MANAGER, NodeSettings,
    Phase, REVISION_LABEL, RUNTIME_LABEL, SLOTS, WantedState, labels,
};
use k8s_openapi::api::core::v1::{Node, Taint, Toleration};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::deadline::{self, Waiting};
use super::rollout::{Current, NodeView};
use crate::{Context, Error};

/// Guests at once where nothing but the number of pods limits them.
const PODS: &str = "110";
/// Taints that every daemon set tolerates.
const OF_NODE_LIFE: &str = "node.kubernetes.io/";

/// Keeps of a node what is looked at here; the rest changes every few seconds.
pub fn trim(node: &mut Node) {
    node.annotations_mut().clear();
    if let Some(spec) = &mut node.spec {
        *spec = k8s_openapi::api::core::v1::NodeSpec { taints: spec.taints.take(), ..Default::default() };
    }
    let Some(status) = node.status.take() else { return };
    let conditions = status.conditions.unwrap_or_default().into_iter().filter(|c| c.type_ == "Ready");
    let conditions = conditions.map(|c| k8s_openapi::api::core::v1::NodeCondition {
        status: c.status,
        type_: c.type_,
        last_transition_time: c.last_transition_time,
        ..Default::default()
    });
    let kept = |(key, _): &(String, _)| key == SLOTS || key == "pods";
    node.status = Some(k8s_openapi::api::core::v1::NodeStatus {
        conditions: Some(conditions.collect()),
        capacity: status.capacity.map(|c| c.into_iter().filter(kept).collect()),
        ..Default::default()
    });
}

/// Whether a spec means this node.
pub fn is_selected(spec: &CocoonRuntimeSpec, node: &Node) -> bool {
    let labels = node.labels();
    let is = |key: &str, value: &str| labels.get(key).is_none_or(|v| v == value);
    node.metadata.deletion_timestamp.is_none()
        && is("kubernetes.io/os", "linux")
        && is("kubernetes.io/arch", "amd64")
        && spec.node_selector.iter().all(|(k, v)| labels.get(k) == Some(v))
        && node
            .spec
            .iter()
            .flat_map(|s| s.taints.iter().flatten())
            .all(|t| is_tolerated(t, &spec.tolerations))
}

/// Whether a daemon set's pod goes to a node with this taint.
fn is_tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    taint.effect == "PreferNoSchedule"
        || taint.key.starts_with(OF_NODE_LIFE)
        || tolerations.iter().any(|t| {
            let key = t.key.as_deref().unwrap_or_default();
            let any = key.is_empty() && t.operator.as_deref() == Some("Exists");
            let value = t.operator.as_deref() == Some("Exists")
                || t.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
            (any || key == taint.key && value)
                && t.effect.as_deref().is_none_or(|e| e.is_empty() || e == taint.effect)
        })
}

/// Since when Kubernetes calls a node ready; `None` where it does not.
fn alive(node: &Node) -> Option<Timestamp> {
    let mut conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let ready = conditions.find(|c| c.type_ == "Ready" && c.status == "True")?;
    Some(ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0))
}

/// What a node was asked for, and came to.
pub fn current(node: &CocoonNode) -> Current {
    let status = node.status.clone().unwrap_or_default();
    let answered =
        status.observed_generation == node.metadata.generation && status.revision == node.spec.revision;
    Current {
        revision: node.spec.revision.clone(),
        wanted: node.spec.state,
        phase: status.phase,
        settled: answered && !matches!(status.phase, Phase::Pending | Phase::Installing),
        message: match &status.code {
            Some(code) => format!("{code}: {}", status.message),
            None if answered => status.message,
            None => String::new(),
        },
    }
}

/// Nodes, and when they are to be looked at again even if nothing changes.
#[derive(Debug, Default)]
pub struct Views {
    /// Nodes, by name.
    pub nodes: Vec<NodeView>,
    /// When the first of those that have not answered has had its time.
    pub again: Option<Duration>,
}

/// All nodes that a runtime means, or that still have something of it.
pub fn views(ctx: &Context, name: &str, spec: &CocoonRuntimeSpec, deleted: bool) -> Views {
    let limit = Duration::from_secs(spec.update.progress_deadline_seconds.into());
    let now = Timestamp::now();
    let mut again: Option<Duration> = None;
    let processes = deadline::by_node(ctx.pods.state());
    let own: HashMap<String, Arc<CocoonNode>> =
        ctx.own_nodes(name).into_iter().map(|n| (n.name_any(), n)).collect();
    let mut views: Vec<NodeView> = Vec::new();
    for node in ctx.nodes.state() {
        let known = own.get(&node.name_any());
        let selected = !deleted && is_selected(spec, &node);
        let (mut current, alive) = (known.map(|n| current(n)), alive(&node));
        if let (Some(current), Some(known), Some(since)) = (&mut current, known, alive)
            && !current.settled
        {
            match deadline::look(known, since, &processes, limit, now) {
                Waiting::For(left, why) => {
                    again = Some(again.map_or(left, |again| again.min(left)));
                    current.message = why.unwrap_or_default();
                }
                Waiting::Over(message) => {
                    (current.settled, current.phase, current.message) = (true, Phase::Failed, message);
                }
            }
        }
        if selected || known.is_some() {
            views.push(NodeView { name: node.name_any(), selected, alive: alive.is_some(), current });
        }
    }
    views.sort_by(|a, b| a.name.cmp(&b.name));
    Views { nodes: views, again }
}

/// Gives a node a wish: first the resource, then the label that brings the process.
///
/// # Errors
/// Of the API server.
pub async fn wish(
    ctx: &Context,
    runtime: &str,
    node: &str,
    revision: &str,
    settings: &NodeSettings,
    state: WantedState,
    force: bool,
) -> Result<(), Error> {
    let Some(found) = ctx.node(node) else { return Ok(()) };
    let mut own = labels("node", runtime);
    own.insert(RUNTIME_LABEL.into(), runtime.into());
    let object = json!({
        "apiVersion": format!("{GROUP}/v1alpha1"), "kind": "CocoonNode",
        "metadata": {
            "name": node, "labels": own, "annotations": {ASKED_ANNOTATION: Timestamp::now().to_string()},
            // A node that leaves the cluster takes what is known of it along.
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node, "uid": found.uid()}],
        },
        "spec": {"runtime": runtime, "state": state, "force": force, "revision": revision, "settings": settings},
    });
    let api: Api<CocoonNode> = Api::all(ctx.client.clone());
    api.patch(node, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object)).await?;
    ctx.metrics.sent.inc();
    Ok(())
}

/// Makes a node's labels and capacity say what its process says. `own` is `None` where nothing is to be left.
///
/// # Errors
/// Of the API server.
pub async fn sync(ctx: &Context, node: &Node, own: Option<&CocoonNode>) -> Result<(), Error> {
    let (wished, slots) = own.map(said).unwrap_or_default();
    let live: BTreeMap<String, String> =
        node.labels().iter().filter(|(k, _)| is_ours(k)).map(|(k, v)| (k.clone(), v.clone())).collect();
    let api: Api<Node> = Api::all(ctx.client.clone());
    let name = node.name_any();
    if wished != live {
        // With its uid: a node that is gone meanwhile must not come back as an object.
        let object = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "uid": node.uid(), "labels": wished},
        });
        api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object)).await?;
        ctx.metrics.sent.inc();
    }
    let capacity = node.status.as_ref().and_then(|s| s.capacity.as_ref());
    let slots = slots.map(|n| match n {
        Some(n) => n.to_string(),
        None => capacity.and_then(|c| c.get("pods")).map_or(PODS.into(), |q| q.0.clone()),
    });
    let live = capacity.and_then(|c| c.get(SLOTS)).map(|q| q.0.clone()).filter(|q| q != "0");
    if slots != live {
        // Kubelet keeps what it once allocated; nothing is said by 0, as Kubernetes' own documentation of it has it.
        let value: Value = slots.map_or(Value::Null, Value::from);
        let patch = json!({"status": {"capacity": {SLOTS: value}, "allocatable": {SLOTS: value}}});
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        ctx.metrics.sent.inc();
    }
    Ok(())
}

/// Whether a label of a node is one that the operator puts there.
fn is_ours(key: &str) -> bool {
    let Some(rest) = key.strip_prefix(LABEL_PREFIX) else { return false };
    key == REVISION_LABEL
        || rest == "runtime"
        || ["class.", "platform.", "capacity."].iter().any(|p| rest.starts_with(p))
}

/// The labels of a node, and its slots: none, a number, or as many as pods.
fn said(node: &CocoonNode) -> (BTreeMap<String, String>, Option<Option<u32>>) {
    let mut labels = BTreeMap::from([(REVISION_LABEL.to_owned(), node.spec.revision.clone())]);
    let Some(status) = &node.status else { return (labels, None) };
    // A node may say much of itself, but only so much, and nothing of others.
    let fits = |value: &str| {
        value.len() <= 63 && value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let told =
        status.labels.iter().filter(|(k, v)| is_ours(k) && *k != REVISION_LABEL && k.len() <= 80 && fits(v));
    labels.extend(told.take(32).map(|(k, v)| (k.clone(), v.clone())));
    let takes = status.classes.iter().any(|c| matches!(c.as_str(), BEST_CLASS | "cocoon-snp" | "cocoon-tdx"));
    (labels, takes.then_some(status.slots))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_cluster_api::{CocoonNodeSpec, CocoonNodeStatus};

    fn node(labels: &[(&str, &str)], taints: Value) -> Node {
        let labels: BTreeMap<_, _> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        serde_json::from_value(
            json!({"metadata": {"name": "n", "labels": labels}, "spec": {"taints": taints}}),
        )
        .unwrap()
    }

    #[test]
    fn nodes_of_another_kind_or_with_a_taint_are_left_alone() {
        let mut spec = CocoonRuntimeSpec::default();
        assert!(is_selected(&spec, &node(&[], json!([]))));
        assert!(!is_selected(&spec, &node(&[("kubernetes.io/arch", "arm64")], json!([]))));
        let tainted = node(&[], json!([{"key": "a", "value": "b", "effect": "NoSchedule"}]));
        assert!(!is_selected(&spec, &tainted));
        let pressed = node(&[], json!([{"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"}]));
        assert!(is_selected(&spec, &pressed));
        for tolerations in [
            json!([{"operator": "Exists"}]),
            json!([{"key": "a", "value": "b"}]),
            json!([{"key": "a", "operator": "Exists", "effect": "NoSchedule"}]),
        ] {
            spec.tolerations = serde_json::from_value(tolerations).unwrap();
            assert!(is_selected(&spec, &tainted), "{:?}", spec.tolerations);
        }
        for tolerations in [
            json!([{"key": "a", "value": "c"}]),
            json!([{"key": "a", "operator": "Exists", "effect": "NoExecute"}]),
        ] {
            spec.tolerations = serde_json::from_value(tolerations).unwrap();
            assert!(!is_selected(&spec, &tainted), "{:?}", spec.tolerations);
        }
        spec.node_selector.insert("pool".into(), "tee".into());
        assert!(!is_selected(&spec, &node(&[], json!([]))));
    }

    #[test]
    fn a_node_cannot_say_whatever_it_likes() {
        let mut own = CocoonNode::new(
            "n",
            CocoonNodeSpec {
                runtime: "r".into(),
                state: WantedState::Installed,
                force: false,
                revision: "r1".into(),
                settings: NodeSettings::default(),
            },
        );
        assert_eq!(said(&own), ([(REVISION_LABEL.to_owned(), "r1".to_owned())].into(), None));
        let labels = [
            ("cocoon.dev/class.cocoon", "true"),
            (REVISION_LABEL, "r9"),
            ("node-role.kubernetes.io/control-plane", ""),
            ("cocoon.dev/platform.snp", "a b"),
            ("cocoon.dev/runtime", "true"),
        ];
        own.status = Some(CocoonNodeStatus {
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            classes: vec!["cocoon".into()],
            slots: Some(1),
            ..CocoonNodeStatus::default()
        });
        let (labels, slots) = said(&own);
        assert_eq!(slots, Some(Some(1)));
        assert_eq!(
            labels.keys().collect::<Vec<_>>(),
            ["cocoon.dev/class.cocoon", REVISION_LABEL, "cocoon.dev/runtime"]
        );
        assert_eq!(labels[REVISION_LABEL], "r1");
    }

    #[test]
    fn an_answer_to_another_question_settles_nothing() {
        let mut own = CocoonNode::new(
            "n",
            CocoonNodeSpec {
                runtime: "r".into(),
                state: WantedState::Installed,
                force: false,
                revision: "r1".into(),
                settings: NodeSettings::default(),
            },
        );
        own.metadata.generation = Some(3);
        let mut status = CocoonNodeStatus {
            observed_generation: Some(3),
            revision: "r1".into(),
            phase: Phase::Ready,
            ..CocoonNodeStatus::default()
        };
        own.status = Some(status.clone());
        assert!(current(&own).settled);
        status.observed_generation = Some(2);
        own.status = Some(status.clone());
        assert!(!current(&own).settled);
        own.status = Some(CocoonNodeStatus { observed_generation: Some(3), revision: "r0".into(), ..status });
        assert!(!current(&own).settled);
    }
}
