//! Which nodes are to be changed next: a decision on data alone.
//!
//! A *revision* is an image with settings. Nodes get the target revision one after another, at most `budget` at once; nodes that
//! fail count against the budget, so that a revision that breaks nodes stops by itself. A revision that is new to the cluster
//! goes to one node first, where a canary pod tries it.

use std::collections::BTreeSet;

use cocoon_cluster_api::{OnFailure, Phase, UpdateStrategy, WantedState};

/// A node as the decision sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Whether the runtime's selector names it.
    pub selected: bool,
    /// Whether Kubernetes calls it ready.
    pub alive: bool,
    /// What it was asked for, and came to.
    pub current: Option<Current>,
}

/// What a node was asked for, and came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Current {
    /// The revision.
    pub revision: String,
    /// Whether it shall have Cocoon.
    pub wanted: WantedState,
    /// How far it is.
    pub phase: Phase,
    /// Whether its process has answered to exactly this wish.
    pub settled: bool,
    /// What it says where it failed.
    pub message: String,
}

/// What is wished, and what is known.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The revision that the spec comes to.
    pub target: String,
    /// The last revision that all nodes had.
    pub stable: Option<String>,
    /// One that failed, and why.
    pub refused: Option<(String, String)>,
    /// The revision that a canary pod has shown to work.
    pub tried: Option<String>,
    /// Whether new revisions are tried first.
    pub canary: bool,
    /// Nodes that may be changed at once.
    pub budget: usize,
    /// Whether nodes follow by themselves.
    pub strategy: UpdateStrategy,
    /// What happens where one fails.
    pub on_failure: OnFailure,
    /// Nothing is changed.
    pub paused: bool,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Give a node a revision.
    Assign {
        /// The node.
        node: String,
        /// The revision.
        revision: String,
    },
    /// Have a node cleaned.
    Clean {
        /// The node.
        node: String,
    },
    /// A node is clean: nothing needs to be known of it any more.
    Forget {
        /// The node.
        node: String,
    },
    /// Try the target revision with a pod on this node.
    Try {
        /// The node.
        node: String,
    },
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Now.
    pub steps: Vec<Step>,
    /// The revision that nodes are to have; `None` where there is none that works.
    pub goal: Option<String>,
    /// Whether all nodes have it.
    pub done: bool,
    /// Whether nothing more happens until a person does something.
    pub halted: bool,
    /// A revision found to fail just now, and why.
    pub refused: Option<(String, String)>,
}

/// Decides.
pub fn plan(policy: &Policy, nodes: &[NodeView]) -> Outcome {
    let mut refused = policy.refused.clone().filter(|(revision, _)| *revision == policy.target);
    let known_before = refused.is_some();
    let upgrade = policy.stable.as_ref().is_some_and(|s| *s != policy.target);
    let failed_with = |revision: &str| {
        let failed = |c: &&Current| c.revision == revision && c.settled && c.phase == Phase::Failed;
        nodes.iter().filter(|n| n.selected).find_map(|n| n.current.as_ref().filter(failed).map(|c| (n, c)))
    };
    let mut halted = false;
    if let (true, None, Some((node, current))) = (upgrade, &refused, failed_with(&policy.target)) {
        match policy.on_failure {
            OnFailure::RollBack => {
                refused = Some((policy.target.clone(), format!("node {}: {}", node.name, current.message)));
            }
            OnFailure::Halt => halted = true,
        }
    }
    let goal = if refused.is_some() { policy.stable.clone() } else { Some(policy.target.clone()) };
    let mut outcome = Outcome { goal: goal.clone(), halted, ..Outcome::default() };
    if !known_before {
        outcome.refused = refused;
    }
    let mut room = policy.budget.saturating_sub(busy(nodes, goal.as_deref()));
    let mut take = || {
        let some = room > 0;
        room = room.saturating_sub(1);
        some
    };

    for node in nodes.iter().filter(|n| !n.selected) {
        let Some(current) = &node.current else { continue };
        let name = node.name.clone();
        match current.wanted {
            WantedState::Absent if current.settled && current.phase == Phase::Removed => {
                outcome.steps.push(Step::Forget { node: name });
            }
            WantedState::Installed if is_busy(node) || take() => {
                outcome.steps.push(Step::Clean { node: name })
            }
            _ => {}
        }
    }
    if let Some(goal) = goal {
        assign(policy, &goal, nodes, &mut take, &mut outcome);
    } else {
        outcome.halted = true;
    }
    if policy.paused {
        outcome.steps.retain(|step| matches!(step, Step::Forget { .. }));
    }
    outcome
}

/// Nodes that are being changed, or were changed for the worse.
fn busy(nodes: &[NodeView], goal: Option<&str>) -> usize {
    let counts = |node: &&NodeView| {
        let Some(c) = &node.current else { return false };
        let failed = c.phase == Phase::Failed && goal == Some(c.revision.as_str());
        node.alive && (!c.settled || failed)
    };
    nodes.iter().filter(counts).count()
}

/// Whether a node is being changed: it counts already, and changing it again costs nothing more. It must be possible, or what hangs
/// could not be mended before its time is over.
fn is_busy(node: &NodeView) -> bool {
    node.alive && node.current.as_ref().is_some_and(|c| !c.settled)
}

fn assign(
    policy: &Policy,
    goal: &str,
    nodes: &[NodeView],
    take: &mut dyn FnMut() -> bool,
    outcome: &mut Outcome,
) {
    let selected: Vec<&NodeView> = nodes.iter().filter(|n| n.selected).collect();
    let has = |node: &NodeView, revision: &str| {
        node.current.as_ref().is_some_and(|c| c.revision == revision && c.wanted == WantedState::Installed)
    };
    let settled = |node: &NodeView, phases: &[Phase]| {
        node.current.as_ref().is_some_and(|c| c.settled && phases.contains(&c.phase))
    };
    let lacking: BTreeSet<&str> =
        selected.iter().filter(|n| !has(n, goal)).map(|n| n.name.as_str()).collect();
    let alive = selected.iter().filter(|n| n.alive);
    let fine = |n: &&&NodeView| has(n, goal) && settled(n, &[Phase::Ready, Phase::Unsupported]);
    outcome.done = alive.clone().all(|n| fine(&n));

    let is_new = policy.stable.as_deref() != Some(goal) && policy.tried.as_deref() != Some(goal);
    if policy.canary && is_new && !outcome.halted {
        outcome.done = false;
        let ready = selected.iter().find(|n| n.alive && has(n, goal) && settled(n, &[Phase::Ready]));
        if let Some(node) = ready {
            outcome.steps.push(Step::Try { node: node.name.clone() });
            return;
        }
        if alive.clone().all(|n| fine(&n)) {
            // No node can run a pod with it: there is nothing to be tried.
            outcome.done = true;
            return;
        }
        let under_way = selected
            .iter()
            .any(|n| n.alive && has(n, goal) && !settled(n, &[Phase::Ready, Phase::Unsupported]));
        let mut lacks = alive.clone().filter(|n| lacking.contains(n.name.as_str()));
        let first = lacks.clone().find(|n| is_busy(n)).or_else(|| lacks.next());
        if let (false, Some(node)) = (under_way, first)
            && (is_busy(node) || take())
        {
            outcome.steps.push(Step::Assign { node: node.name.clone(), revision: goal.to_owned() });
        }
        return;
    }
    for node in alive.filter(|n| lacking.contains(n.name.as_str())) {
        let fresh = node.current.as_ref().is_none_or(|c| c.wanted == WantedState::Absent);
        let follows = fresh || policy.strategy == UpdateStrategy::Rolling;
        if follows && !outcome.halted && (is_busy(node) || take()) {
            outcome.steps.push(Step::Assign { node: node.name.clone(), revision: goal.to_owned() });
        }
    }
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;
