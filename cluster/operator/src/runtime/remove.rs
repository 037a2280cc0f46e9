//! A CocoonRuntime is deleted: nodes are cleaned first, unless confidential pods run.

use std::collections::BTreeSet;
use std::time::Duration;

use cocoon_cluster_api::{
    CocoonRuntime, CocoonRuntimeStatus, FINALIZER, Phase, UninstallPolicy, WantedState,
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::controller::Action;
use serde_json::json;

use super::report::{self, Say};
use super::rollout::{NodeView, Policy, Step, plan};
use super::{classes, nodes};
use crate::{Context, Error};

/// Until running pods are asked for again: they have no label by which to watch them.
const AGAIN: Duration = Duration::from_secs(10);
/// Pods asked for at once.
const PAGE: u32 = 500;
/// Pods that a message names.
const NAMED: usize = 10;

/// One pass.
///
/// # Errors
/// Of the API server.
pub async fn pass(ctx: &Context, runtime: &CocoonRuntime) -> Result<Action, Error> {
    let name = runtime.name_any();
    if !runtime.finalizers().iter().any(|f| f == FINALIZER) {
        return Ok(Action::await_change());
    }
    let force = runtime.spec.uninstall.policy == UninstallPolicy::Force;
    let nodes::Views { nodes: views, again } = nodes::views(ctx, &name, &runtime.spec, true);
    // Once cleaning has begun it is not interrupted by a new pod: what is half gone is of no use.
    let begun = views.iter().any(|v| v.current.as_ref().is_some_and(|c| c.wanted == WantedState::Absent));
    if !force && !begun {
        let pods = running(ctx, runtime).await?;
        if !pods.is_empty() {
            let more = pods.len().saturating_sub(NAMED);
            let mut named = pods.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            if more > 0 {
                named.push_str(&format!(" and {more} more"));
            }
            let message =
                format!("confidential pods still run: {named}; end them, or set uninstall.policy to Force");
            tell(ctx, runtime, &views, Say::not_ready("PodsRunning", message)).await?;
            return Ok(Action::requeue(AGAIN));
        }
    }
    let budget = runtime.spec.update.budget(views.len());
    let outcome = plan(&Policy { budget, ..Policy::default() }, &views);
    for step in &outcome.steps {
        match step {
            Step::Clean { node } => clean(ctx, &name, node, force).await?,
            Step::Forget { node } => forget(ctx, node).await?,
            Step::Assign { .. } | Step::Try { .. } => {}
        }
    }
    for view in views.iter().filter(|v| force && !v.alive) {
        forget(ctx, &view.name).await?;
    }
    if ctx.own_nodes(&name).is_empty() && outcome.steps.is_empty() {
        return finish(ctx, runtime).await;
    }
    let stuck = |v: &&NodeView| {
        v.current.as_ref().is_some_and(|c| c.settled && matches!(c.phase, Phase::Failed | Phase::Blocked))
    };
    let stuck: Vec<String> = views
        .iter()
        .filter(stuck)
        .map(|v| format!("{}: {}", v.name, v.current.as_ref().map(|c| c.message.clone()).unwrap_or_default()))
        .collect();
    let say = match stuck.is_empty() {
        true => Say::not_ready("Uninstalling", format!("{} nodes are still to be cleaned", views.len())),
        false => Say::not_ready("UninstallBlocked", stuck.join("; ")),
    };
    tell(ctx, runtime, &views, say).await?;
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

async fn tell(ctx: &Context, runtime: &CocoonRuntime, views: &[NodeView], say: Say) -> Result<(), Error> {
    let old = runtime.status.clone().unwrap_or_default();
    let status = CocoonRuntimeStatus {
        nodes: report::counts(views, &old.revisions.target),
        failing: report::failing(views),
        ..old
    };
    report::write(ctx, runtime, status, &[say]).await
}

/// Has a node cleaned by the process that is there.
///
/// # Errors
/// Of the API server.
pub async fn clean(ctx: &Context, runtime: &str, node: &str, force: bool) -> Result<(), Error> {
    let Some(own) = ctx.own_node(node) else { return Ok(()) };
    let spec = &own.spec;
    nodes::wish(ctx, runtime, node, &spec.revision, &spec.settings, WantedState::Absent, force).await
}

/// Takes what the operator put on a node's object away, and the process with it.
///
/// # Errors
/// Of the API server.
pub async fn forget(ctx: &Context, node: &str) -> Result<(), Error> {
    if let Some(object) = ctx.node(node) {
        nodes::sync(ctx, &object, None).await?;
    }
    let api = Api::<cocoon_cluster_api::CocoonNode>::all(ctx.client.clone());
    gone(api.delete(node, &DeleteParams::default()).await)
}

/// That it is gone already is fine.
pub fn gone<T>(result: Result<T, kube::Error>) -> Result<(), Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop).map_err(Error::from),
    }
}

/// Confidential pods that have not ended, as `namespace/name`.
async fn running(ctx: &Context, runtime: &CocoonRuntime) -> Result<Vec<String>, Error> {
    let mut names: BTreeSet<String> = classes::of(&runtime.spec).into_iter().map(|(name, _)| name).collect();
    names.extend(runtime.status.iter().flat_map(|s| s.classes.clone()));
    let api: Api<Pod> = Api::all(ctx.client.clone());
    let mut params = ListParams::default().limit(PAGE).fields("status.phase!=Succeeded,status.phase!=Failed");
    let mut found = Vec::new();
    loop {
        let page = api.list(&params).await?;
        let of_ours = |pod: &&Pod| {
            pod.spec.as_ref().and_then(|s| s.runtime_class_name.as_ref()).is_some_and(|c| names.contains(c))
        };
        found.extend(
            page.items
                .iter()
                .filter(of_ours)
                .map(|p| format!("{}/{}", p.namespace().unwrap_or_default(), p.name_any())),
        );
        match page.metadata.continue_.filter(|c| !c.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// Nothing is left on nodes: the rest goes, and the resource with it.
async fn finish(ctx: &Context, runtime: &CocoonRuntime) -> Result<Action, Error> {
    let name = runtime.name_any();
    let sets = Api::<k8s_openapi::api::apps::v1::DaemonSet>::namespaced(ctx.client.clone(), &ctx.namespace);
    for set in ctx.own_sets(&name) {
        gone(sets.delete(&set.name_any(), &DeleteParams::default()).await)?;
    }
    let classes = Api::<k8s_openapi::api::node::v1::RuntimeClass>::all(ctx.client.clone());
    for class in ctx.own_classes(&name) {
        gone(classes.delete(&class.name_any(), &DeleteParams::default()).await)?;
    }
    let api: Api<CocoonRuntime> = Api::all(ctx.client.clone());
    let kept: Vec<&String> = runtime.finalizers().iter().filter(|f| *f != FINALIZER).collect();
    // With the version: a finalizer that someone added meanwhile is not lost.
    let patch = json!({"metadata": {"finalizers": kept, "resourceVersion": runtime.resource_version()}});
    gone(api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await)?;
    Ok(Action::await_change())
}
