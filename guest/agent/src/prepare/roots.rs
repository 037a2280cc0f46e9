//! Root file systems: each container's first one is made ahead of time, those of its later instances when they are asked
//! for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use cocoon_plan::{ContainerPlan, Plan};
use cocoon_stage::{Code, Failure};
use tokio::sync::watch;

use super::job::Pull;
use super::{Backend, Documents, Slot};
use crate::events::Events;

/// The root file systems of a pod.
pub(super) struct Roots {
    containers: Mutex<BTreeMap<String, ContainerPlan>>,
    /// What is made ahead of time, by container.
    pub(super) first: BTreeMap<String, Slot<PathBuf>>,
    pub(super) documents: Option<Slot<Documents>>,
    pub(super) backend: watch::Receiver<Option<Backend>>,
    pub(super) folder: PathBuf,
    pub(super) events: Events,
    taken: Mutex<BTreeSet<String>>,
    number: AtomicU64,
}

impl Roots {
    pub(super) fn new(
        plan: &Plan,
        first: BTreeMap<String, Slot<PathBuf>>,
        documents: Option<Slot<Documents>>,
        backend: watch::Receiver<Option<Backend>>,
        folder: &Path,
        events: Events,
    ) -> Self {
        Roots {
            containers: Mutex::new(plan.containers.iter().map(|c| (c.name.clone(), c.clone())).collect()),
            first,
            documents,
            backend,
            folder: folder.to_owned(),
            events,
            taken: Mutex::default(),
            number: AtomicU64::new(1),
        }
    }

    /// The container's first root, where nobody has taken it yet; from then on it is taken, even where it fails.
    pub(super) fn take_first(&self, name: &str) -> Option<Slot<PathBuf>> {
        let slot = self.first.get(name)?;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.insert(name.to_owned()).then(|| slot.clone())
    }

    /// Adds a container, in place of one of the same name.
    pub(super) fn add(&self, container: ContainerPlan) {
        let mut containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        containers.insert(container.name.clone(), container);
    }

    /// Makes another root.
    ///
    /// # Errors
    /// A refusal of a container that the plan lacks; `IMAGE-…`.
    pub(super) async fn make(&self, name: &str) -> Result<PathBuf, Failure> {
        let container = self.containers.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let container = container
            .ok_or_else(|| Failure::new(Code::PlanRequestRefused, format!("no container {name:?}")))?;
        let lost = || Failure::new(Code::Internal, "the preparation ended without a result");
        let mut backend = self.backend.clone();
        let backend = backend.wait_for(Option::is_some).await.map_err(|_| lost())?.clone();
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let pull = Pull {
            images: backend.ok_or_else(lost)?.images,
            documents: self.documents.clone(),
            // No name holds an `@`.
            rootfs: self.folder.join(format!("{name}@{number}")),
            events: self.events.clone(),
            container,
        };
        pull.run().await
    }

    /// Gives a root back that was not used; the first one can be taken again.
    pub(super) async fn give_back(&self, name: &str, rootfs: &Path) {
        if rootfs == self.folder.join(name) {
            self.untake(name);
        } else {
            self.remove(name, rootfs, true).await;
        }
    }

    pub(super) fn untake(&self, name: &str) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Takes a root away. `again` says whether the container may run again.
    pub(super) async fn remove(&self, name: &str, rootfs: &Path, again: bool) {
        let backend = self.backend.borrow().clone();
        if let Some(backend) = backend {
            backend.images.remove(name, rootfs, again).await;
        }
    }
}
