//! Status: counts, conditions, and Events where they change.

use cocoon_cluster_api::{
    CocoonRuntime, CocoonRuntimeStatus, ConditionKind, Failing, MANAGER, NodeCounts, Phase, WantedState,
    condition, set_condition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::rollout::{NodeView, Outcome};
use crate::{Context, Error};

/// Most failing nodes that are named.
const NAMED: usize = 10;

/// A condition of the runtime as a whole: whether it holds, reason, message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Say {
    /// The condition.
    pub kind: ConditionKind,
    /// Whether it holds.
    pub holds: bool,
    /// The reason, in one word.
    pub reason: &'static str,
    /// The message.
    pub message: String,
}

impl Say {
    /// `Ready` does not hold.
    pub fn not_ready(reason: &'static str, message: impl Into<String>) -> Self {
        Say { kind: ConditionKind::Ready, holds: false, reason, message: message.into() }
    }
}

/// Counts nodes.
pub fn counts(nodes: &[NodeView], target: &str) -> NodeCounts {
    let mut counts = NodeCounts::default();
    for node in nodes {
        let current = node.current.as_ref();
        let phase = current.map(|c| c.phase).unwrap_or_default();
        if !node.selected {
            counts.removing += 1;
            continue;
        }
        counts.selected += 1;
        let settled = current.is_some_and(|c| c.settled && c.wanted == WantedState::Installed);
        counts.ready += u32::from(phase == Phase::Ready && settled);
        counts.unsupported += u32::from(phase == Phase::Unsupported && settled);
        counts.failed += u32::from(phase == Phase::Failed && settled);
        counts.updated += u32::from(settled && current.is_some_and(|c| c.revision == target));
    }
    counts
}

/// The nodes that fail, with what they say.
pub fn failing(nodes: &[NodeView]) -> Vec<Failing> {
    let failed = nodes.iter().filter_map(|n| {
        let c =
            n.current.as_ref().filter(|c| c.settled && matches!(c.phase, Phase::Failed | Phase::Blocked))?;
        let (code, message) = c.message.split_once(": ").unwrap_or(("", &c.message));
        Some(Failing { node: n.name.clone(), code: code.into(), message: message.into() })
    });
    failed.take(NAMED).collect()
}

/// Why nodes that have not answered have not, as far as it is known.
pub fn waiting(nodes: &[NodeView]) -> String {
    let waiting = nodes.iter().filter_map(|n| {
        let current = n.current.as_ref().filter(|c| !c.settled && !c.message.is_empty())?;
        Some(format!("; {}: {}", n.name, current.message))
    });
    waiting.take(NAMED).collect()
}

/// The conditions that nodes and the decision come to.
pub fn conditions(
    counts: &NodeCounts,
    failing: &[Failing],
    waiting: &str,
    outcome: &Outcome,
    refused: Option<&(String, String)>,
    classes: &[String],
) -> [Say; 3] {
    let named: Vec<String> =
        failing.iter().map(|f| format!("{}: {} {}", f.node, f.code, f.message)).collect();
    let named = named.join("; ");
    let tally = format!("{} of {} nodes run confidential pods", counts.ready, counts.selected);
    let say = |kind, holds, reason, message: String| Say { kind, holds, reason, message };
    let ready = if counts.selected == 0 {
        say(ConditionKind::Ready, false, "NoNodes", "no node matches nodeSelector and tolerations".into())
    } else if counts.failed > 0 {
        say(ConditionKind::Ready, false, "NodesFailed", format!("{tally}; {named}"))
    } else if counts.ready == 0 && counts.unsupported == counts.selected {
        let message = "no node has a TEE that was asked for; platforms: [Auto, Sim] would simulate one, which protects nothing";
        say(ConditionKind::Ready, false, "NoTee", message.into())
    } else if outcome.done {
        say(ConditionKind::Ready, true, "NodesReady", format!("{tally}; classes {}", classes.join(", ")))
    } else {
        say(ConditionKind::Ready, false, "NodesPending", format!("{tally}{waiting}"))
    };
    let goal = outcome.goal.clone().unwrap_or_default();
    let progressing = if outcome.halted {
        say(ConditionKind::Progressing, false, "Halted", "nothing more is changed until spec changes".into())
    } else if outcome.done && counts.removing == 0 {
        say(ConditionKind::Progressing, false, "Done", format!("revision {goal}"))
    } else {
        let message = format!(
            "revision {goal}: {} of {} nodes; {} being cleaned{waiting}",
            counts.updated, counts.selected, counts.removing
        );
        say(ConditionKind::Progressing, true, "Changing", message)
    };
    let degraded = match refused {
        Some((revision, why)) => {
            let back = match &outcome.goal {
                Some(goal) => format!("nodes get revision {goal} back"),
                None => "there is none to go back to".into(),
            };
            say(
                ConditionKind::Degraded,
                true,
                "RevisionRefused",
                format!("revision {revision} failed ({why}); {back}"),
            )
        }
        None if counts.failed > 0 => say(ConditionKind::Degraded, true, "NodesFailed", named),
        None => say(ConditionKind::Degraded, false, "AsExpected", String::new()),
    };
    [ready, progressing, degraded]
}

/// Writes status where it differs, and an Event for each condition whose reason is another one.
///
/// # Errors
/// Of the API server.
pub async fn write(
    ctx: &Context,
    runtime: &CocoonRuntime,
    mut status: CocoonRuntimeStatus,
    says: &[Say],
) -> Result<(), Error> {
    let old = runtime.status.clone().unwrap_or_default();
    let now = Time(Timestamp::now());
    status.observed_generation = runtime.metadata.generation;
    status.conditions.clone_from(&old.conditions);
    let mut changed: Vec<Say> = Vec::new();
    for say in says {
        let before = old.conditions.iter().find(|c| c.type_ == say.kind.word());
        if before.is_none_or(|c: &Condition| c.reason != say.reason) {
            changed.push(say.clone());
        }
        let new = condition(
            say.kind,
            say.holds,
            say.reason,
            &say.message,
            runtime.metadata.generation,
            now.clone(),
        );
        set_condition(&mut status.conditions, new);
    }
    if status == old {
        return Ok(());
    }
    let api: Api<CocoonRuntime> = Api::all(ctx.client.clone());
    let object = json!({"apiVersion": "cocoon.dev/v1alpha1", "kind": "CocoonRuntime", "status": status});
    api.patch_status(&runtime.name_any(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object))
        .await?;
    ctx.metrics.sent.inc();
    for say in changed.iter().filter(|s| !s.message.is_empty()) {
        let bad =
            say.holds == (say.kind == ConditionKind::Degraded) && say.kind != ConditionKind::Progressing;
        ctx.event(&runtime.object_ref(&()), bad, say.reason, &say.message).await;
    }
    Ok(())
}
