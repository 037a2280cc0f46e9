//! What controllers share: the client, the caches, and what is remembered between passes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cocoon_cluster_api::{CocoonNode, CocoonRuntime, Phase, RUNTIME_LABEL};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use tracing::warn;

use crate::Error;
use crate::health::Metrics;
use crate::runtime::backoff::Failures;
use crate::watch::{Ticks, cache};

/// What controllers share.
pub struct Context {
    /// The client.
    pub client: Client,
    /// The operator's namespace.
    pub namespace: String,
    /// The image that is used where a resource names none.
    pub image: String,
    /// What is counted.
    pub metrics: Metrics,
    /// Something that the controllers look at has changed.
    pub ticks: Ticks,
    /// Nodes, trimmed.
    pub nodes: Store<Node>,
    /// What nodes were asked for, and came to.
    pub cocoon_nodes: Store<CocoonNode>,
    /// All CocoonRuntimes.
    pub runtimes: Store<CocoonRuntime>,
    /// Nodes' processes.
    pub sets: Store<DaemonSet>,
    /// RuntimeClasses of the operator's.
    pub classes: Store<RuntimeClass>,
    /// Canary pods, and those of nodes' processes, trimmed.
    pub pods: Store<Pod>,
    /// Events of pods in the operator's namespace whose sandbox did not start, trimmed.
    pub troubles: Store<k8s_openapi::api::core::v1::Event>,
    /// Failures in a row.
    pub failures: Failures,
    recorder: Recorder,
    told: Mutex<HashMap<String, (Phase, u32)>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    /// Begins to watch, and waits until the caches are filled; that of `runtimes` is its controller's.
    ///
    /// # Errors
    /// Where a cache can never be filled.
    pub async fn start(
        client: Client,
        namespace: &str,
        image: &str,
        identity: &str,
        metrics: Metrics,
        runtimes: Store<CocoonRuntime>,
    ) -> Result<Self, Error> {
        let ticks = Ticks::default();
        let every = watcher::Config::default();
        let ours = every.clone().labels(RUNTIME_LABEL);
        let reporter = Reporter { controller: "cocoon-operator".into(), instance: Some(identity.into()) };
        let context = Context {
            nodes: cache(Api::all(client.clone()), every.clone(), &ticks, crate::runtime::trim_node),
            cocoon_nodes: cache(Api::all(client.clone()), every, &ticks, |_| ()),
            runtimes,
            sets: cache(
                Api::namespaced(client.clone(), namespace),
                ours.clone(),
                &ticks,
                |set: &mut DaemonSet| {
                    set.status = None;
                },
            ),
            classes: cache(Api::all(client.clone()), ours, &ticks, |_| ()),
            pods: cache(
                Api::namespaced(client.clone(), namespace),
                watcher::Config::default().labels(RUNTIME_LABEL),
                &ticks,
                crate::runtime::trim_pod,
            ),
            troubles: cache(
                Api::namespaced(client.clone(), namespace),
                watcher::Config::default().fields("type=Warning,reason=FailedCreatePodSandBox"),
                &ticks,
                crate::runtime::trim_event,
            ),
            recorder: Recorder::new(client.clone(), reporter),
            client,
            namespace: namespace.to_owned(),
            image: image.to_owned(),
            metrics,
            ticks,
            failures: Failures::default(),
            told: Mutex::default(),
        };
        let lost = |_| Error::Own("a watch ended".into());
        context.nodes.wait_until_ready().await.map_err(lost)?;
        context.cocoon_nodes.wait_until_ready().await.map_err(lost)?;
        context.sets.wait_until_ready().await.map_err(lost)?;
        context.classes.wait_until_ready().await.map_err(lost)?;
        context.troubles.wait_until_ready().await.map_err(lost)?;
        context.pods.wait_until_ready().await.map_err(lost)?;
        Ok(context)
    }

    /// A node.
    pub fn node(&self, name: &str) -> Option<Arc<Node>> {
        self.nodes.get(&ObjectRef::new(name))
    }

    /// What a node was asked for, and came to.
    pub fn own_node(&self, name: &str) -> Option<Arc<CocoonNode>> {
        self.cocoon_nodes.get(&ObjectRef::new(name))
    }

    /// The same for all nodes of a runtime.
    pub fn own_nodes(&self, runtime: &str) -> Vec<Arc<CocoonNode>> {
        self.cocoon_nodes.state_filter(|n| n.spec.runtime == runtime)
    }

    /// Daemon sets of a runtime.
    pub fn own_sets(&self, runtime: &str) -> Vec<Arc<DaemonSet>> {
        self.sets.state_filter(|s| s.labels().get(RUNTIME_LABEL).is_some_and(|r| r == runtime))
    }

    /// RuntimeClasses of a runtime.
    pub fn own_classes(&self, runtime: &str) -> Vec<Arc<RuntimeClass>> {
        self.classes.state_filter(|c| c.labels().get(RUNTIME_LABEL).is_some_and(|r| r == runtime))
    }

    /// Another CocoonRuntime that was there first, if any.
    pub fn older_than(&self, runtime: &CocoonRuntime) -> Option<String> {
        let age = |r: &CocoonRuntime| (r.metadata.creation_timestamp.clone().map(|t| t.0), r.name_any());
        let own = age(runtime);
        self.runtimes.state().iter().filter(|r| age(r) < own).map(|r| r.name_any()).min()
    }

    /// Publishes an Event. That it could not be published changes nothing.
    pub async fn event(&self, about: &ObjectReference, bad: bool, reason: &str, note: &str) {
        let end = (0..=1000.min(note.len())).rev().find(|n| note.is_char_boundary(*n)).unwrap_or(0);
        let event = Event {
            type_: if bad { EventType::Warning } else { EventType::Normal },
            reason: reason.into(),
            note: note.get(..end).map(str::to_owned),
            action: "Reconcile".into(),
            secondary: None,
        };
        if let Err(e) = self.recorder.publish(&event, about).await {
            warn!(reason, "an Event could not be published: {e}");
        }
    }

    /// Publishes an Event where a node has got better or worse since it was last looked at, or was healed.
    pub async fn tell_of_node(&self, node: &CocoonNode) {
        let Some(status) = &node.status else { return };
        let now = (status.phase, status.healed);
        let before = held(&self.told).insert(node.name_any(), now);
        if before == Some(now) {
            return;
        }
        let about = node.object_ref(&());
        if before.is_some_and(|(_, healed)| status.healed > healed) {
            self.event(&about, true, "Healed", "files of Cocoon that someone had changed were put right")
                .await;
        }
        let bad = matches!(status.phase, Phase::Failed | Phase::Blocked);
        // After a restart of the operator nobody wants to hear again that all is well.
        if before.map(|(phase, _)| phase) != Some(status.phase) && (before.is_some() || bad) {
            let note = match &status.code {
                Some(code) => format!("{code}: {}", status.message),
                None => status.message.clone(),
            };
            self.event(&about, bad, &format!("{:?}", status.phase), &note).await;
        }
    }
}
