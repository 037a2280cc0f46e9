//! The controller of CocoonRuntime.

pub mod backoff;
mod canary;
pub mod classes;
pub mod daemonset;
mod deadline;
mod nodes;
mod remove;
mod report;
pub mod rollout;

use std::sync::Arc;
use std::time::Duration;

use cocoon_cluster_api::{
    CocoonRuntime, CocoonRuntimeStatus, FINALIZER, NodeSettings, Revisions, WantedState,
};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::apply::apply;
use crate::{Context, Error};
use canary::Trial;
use daemonset::Revision;
use remove::gone;
use report::Say;
use rollout::{Policy, Step};

pub use deadline::{trim as trim_pod, trim_event};
pub use nodes::trim as trim_node;

/// One pass over one CocoonRuntime.
///
/// # Errors
/// Of the API server; it is tried again later.
pub async fn reconcile(runtime: Arc<CocoonRuntime>, ctx: Arc<Context>) -> Result<Action, Error> {
    let begun = std::time::Instant::now();
    let of = crate::health::Of { controller: "cocoonruntime" };
    ctx.metrics.reconciled.get_or_create(&of).inc();
    let result = match runtime.metadata.deletion_timestamp {
        Some(_) => remove::pass(&ctx, &runtime).await,
        None => pass(&ctx, &runtime).await,
    };
    ctx.metrics.seconds.observe(begun.elapsed().as_secs_f64());
    match &result {
        Ok(_) => ctx.failures.succeeded(&runtime.name_any()),
        Err(_) => {
            ctx.metrics.failed.get_or_create(&of).inc();
        }
    }
    result
}

/// When a failed pass is tried again: after 1, 2, 4 … seconds, at most five minutes.
pub fn again(runtime: Arc<CocoonRuntime>, error: &Error, ctx: Arc<Context>) -> Action {
    let after = ctx.failures.failed(&runtime.name_any());
    warn!(runtime = runtime.name_any(), seconds = after.as_secs(), "to be tried again: {error}");
    Action::requeue(after)
}

async fn pass(ctx: &Context, runtime: &CocoonRuntime) -> Result<Action, Error> {
    let name = runtime.name_any();
    if let Some(other) = ctx.older_than(runtime) {
        let message = format!(
            "CocoonRuntime {other} is older and already manages this cluster's nodes and RuntimeClasses; delete one of them"
        );
        let old = runtime.status.clone().unwrap_or_default();
        report::write(ctx, runtime, old, &[Say::not_ready("AnotherRuntime", message)]).await?;
        return Ok(Action::await_change());
    }
    if !runtime.finalizers().iter().any(|f| f == FINALIZER) {
        hold(ctx, runtime).await?;
    }
    let owner = owner(runtime);
    let classes = keep_classes(ctx, runtime, &owner).await?;

    let retry = runtime.annotations().get(daemonset::RETRY).map(String::as_str);
    let target = Revision::of(&runtime.spec, &ctx.image, retry);
    let mut known = runtime.status.clone().unwrap_or_default().revisions;
    let settings_of = |revision: &str| settings_of(ctx, &name, &target, revision);
    // A revision whose daemon set is gone cannot be gone back to.
    known.stable = known.stable.take().filter(|s| settings_of(s).is_some());
    let nodes::Views { nodes: views, again } = nodes::views(ctx, &name, &runtime.spec, false);
    let update = &runtime.spec.update;
    let refused = known.refused.clone().map(|r| (r, known.refused_because.clone().unwrap_or_default()));
    let policy = Policy {
        target: target.name.clone(),
        stable: known.stable.clone(),
        refused: refused.filter(|(r, _)| *r == target.name),
        tried: known.tried.clone(),
        canary: update.canary.enabled,
        budget: update.budget(views.iter().filter(|v| v.selected).count()),
        strategy: update.strategy,
        on_failure: update.on_failure,
        paused: runtime.spec.paused,
    };
    let mut outcome = rollout::plan(&policy, &views);
    let mut refused = policy.refused.clone().or(outcome.refused.clone());
    if let Some((revision, why)) = &outcome.refused {
        info!(runtime = name, revision, why, "a revision failed");
    }

    let sets: Api<DaemonSet> = Api::namespaced(ctx.client.clone(), &ctx.namespace);
    if outcome.goal.as_ref() == Some(&target.name) && !runtime.spec.paused {
        let object = daemonset::object(&name, &owner, &ctx.namespace, &runtime.spec, &target);
        let set = daemonset::name(&name, &target.name);
        let live = ctx.sets.find(|s| s.name_any() == set);
        if apply(&sets, &set, &object, live.as_deref()).await? {
            ctx.metrics.sent.inc();
        }
    }
    let mut action = again.map_or_else(Action::await_change, Action::requeue);
    for step in &outcome.steps.clone() {
        match step {
            Step::Assign { node, revision } => {
                let Some(settings) = settings_of(revision) else { continue };
                info!(runtime = name, node, revision, "a node gets a revision");
                nodes::wish(ctx, &name, node, revision, &settings, WantedState::Installed, false).await?;
            }
            Step::Clean { node } => remove::clean(ctx, &name, node, false).await?,
            Step::Forget { node } => remove::forget(ctx, node).await?,
            Step::Try { node } => {
                let Some(own) = ctx.own_node(node) else { continue };
                match canary::run(ctx, &owner, &name, &target, &own, update.canary.timeout_seconds).await? {
                    Trial::Running(seconds) => {
                        let limit = Duration::from_secs(seconds.max(1));
                        action = Action::requeue(again.map_or(limit, |again| again.min(limit)));
                    }
                    Trial::Passed => {
                        known.tried = Some(target.name.clone());
                        ctx.ticks.tick();
                    }
                    Trial::Failed(why) => {
                        refused = Some((target.name.clone(), why));
                        outcome.halted = known.stable.is_none();
                        outcome.goal.clone_from(&known.stable);
                        ctx.ticks.tick();
                    }
                }
            }
        }
    }
    for own in ctx.own_nodes(&name) {
        if let Some(node) = ctx.node(&own.name_any()) {
            nodes::sync(ctx, &node, Some(&own)).await?;
        }
        ctx.tell_of_node(&own).await;
    }

    let counts = report::counts(&views, &target.name);
    if outcome.done && counts.ready > 0 {
        known.stable.clone_from(&outcome.goal);
    }
    sweep(ctx, &name, &target.name, known.stable.as_deref(), &sets).await?;
    let failing = report::failing(&views);
    let waiting = report::waiting(&views);
    let says = report::conditions(&counts, &failing, &waiting, &outcome, refused.as_ref(), &classes);
    let revisions = Revisions {
        target: target.name.clone(),
        refused: refused.as_ref().map(|(r, _)| r.clone()),
        refused_because: refused.map(|(_, why)| why),
        ..known
    };
    let status =
        CocoonRuntimeStatus { nodes: counts, revisions, classes, failing, ..CocoonRuntimeStatus::default() };
    report::write(ctx, runtime, status, &says).await?;
    Ok(action)
}

fn owner(runtime: &CocoonRuntime) -> Value {
    runtime.controller_owner_ref(&()).and_then(|o| serde_json::to_value(o).ok()).unwrap_or_default()
}

/// Puts the finalizer on, before anything is done on a node.
async fn hold(ctx: &Context, runtime: &CocoonRuntime) -> Result<(), Error> {
    let api: Api<CocoonRuntime> = Api::all(ctx.client.clone());
    let mut finalizers = runtime.finalizers().to_vec();
    finalizers.push(FINALIZER.into());
    let patch =
        json!({"metadata": {"finalizers": finalizers, "resourceVersion": runtime.resource_version()}});
    api.patch(&runtime.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

/// Makes the RuntimeClasses, and removes those that are not wished any more. Their names.
async fn keep_classes(ctx: &Context, runtime: &CocoonRuntime, owner: &Value) -> Result<Vec<String>, Error> {
    let name = runtime.name_any();
    let api: Api<RuntimeClass> = Api::all(ctx.client.clone());
    let wished = classes::of(&runtime.spec);
    if !runtime.spec.paused {
        for (class, handler) in &wished {
            let object = classes::object(&name, owner, &runtime.spec, class, handler);
            let live = ctx.classes.find(|c| c.name_any() == *class);
            // A handler cannot be changed.
            if live.as_ref().is_some_and(|l| l.handler != *handler) {
                gone(api.delete(class, &DeleteParams::default()).await)?;
            }
            if apply(&api, class, &object, live.as_deref()).await? {
                ctx.metrics.sent.inc();
            }
        }
        for class in ctx.own_classes(&name) {
            if !wished.iter().any(|(w, _)| *w == class.name_any()) {
                gone(api.delete(&class.name_any(), &DeleteParams::default()).await)?;
            }
        }
    }
    Ok(wished.into_iter().map(|(name, _)| name).collect())
}

fn settings_of(ctx: &Context, runtime: &str, target: &Revision, revision: &str) -> Option<NodeSettings> {
    if revision == target.name {
        return Some(target.settings.clone());
    }
    let name = daemonset::name(runtime, revision);
    ctx.sets.find(|s| s.name_any() == name).and_then(|set| daemonset::settings(&set))
}

/// Removes daemon sets of revisions that no node has and none goes back to.
async fn sweep(
    ctx: &Context,
    runtime: &str,
    target: &str,
    stable: Option<&str>,
    api: &Api<DaemonSet>,
) -> Result<(), Error> {
    let used: Vec<String> = ctx.own_nodes(runtime).iter().map(|n| n.spec.revision.clone()).collect();
    for set in ctx.own_sets(runtime) {
        let revision = set.labels().get(cocoon_cluster_api::REVISION_LABEL).cloned().unwrap_or_default();
        if revision != target && Some(revision.as_str()) != stable && !used.contains(&revision) {
            gone(api.delete(&set.name_any(), &DeleteParams::default()).await)?;
        }
    }
    Ok(())
}
