//! A pod that tries a new revision on one node.
//!
//! It carries no plan. A production guest must therefore refuse it, by `INITDATA-MISSING`: an answer that only a guest gives that
//! booted, whose shim reached it, and whose refusal came back through containerd. A developer guest runs it instead.

use std::sync::Arc;

use cocoon_cluster_api::{CANARY_LABEL, CocoonNode, RUNTIME_LABEL, labels};
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};

use super::daemonset::Revision;
use super::deadline::{cut, words};
use crate::{Context, Error};

/// What a guest without a plan answers.
const ANSWER: &str = "INITDATA-MISSING";

/// So often a sandbox may fail to start: once may be a network plug-in that was slow.
const ATTEMPTS: i32 = 3;

/// How a trial is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Under way; to be looked at again after these seconds.
    Running(u64),
    /// The guest answered.
    Passed,
    /// It did not.
    Failed(String),
}

/// The pod's name.
pub fn name(runtime: &str, revision: &str) -> String {
    format!("cocoon-canary-{runtime}-{revision}")
}

fn object(
    ctx: &Context,
    owner: &Value,
    runtime: &str,
    revision: &Revision,
    class: &str,
    node: &str,
) -> Value {
    let mut own = labels("canary", runtime);
    own.insert(RUNTIME_LABEL.into(), runtime.into());
    own.insert(CANARY_LABEL.into(), revision.name.clone());
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name(runtime, &revision.name), "namespace": ctx.namespace, "labels": own, "ownerReferences": [owner]},
        "spec": {
            "runtimeClassName": class,
            // The scheduler places it, not this: kubelet refuses for good what it has no slot for yet.
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]},
            ]}}},
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 1,
            "tolerations": [{"operator": "Exists"}],
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "canary", "image": revision.image, "imagePullPolicy": "IfNotPresent", "args": ["--version"],
                "resources": {"requests": {"cpu": "1m", "memory": "16Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

/// Begins a trial, or looks how it is. A trial that is over is removed.
///
/// # Errors
/// Of the API server.
pub async fn run(
    ctx: &Context,
    owner: &Value,
    runtime: &str,
    revision: &Revision,
    node: &CocoonNode,
    limit: u32,
) -> Result<Trial, Error> {
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), &ctx.namespace);
    let name = name(runtime, &revision.name);
    let Some(pod) = ctx.pods.find(|p| p.name_any() == name) else {
        let classes = node.status.as_ref().map(|s| s.classes.clone()).unwrap_or_default();
        let Some(class) = classes.iter().find(|c| *c == "cocoon").or(classes.first()) else {
            return Ok(Trial::Failed(format!(
                "node {} says that it is ready, and has no class",
                node.name_any()
            )));
        };
        let object = object(ctx, owner, runtime, revision, class, &node.name_any());
        let pod: Pod = serde_json::from_value(object).map_err(|e| Error::Own(e.to_string()))?;
        match api.create(&PostParams::default(), &pod).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => drop(other?),
        }
        return Ok(Trial::Running(limit.into()));
    };
    if pod.metadata.deletion_timestamp.is_some() {
        return Ok(Trial::Running(limit.into()));
    }
    let uid = pod.uid();
    let troubles = ctx.troubles.state_filter(|e| e.involved_object.uid == uid);
    let trial = judge(&pod, &troubles, limit, Timestamp::now());
    if !matches!(trial, Trial::Running(_)) {
        api.delete(&name, &DeleteParams::default()).await?;
    }
    Ok(trial)
}

/// Looks at the pod, and at what kubelet says of its sandbox, which is in Events alone: a VM that does not boot is none.
fn judge(pod: &Pod, troubles: &[Arc<Event>], limit: u32, now: Timestamp) -> Trial {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.container_statuses.unwrap_or_default();
    let mut said: Vec<String> = Vec::new();
    for state in containers.iter().flat_map(|c| [&c.state, &c.last_state]).flatten() {
        said.extend(words(state));
    }
    said.extend(status.message);
    let mut attempts = 0;
    for trouble in troubles {
        attempts += trouble.count.unwrap_or(1).max(1);
        said.extend(trouble.message.as_deref().map(|m| cut(m).to_owned()));
    }
    if status.phase.as_deref() == Some("Succeeded") || said.iter().any(|s| s.contains(ANSWER)) {
        return Trial::Passed;
    }
    let why = said.pop();
    if status.phase.as_deref() == Some("Failed") {
        return Trial::Failed(format!("the canary pod failed: {}", why.unwrap_or("nobody says why".into())));
    }
    if attempts >= ATTEMPTS {
        let why = why.unwrap_or_default();
        return Trial::Failed(format!("the canary pod did not start {attempts} times: {why}"));
    }
    let since = pod.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    let passed = u64::try_from(now.duration_since(since).as_secs()).unwrap_or(0);
    match u64::from(limit).saturating_sub(passed) {
        0 => {
            let why = why.unwrap_or("its guest did not answer".into());
            Trial::Failed(format!("the canary pod took longer than {limit} seconds: {why}"))
        }
        left => Trial::Running(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(status: Value, age: i64) -> Trial {
        let pod =
            json!({"metadata": {"name": "c", "creationTimestamp": "2026-01-01T00:00:00Z"}, "status": status});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let now = pod.metadata.creation_timestamp.as_ref().unwrap().0.as_second() + age;
        judge(&pod, &[], 60, Timestamp::from_second(now).unwrap())
    }

    #[test]
    fn a_guest_that_refuses_for_want_of_a_plan_is_alive() {
        let message = "failed to create task: INITDATA-MISSING: …";
        let waiting = json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "RunContainerError", "message": message}}}]});
        assert_eq!(trial(waiting, 5), Trial::Passed);
        let ended = json!({"phase": "Failed", "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"terminated": {"exitCode": 128, "reason": "StartError", "message": message}}}]});
        assert_eq!(trial(ended, 5), Trial::Passed);
        assert_eq!(trial(json!({"phase": "Succeeded"}), 5), Trial::Passed);
    }

    #[test]
    fn silence_and_other_failures_are_not() {
        assert_eq!(trial(json!({"phase": "Pending"}), 20), Trial::Running(40));
        assert!(
            matches!(trial(json!({"phase": "Pending"}), 61), Trial::Failed(why) if why.contains("60 seconds"))
        );
        let ended = json!({"phase": "Failed", "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"terminated": {"exitCode": 128, "reason": "StartError", "message": "no QEMU"}}}]});
        assert!(matches!(trial(ended, 5), Trial::Failed(why) if why.contains("no QEMU")));
    }

    #[test]
    fn a_sandbox_that_does_not_start_is_told_by_events_alone() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "c", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"phase": "Pending", "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}]}}))
        .unwrap();
        let now = pod.metadata.creation_timestamp.as_ref().unwrap().0;
        let event = |message: &str, count: i32| -> Arc<Event> {
            let value = json!({"metadata": {}, "involvedObject": {}, "message": message, "count": count});
            Arc::new(serde_json::from_value(value).unwrap())
        };
        let failed = event("Failed to create pod sandbox: BOOT-GUEST-EXITED", 1);
        assert_eq!(judge(&pod, std::slice::from_ref(&failed), 60, now), Trial::Running(60));
        let thrice = [failed, event("Failed to create pod sandbox: BOOT-GUEST-EXITED: again", 2)];
        assert!(
            matches!(judge(&pod, &thrice, 60, now), Trial::Failed(why) if why.contains("BOOT-GUEST-EXITED: again"))
        );
        assert_eq!(judge(&pod, &[event("INITDATA-MISSING", 1)], 60, now), Trial::Passed);
    }
}
