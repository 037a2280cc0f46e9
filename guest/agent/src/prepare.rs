//! What happens between configuration and the first container: attest, fetch secrets, pull images, concurrently
//! where the plan lets them be.
//!
//! Manifest and layers of an image that is pinned by digest need no secret to be pulled, so pulling begins
//! together with attestation; an encrypted layer waits for its key inside the puller, and an image that needs
//! registry credentials waits for them here. A container waits for both: its image and *all* secrets.

mod again;
mod job;
mod roots;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use cocoon_plan::pod::ContainerKind;
use cocoon_plan::sealed::SealedPlan;
use cocoon_plan::{ContainerPlan, Plan};
use cocoon_stage::{Code, Failure};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::container::SecretFile;
use crate::events::Events;
use crate::volumes::{Keys, Place};
use again::{Again, is_passing};
use job::Job;
use roots::Roots;

/// Secret bytes, shared by those who may read them.
pub type Secret = Arc<Zeroizing<Vec<u8>>>;

/// Trustee, as the guest's preparation sees it.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// Proves what this guest is.
    ///
    /// # Errors
    /// `ATTEST-…`.
    async fn attest(&self) -> Result<(), Failure>;

    /// The secret of this `kbs:///…` URI.
    ///
    /// # Errors
    /// `RELEASE-…`, `FETCH-…`.
    async fn resource(&self, uri: &str) -> Result<Secret, Failure>;

    /// What a sealed secret stands for, where it is signed by the plan's signer and stands for the plan's resource.
    ///
    /// # Errors
    /// `SECRET-UNSEAL-FAILED`, `RELEASE-…`, `FETCH-…`.
    async fn unseal(&self, _sealed: &[u8], _plan: &SealedPlan) -> Result<Secret, Failure> {
        Err(Failure::new(Code::SecretUnsealFailed, "this guest knows no Trustee"))
    }

    /// Tells the workload's owner what failed, past the host; gives the id under which it is kept, if it was taken.
    async fn report(&self, _failure: &Failure) -> Option<String> {
        None
    }

    /// Serves the workload's REST endpoint, for these paths (`repository/type/tag`) only, until the VM ends; with
    /// `/aa/…` where `attestation` says so.
    ///
    /// # Errors
    /// Where it cannot listen.
    async fn serve_rest(&self, allowed: BTreeSet<String>, attestation: bool) -> Result<(), Failure>;
}

/// What of Trustee's resources decides how images are taken. Each is there where the plan names it.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// The text of an `auth.json`.
    pub auth: Option<Secret>,
    /// A signature policy.
    pub policy: Option<Secret>,
}

/// Image delivery, as the guest's preparation sees it.
#[async_trait]
pub trait Images: Send + Sync {
    /// Makes the container's root file system of its image, checked against the plan, at `rootfs`, which does not exist
    /// yet.
    ///
    /// # Errors
    /// `IMAGE-…`.
    async fn deliver(
        &self,
        container: &ContainerPlan,
        rootfs: &Path,
        documents: Documents,
    ) -> Result<(), Failure>;

    /// Where the plan's space is.
    ///
    /// # Errors
    /// `IMAGE-SCRATCH-FAILED`.
    async fn space(&self) -> Result<Place, Failure>;

    /// Takes a container's root file system away, which no process uses any more. `again` says that another may be asked
    /// for: what it takes to make that is kept.
    async fn remove(&self, container: &str, rootfs: &Path, again: bool);
}

/// Both, as they are found on this platform.
#[derive(Clone)]
pub struct Backend {
    /// Trustee.
    pub secrets: Arc<dyn Secrets>,
    /// Registries.
    pub images: Arc<dyn Images>,
}

/// What the preparation has come to, as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// At work.
    Started,
    /// Trustee accepted the guest.
    Attested,
    /// All secrets and images are there.
    Ready,
    /// Something failed; this is the first failure.
    Failed(Failure),
}

type Slot<T> = watch::Receiver<Option<Result<T, Failure>>>;
type Sender<T> = watch::Sender<Option<Result<T, Failure>>>;

/// A preparation under way.
pub struct Preparation {
    files: Slot<Arc<Vec<SecretFile>>>,
    roots: Roots,
    again: Arc<Again>,
    progress: watch::Receiver<Progress>,
    backend: watch::Receiver<Option<Backend>>,
}

impl std::fmt::Debug for Preparation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Preparation").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

impl Preparation {
    /// Begins, in the background. `images` is the folder in which each container's image gets its folder.
    pub fn start(
        plan: &Plan,
        backend: impl Future<Output = Result<Backend, Failure>> + Send + 'static,
        images: &Path,
        events: Events,
    ) -> Self {
        let (progress, progress_seen) = watch::channel(Progress::Started);
        let (files, files_seen) = watch::channel(None);
        // Who knows whether an ephemeral container is ever asked for.
        let ahead = plan.containers.iter().filter(|c| c.kind != ContainerKind::Ephemeral);
        let (senders, receivers): (Vec<_>, BTreeMap<_, _>) = ahead
            .map(|c| {
                let (sender, receiver) = watch::channel(None);
                ((c.clone(), sender), (c.name.clone(), receiver))
            })
            .unzip();
        let (found, found_seen) = watch::channel(None);
        let (documents, documents_seen) = watch::channel(None);
        let wanted = plan.registry_auth.is_some() || plan.images.policy_uri.is_some();
        let documents_seen = wanted.then_some(documents_seen);
        let roots =
            Roots::new(plan, receivers, documents_seen.clone(), found_seen.clone(), images, events.clone());
        let again = Arc::<Again>::default();
        let job = Job {
            plan: plan.clone(),
            folder: images.to_owned(),
            events,
            progress,
            found,
            again: Arc::downgrade(&again),
        };
        tokio::spawn(job.run(backend, files, senders, (documents, documents_seen)));
        Preparation { files: files_seen, roots, again, progress: progress_seen, backend: found_seen }
    }

    /// The failure with the id under which its owner finds the reason, where it could be told to them.
    pub async fn reported(&self, failure: Failure) -> Failure {
        let backend = self.backend.borrow().clone();
        match backend {
            Some(backend) if failure.request_id.is_none() => match backend.secrets.report(&failure).await {
                Some(id) => failure.with_request_id(id),
                None => failure,
            },
            _ => failure,
        }
    }

    /// Adds a container of a guest that runs open; its image is pulled when it is asked for.
    pub fn add(&self, container: ContainerPlan) {
        self.roots.add(container);
    }

    /// Takes the root file system of a removed container away. `again` says whether the container may run again.
    pub async fn remove(&self, container: &str, rootfs: &Path, again: bool) {
        self.roots.remove(container, rootfs, again).await;
    }

    /// Gives a root file system back that was not used.
    pub async fn give_back(&self, container: &str, rootfs: &Path) {
        self.roots.give_back(container, rootfs).await;
    }

    /// Where the plan's space is; waits until it is known who delivers images.
    ///
    /// # Errors
    /// What keeps images from coming.
    pub async fn space(&self) -> Result<Place, Failure> {
        let mut found = self.backend.clone();
        let lost = || Failure::new(Code::Internal, "nothing delivers images");
        let backend = found.wait_for(Option::is_some).await.map_err(|_| lost())?.clone();
        backend.ok_or_else(lost)?.images.space().await
    }

    /// Whom to ask for secrets; waits until it is known.
    ///
    /// # Errors
    /// Where nobody can be asked.
    pub async fn secrets(&self) -> Result<Arc<dyn Secrets>, Failure> {
        let mut found = self.backend.clone();
        let lost = || Failure::new(Code::Internal, "nothing fetches secrets");
        let backend = found.wait_for(Option::is_some).await.map_err(|_| lost())?.clone();
        Ok(backend.ok_or_else(lost)?.secrets)
    }

    /// A resource that the plan names for the guest itself, such as a volume's key.
    ///
    /// # Errors
    /// `ATTEST-…`, `RELEASE-…`, `FETCH-…`.
    pub async fn resource(&self, uri: &str) -> Result<Secret, Failure> {
        self.secrets().await?.resource(uri).await
    }

    /// Where it stands.
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Waits until a container can be built: with a root file system of its own, made of its image, and the pod's secret
    /// files. It is for the caller to give back or remove. Where Trustee could not be reached it is asked again, at most
    /// every 5 s.
    ///
    /// # Errors
    /// What failed: attestation or a secret first, else its image.
    pub async fn container(&self, name: &str) -> Result<(PathBuf, Arc<Vec<SecretFile>>), Failure> {
        self.again.ask();
        let files = settled(self.files.clone());
        // An image that had to wait for what Trustee could not be asked for is made anew.
        let passed = |slot: &Slot<PathBuf>| matches!(&*slot.borrow(), Some(Err(f)) if is_passing(f));
        let Some(first) = self.roots.take_first(name).filter(|slot| !passed(slot)) else {
            let files = files.await?;
            return Ok((self.roots.make(name).await?, files));
        };
        let image = settled(first);
        tokio::pin!(files, image);
        // Whatever fails first is the answer, but where secrets and image both failed the secrets are.
        let files = tokio::select! {
            biased;
            done = &mut files => done.map(|files| (files, None)),
            done = &mut image => match done {
                Ok(image) => files.await.map(|files| (files, Some(image))),
                Err(failure) => return Err(failure),
            },
        };
        match files {
            Ok((files, Some(image))) => Ok((image, files)),
            Ok((files, None)) => Ok((image.await?, files)),
            Err(failure) => {
                self.roots.untake(name);
                Err(failure)
            }
        }
    }
}

#[async_trait]
impl Keys for Preparation {
    async fn key(&self, uri: &str) -> Result<Secret, Failure> {
        self.resource(uri).await
    }
}

async fn settled<T: Clone>(mut slot: Slot<T>) -> Result<T, Failure> {
    let lost = || Failure::new(Code::Internal, "the preparation ended without a result");
    let value = slot.wait_for(Option::is_some).await.map_err(|_| lost())?.clone();
    value.unwrap_or_else(|| Err(lost()))
}

#[cfg(test)]
#[path = "prepare_tests.rs"]
mod tests;
