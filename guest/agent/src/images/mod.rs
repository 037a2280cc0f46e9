//! Makes containers' root file systems of images: pulled and unpacked by the guest, or attached by the host as shared
//! layers that it checks block by block. Either way the root is an overlay: the image's layers below, an empty
//! writable directory above.
//!
//! Whether an image may be taken is decided here, on the name in the plan, before anything stored or attached is used.

mod shared;
mod space;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use cocoon_blockdev::{ModuleSet, Mounted};
use cocoon_image::{Digest, Platform, Reference};
use cocoon_plan::images::{ImageSettings, SharedLayer};
use cocoon_plan::pod::{VolumePlan, VolumeSource};
use cocoon_plan::{ContainerPlan, ImagePlan, Plan};
use cocoon_pull::{Gate, KeyProvider, PullRequest};
use cocoon_registry::Auth;
use cocoon_signature::Subject;
use cocoon_signature::policy::{Policy, Requirement};
use cocoon_signature::simple::SigstoreD;
use cocoon_signatures::Places;
use cocoon_stage::{Code, Failure, Stage};
use tokio::sync::OnceCell;

use crate::events::Events;
use crate::prepare::{Documents, Images, Secrets};
use crate::volumes::Place;

use shared::SharedLayers;
use space::{Space, Writable};

/// The sets of kernel modules that a plan needs beside those that every guest has.
pub(crate) fn module_sets(plan: &Plan) -> Vec<ModuleSet> {
    let layers = || plan.containers.iter().flat_map(|c| c.image.layers.iter().flatten());
    let mut sets = Vec::new();
    if layers().next().is_some() {
        sets.push(ModuleSet::Layers);
    }
    if layers().any(|l| l.key.is_some()) {
        sets.push(ModuleSet::Crypt);
    }
    let encrypted = plan.volumes.iter().any(|v| matches!(v.source, VolumeSource::Encrypted { .. }));
    // What a scratch disk takes is what any encrypted file system takes.
    if encrypted || plan.images.space != cocoon_plan::images::Space::Memory {
        sets.push(ModuleSet::Scratch);
    }
    if plan.images.space != cocoon_plan::images::Space::Memory {
        let limited = |v: &VolumePlan| matches!(v.source, VolumeSource::Scratch { size, .. } if size != 0);
        if plan.volumes.iter().any(limited) {
            sets.push(ModuleSet::Volumes);
        }
    }
    sets
}

/// Image delivery of one pod.
pub(crate) struct Delivery {
    keys: Arc<dyn KeyProvider>,
    /// Whether an image may be named by its tag alone.
    open: bool,
    settings: ImageSettings,
    http: cocoon_http::Client,
    places: Places,
    /// Set up when the first image needs it: a scratch disk takes a moment.
    space: OnceCell<Arc<Space>>,
    shared: SharedLayers,
    /// By where they are mounted.
    roots: Mutex<BTreeMap<PathBuf, Root>>,
    /// The layers of containers that may be asked for again, by container: admitted and unpacked once, they stay where they
    /// are for as long as that is so.
    kept: Mutex<BTreeMap<String, Layers>>,
}

/// A container's root file system. Fields are dropped in this order: the overlay before what it is made of.
struct Root {
    _overlay: Mounted,
    _layers: Layers,
    _writable: Writable,
}

/// The layers of an image that was admitted, topmost first.
#[derive(Clone)]
struct Layers {
    image: ImagePlan,
    paths: Vec<PathBuf>,
    _below: Arc<Below>,
}

/// What keeps layers in their places.
enum Below {
    Pulled { _layers: Vec<cocoon_pull::Layer> },
    Shared { _layers: Vec<Arc<shared::Mount>> },
}

impl Delivery {
    /// `owner` hears of what is wrong with a layer. `loopback` is the address at which the guest reaches the host's loopback.
    ///
    /// # Errors
    /// `IMAGE-POLICY-INVALID` for settings that cannot be used: nothing is taken then.
    pub(crate) fn new(
        keys: Arc<dyn KeyProvider>,
        owner: Arc<dyn Secrets>,
        settings: ImageSettings,
        loopback: Option<IpAddr>,
        events: Events,
        open: bool,
    ) -> Result<Self, Failure> {
        let invalid = |e: String| Failure::new(Code::ImagePolicyInvalid, e).at(Stage::Pull);
        let http = cocoon_registry::http_for_plan(&settings, loopback).map_err(|e| invalid(e.to_string()))?;
        let lookaside = settings.lookaside.as_deref().map(SigstoreD::parse).transpose();
        let places = Places { lookaside: lookaside.map_err(|e| invalid(e.to_string()))?, files: false };
        // What is wrong with the registries is known before any image is asked for.
        cocoon_registry::for_plan(&settings, http.clone(), Auth::anonymous())
            .map_err(|e| invalid(e.to_string()))?;
        Ok(Delivery {
            shared: SharedLayers::new(events, Arc::clone(&keys), owner),
            keys,
            open,
            settings,
            http,
            places,
            space: OnceCell::new(),
            roots: Mutex::default(),
            kept: Mutex::default(),
        })
    }

    async fn opened(&self) -> Result<Arc<Space>, Failure> {
        let kind = self.settings.space;
        let space = self.space.get_or_try_init(|| blocking(move || Space::open(kind).map(Arc::new))).await?;
        Ok(Arc::clone(space))
    }

    /// What the image's signatures must satisfy: the plan's key for this image, and the policy's word on its name.
    fn required(
        &self,
        container: &ContainerPlan,
        reference: &Reference,
        documents: &Documents,
    ) -> Result<Vec<Requirement>, Failure> {
        let mut required = Vec::new();
        if let Some(signature) = &container.image.signature {
            required.push(Requirement::cosign_key(&signature.key_pem).map_err(Failure::from)?);
        }
        let policy = match (&self.settings.policy, &documents.policy) {
            (Some(policy), _) => Some(Policy::parse(policy.to_string().as_bytes())),
            (None, Some(text)) => Some(Policy::parse(text)),
            (None, None) if self.settings.policy_uri.is_some() => {
                return Err(Failure::new(Code::Internal, "the policy was not fetched").at(Stage::Pull));
            }
            (None, None) => None,
        };
        if let Some(policy) = policy {
            required.extend_from_slice(policy.map_err(Failure::from)?.for_image(reference));
        }
        Ok(required)
    }

    fn gate(&self, required: Vec<Requirement>) -> Option<Arc<dyn Gate>> {
        let (http, places) = (self.http.clone(), self.places.clone());
        (!required.is_empty()).then(|| Arc::new(Signatures { http, places, required }) as _)
    }

    fn registry(
        &self,
        reference: &Reference,
        documents: &Documents,
    ) -> Result<cocoon_registry::Client, Failure> {
        let auth = match &documents.auth {
            // Plain HTTP through the host, wherever it says that its loopback is.
            Some(_) if reference.is_loopback() => {
                let reason = "credentials are never sent over plain HTTP";
                return Err(Failure::new(Code::ImageUnauthorized, reason));
            }
            Some(text) => Auth::from_json(&String::from_utf8_lossy(text)).map_err(Failure::from)?,
            None => Auth::anonymous(),
        };
        Ok(cocoon_registry::for_plan(&self.settings, self.http.clone(), auth)?)
    }

    async fn layers(
        &self,
        container: &ContainerPlan,
        documents: &Documents,
    ) -> Result<(Vec<PathBuf>, Below), Failure> {
        let invalid = |e: cocoon_image::Error| Failure::new(Code::PlanInvalid, e.to_string()).at(Stage::Pull);
        let reference: Reference = container.image.reference.parse().map_err(invalid)?;
        let required = self.required(container, &reference, documents)?;
        let registry = self.registry(&reference, documents)?;
        let digest: Digest = if self.open && container.image.digest.is_empty() {
            let (digest, _) = registry.resolve(&reference).await.map_err(Failure::from)?;
            tracing::warn!("{reference} is {digest}, says its registry");
            digest
        } else {
            container.image.digest.parse().map_err(invalid)?
        };
        if let Some(layers) = &container.image.layers {
            return self.attached(&registry, &reference, digest, required, layers).await;
        }
        let space = self.opened().await?;
        let mut request = PullRequest::new(reference, digest);
        request.gate = self.gate(required);
        request.limits.total_bytes = request.limits.total_bytes.min(space.bytes());
        let progress = Arc::new(|_| {});
        let pulled = space.store().pull(request, &registry, self.keys.as_ref(), progress).await?;
        let paths = pulled.layers.iter().map(|l| l.path().to_owned()).collect();
        Ok((paths, Below::Pulled { _layers: pulled.layers }))
    }

    /// The layers that the plan pins by root hash. Their owner has made the hashes of the manifest that the digest
    /// names; so the digest is only needed where a signature over it is asked for.
    async fn attached(
        &self,
        registry: &cocoon_registry::Client,
        reference: &Reference,
        digest: Digest,
        required: Vec<Requirement>,
        layers: &[SharedLayer],
    ) -> Result<(Vec<PathBuf>, Below), Failure> {
        if let Some(gate) = self.gate(required) {
            let (manifest, _) =
                cocoon_pull::manifest(registry, reference, &digest, &Platform::host()).await?;
            let digests = if manifest == digest { vec![digest] } else { vec![digest, manifest] };
            gate.admit(registry, &Subject { reference, digests: &digests }).await?;
        }
        let mut mounts = Vec::with_capacity(layers.len());
        for layer in layers {
            mounts.push(self.shared.mount(layer).await?);
        }
        let lowest = mounts.iter().rposition(|m| m.is_opaque()).unwrap_or(0);
        let paths = mounts.iter().skip(lowest).map(|m| m.at().to_owned()).collect();
        Ok((paths, Below::Shared { _layers: mounts }))
    }
}

/// The gate of an image of which signatures are asked.
struct Signatures {
    http: cocoon_http::Client,
    places: Places,
    required: Vec<Requirement>,
}

impl std::fmt::Debug for Signatures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signatures").field("required", &self.required).finish_non_exhaustive()
    }
}

#[async_trait]
impl Gate for Signatures {
    async fn admit(&self, registry: &cocoon_registry::Client, subject: &Subject<'_>) -> Result<(), Failure> {
        // The clock is the host's: see docs/threat-model.md.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let required = &self.required;
        cocoon_signatures::check(registry, &self.http, &self.places, subject, required, now).await.map(|_| ())
    }
}

/// Overlayfs refuses a directory that occurs twice. Of a layer that does, only the topmost counts: all that it holds
/// covers whatever lies below, its own earlier occurrence included.
fn topmost_first(lowest_first: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut seen = std::collections::BTreeSet::new();
    lowest_first.into_iter().rev().filter(|p| seen.insert(p.clone())).collect()
}

#[async_trait]
impl Images for Delivery {
    async fn deliver(
        &self,
        container: &ContainerPlan,
        rootfs: &Path,
        documents: Documents,
    ) -> Result<(), Failure> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&container.name).cloned();
        // A host whose word counts may change a container's image between two of its lives.
        let layers = match kept.filter(|layers| layers.image == container.image) {
            Some(layers) => layers,
            None => {
                let (lowers, below) = self.layers(container, &documents).await?;
                let (image, paths) = (container.image.clone(), topmost_first(lowers));
                Layers { image, paths, _below: Arc::new(below) }
            }
        };
        let space = self.opened().await?;
        let (at, stack) = (rootfs.to_owned(), layers.clone());
        let root = blocking(move || {
            let name = at.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (writable, overlay) = space.overlay(&name, &stack.paths, &at)?;
            Ok(Root { _overlay: overlay, _layers: stack, _writable: writable })
        })
        .await?;
        self.roots.lock().unwrap_or_else(PoisonError::into_inner).insert(rootfs.to_owned(), root);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(container.name.clone(), layers);
        Ok(())
    }

    async fn space(&self) -> Result<Place, Failure> {
        Ok(self.opened().await?.place())
    }

    async fn remove(&self, container: &str, rootfs: &Path, again: bool) {
        let root = self.roots.lock().unwrap_or_else(PoisonError::into_inner).remove(rootfs);
        let layers = (!again)
            .then(|| self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(container))
            .flatten();
        let (rootfs, space) = (rootfs.to_owned(), self.space.get().cloned());
        let _ = tokio::task::spawn_blocking(move || {
            drop((root, layers));
            if let Some(space) = space {
                space.store().collect();
            }
            std::fs::remove_dir(rootfs)
        })
        .await;
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let lost = |_| Failure::new(Code::Internal, "image delivery ended without a result").at(Stage::Pull);
    tokio::task::spawn_blocking(work).await.map_err(lost)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_layer_that_occurs_twice_the_topmost_stays() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(topmost_first(paths(&["a", "b", "a", "c"])), paths(&["c", "a", "b"]));
        assert_eq!(topmost_first(paths(&["a"])), paths(&["a"]));
    }
}
