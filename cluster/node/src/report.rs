//! What the node's process says in its CocoonNode.

use cocoon_cluster_api::{
    CocoonNode, CocoonNodeStatus, ConditionKind, NODE_MANAGER, Phase, WantedState, condition, set_condition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::protocol::{Outcome, Reply, State};
use crate::source::may_mend;

/// The code of a node on which what is asked for is not possible.
const UNSUPPORTED: &str = "HOST-UNSUPPORTED";
/// The code of pods that run.
const BUSY: &str = "NODE-BUSY";

/// Phase, code and message of an outcome.
pub fn said(wanted: WantedState, reply: &Reply) -> (Phase, Option<String>, String) {
    let state = &reply.state;
    match (&reply.outcome, wanted) {
        (Outcome::Done { .. }, WantedState::Installed) => {
            let message = format!("classes {}", state.classes.join(", "));
            (Phase::Ready, None, message)
        }
        (Outcome::Done { notes, .. }, WantedState::Absent) => {
            let kept: Vec<&str> =
                notes.iter().map(String::as_str).filter(|n| n.contains("was left")).collect();
            let message = match kept.is_empty() {
                true => "every file is as it was before".to_owned(),
                false => kept.join("; "),
            };
            (Phase::Removed, None, message)
        }
        (Outcome::Failed { code, reason }, wanted) => {
            let phase = match (code.as_str(), wanted) {
                (UNSUPPORTED, WantedState::Installed) => Phase::Unsupported,
                (BUSY, WantedState::Absent) => Phase::Blocked,
                // Someone else is at it, by hand; soon it is our turn.
                (BUSY, WantedState::Installed) => Phase::Installing,
                (code, WantedState::Installed) if may_mend(code) => Phase::Installing,
                _ => Phase::Failed,
            };
            let mut message = reason.clone();
            if wanted == WantedState::Installed && state.version.is_some() {
                message.push_str("; what was installed before stays in use");
            }
            (phase, Some(code.clone()), message)
        }
    }
}

/// Writes status, where it differs from what the resource has.
#[derive(Clone)]
pub struct Reporter {
    api: Api<CocoonNode>,
    revision: String,
}

impl Reporter {
    /// For the process of `revision`.
    pub fn new(client: Client, revision: &str) -> Self {
        Reporter { api: Api::all(client), revision: revision.to_owned() }
    }

    /// Says how far the node is.
    ///
    /// # Errors
    /// Of the API server.
    pub async fn say(
        &self,
        node: &CocoonNode,
        phase: Phase,
        code: Option<String>,
        message: &str,
        state: &State,
        healed: u32,
    ) -> Result<(), kube::Error> {
        let old = node.status.clone().unwrap_or_default();
        let generation = node.metadata.generation;
        let mut conditions = old.conditions.clone();
        let reason = code.as_deref().map_or_else(|| format!("{phase:?}"), words);
        let ready = phase == Phase::Ready;
        let now = Time(Timestamp::now());
        set_condition(
            &mut conditions,
            condition(ConditionKind::Ready, ready, &reason, message, generation, now),
        );
        let status = CocoonNodeStatus {
            observed_generation: generation,
            phase,
            revision: self.revision.clone(),
            version: state.version.clone(),
            older_versions: state.older.clone(),
            containerd: state.containerd.clone(),
            classes: state.classes.clone(),
            labels: state.labels.clone(),
            slots: state.slots,
            running_pods: state.pods,
            healed,
            code,
            message: message.to_owned(),
            conditions,
        };
        if status == old {
            return Ok(());
        }
        let object = json!({"apiVersion": "cocoon.dev/v1alpha1", "kind": "CocoonNode", "status": status});
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let params = PatchParams::apply(NODE_MANAGER).force();
        self.api.patch_status(name, &params, &Patch::Apply(&object)).await.map(drop)
    }
}

/// `NODE-CONFIG-REFUSED` as a condition's reason: `NodeConfigRefused`.
fn words(code: &str) -> String {
    code.split('-')
        .map(|word| {
            let mut letters = word.chars();
            let first = letters.next().map(|c| c.to_ascii_uppercase());
            first.into_iter().chain(letters.map(|c| c.to_ascii_lowercase())).collect::<String>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: &str) -> Reply {
        let outcome = Outcome::Failed { code: code.into(), reason: "why".into() };
        Reply { outcome, state: State::default() }
    }

    #[test]
    fn an_outcome_has_a_phase() {
        let installed = |reply: &Reply| said(WantedState::Installed, reply).0;
        let absent = |reply: &Reply| said(WantedState::Absent, reply).0;
        assert_eq!(installed(&Reply::default()), Phase::Ready);
        assert_eq!(absent(&Reply::default()), Phase::Removed);
        assert_eq!(installed(&failed("HOST-UNSUPPORTED")), Phase::Unsupported);
        assert_eq!(installed(&failed("NODE-BUSY")), Phase::Installing);
        assert_eq!(installed(&failed("IMAGE-NOT-FOUND")), Phase::Installing, "a registry may have it later");
        assert_eq!(installed(&failed("IMAGE-DIGEST-MISMATCH")), Phase::Failed);
        assert_eq!(absent(&failed("NODE-BUSY")), Phase::Blocked);
        assert_eq!(absent(&failed("NODE-INSTALL-FAILED")), Phase::Failed);
    }

    #[test]
    fn a_failed_upgrade_says_what_is_still_in_use() {
        let mut reply = failed("NODE-CONFIG-REFUSED");
        reply.state.version = Some("1-a".into());
        let (phase, code, message) = said(WantedState::Installed, &reply);
        assert_eq!((phase, code.as_deref()), (Phase::Failed, Some("NODE-CONFIG-REFUSED")));
        assert!(message.contains("stays in use"));
        assert_eq!(words("NODE-CONFIG-REFUSED"), "NodeConfigRefused");
    }
}
