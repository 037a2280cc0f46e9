//! What a Trustee's status says.

use cocoon_cluster_api::{ConditionKind, Trustee, TrusteeStatus, condition, set_condition};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use kube::runtime::controller::Action;

use super::objects::{self, Names};
use super::{Shared, write_status};
use crate::Error;

/// Pods that are looked at for the reason why a replica does not answer.
const PODS: u32 = 32;

/// Says how far the Deployment is, and if it does not get on, why.
///
/// # Errors
/// Of the API server.
pub async fn tell(shared: &Shared, trustee: &Trustee, names: &Names, bundle: String) -> Result<(), Error> {
    let ns = trustee.namespace().unwrap_or_default();
    let deployments: Api<Deployment> = Api::namespaced(shared.client.clone(), &ns);
    let live = deployments.get_opt(&names.main).await?;
    let generation = live.as_ref().and_then(|d| d.metadata.generation);
    let seen = live.and_then(|d| d.status).unwrap_or_default();
    let count = |n: Option<i32>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let (ready, wished) = (count(seen.ready_replicas), trustee.spec.replicas);
    let current = seen.observed_generation == generation && count(seen.updated_replicas) >= wished;
    let mut message = format!("{ready} of {wished} replicas answer");
    let complete = ready >= wished && current;
    if !complete {
        if let Some(why) = why(shared, trustee, names).await? {
            message = format!("{message}; {why}");
        } else if ready >= wished {
            message.push_str("; they are being replaced");
        }
    }
    let old = trustee.status.clone().unwrap_or_default();
    let mut status = TrusteeStatus {
        ready_replicas: ready,
        url: Some(objects::url(trustee)),
        ca_bundle: Some(bundle),
        admin_secret: Some(names.admin.clone()),
        ..TrusteeStatus::default()
    };
    let serving = ready > 0;
    let reason = match (serving, wished) {
        (true, _) => "Serving",
        (false, 0) => "NoReplicas",
        (false, _) => "Starting",
    };
    status.conditions.clone_from(&old.conditions);
    let mut set = |kind, holds, reason: &str| {
        let (generation, now) = (trustee.metadata.generation, Time(Timestamp::now()));
        set_condition(
            &mut status.conditions,
            condition(kind, holds, reason, message.clone(), generation, now),
        );
    };
    set(ConditionKind::Ready, serving, reason);
    set(ConditionKind::Progressing, !complete, if complete { "Complete" } else { "Replicas" });
    let short = serving && ready < wished;
    set(ConditionKind::Degraded, short, if short { "ReplicasMissing" } else { "AsAsked" });
    write(shared, trustee, status).await
}

/// Says what is waited for; whatever it is, it is watched.
///
/// # Errors
/// Of the API server.
pub async fn wait(
    shared: &Shared,
    trustee: &Trustee,
    reason: &str,
    message: String,
) -> Result<Action, Error> {
    let mut status = trustee.status.clone().unwrap_or_default();
    let (generation, now) = (trustee.metadata.generation, Time(Timestamp::now()));
    set_condition(
        &mut status.conditions,
        condition(ConditionKind::Ready, false, reason, message, generation, now),
    );
    write(shared, trustee, status).await?;
    Ok(Action::await_change())
}

async fn write(shared: &Shared, trustee: &Trustee, mut status: TrusteeStatus) -> Result<(), Error> {
    status.observed_generation = trustee.metadata.generation;
    if trustee.status.as_ref() == Some(&status) {
        return Ok(());
    }
    write_status(shared, trustee, &status).await
}

/// Why a replica does not answer, where that can be seen: its volume, or what a container of it says.
async fn why(shared: &Shared, trustee: &Trustee, names: &Names) -> Result<Option<String>, Error> {
    let ns = trustee.namespace().unwrap_or_default();
    if objects::has_volume(&trustee.spec) {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(shared.client.clone(), &ns);
        let phase = claims.get_opt(&names.volume).await?.and_then(|c| c.status?.phase);
        if phase.as_deref() == Some("Lost") {
            return Ok(Some(format!("the volume of claim {} is lost", names.volume)));
        }
        if phase.as_deref() != Some("Bound") {
            return Ok(Some(format!(
                "claim {} has no volume yet: is there a storage class, or a volume that fits?",
                names.volume
            )));
        }
    }
    let pods: Api<Pod> = Api::namespaced(shared.client.clone(), &ns);
    let list = ListParams::default().labels(&objects::selector(trustee)).limit(PODS);
    Ok(pods.list(&list).await?.iter().find_map(trouble))
}

/// What keeps a pod from running.
fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let name = pod.name_any();
    for container in status.container_statuses.iter().flatten() {
        let last = container.last_state.as_ref().and_then(|s| s.terminated.as_ref());
        let now = container.state.as_ref();
        let ended = last.or_else(|| now.and_then(|s| s.terminated.as_ref()));
        if let Some(ended) = ended.filter(|_| !container.ready) {
            let words = ended.message.as_deref().unwrap_or_default().trim();
            let words: String = words.chars().rev().take(400).collect::<Vec<_>>().into_iter().rev().collect();
            return Some(format!("{name} ended with {}: {words}", ended.exit_code));
        }
        if let Some(waiting) = now.and_then(|s| s.waiting.as_ref())
            && let Some(reason) = waiting.reason.as_deref().filter(|r| *r != "ContainerCreating")
        {
            let words = waiting.message.as_deref().unwrap_or_default();
            return Some(format!("{name}: {reason} {}", words.chars().take(400).collect::<String>()));
        }
    }
    let unplaced =
        status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    unplaced.map(|c| format!("{name}: {}", c.message.clone().unwrap_or_default()))
}
