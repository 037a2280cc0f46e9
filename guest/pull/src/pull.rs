//! The pull itself: what the manifest names, may it be used, and layers out of the store or the registry.

use std::collections::HashSet;
use std::sync::Arc;

use cocoon_image::{
    Config, Digest, Document, MAX_CONFIG_BYTES, Manifest, Platform, Reference, UnpackOptions,
};
use cocoon_registry::Client;
use cocoon_signature::Subject;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::fetch::{Shared, fetch};
use crate::keys::{Job, KeyProvider, unlock};
use crate::store::{Layer, Name, Store};
use crate::total::Total;
use crate::{Error, OnProgress, Progress, PullRequest, Pulled};

/// Most mirrors that may give a wrong blob before the pull is given up.
const MAX_LIARS: usize = 8;

impl Store {
    /// Pulls an image: layers that are here are shared, the others fetched; of pulls that want the same layer at the same
    /// time one fetches it. Dropping the future cancels the pull, and what it began is cleaned up a moment later.
    ///
    /// Owners of files are kept where the caller is root.
    ///
    /// # Errors
    /// [`Error`], which converts to a coded failure. Nothing unfinished is left in the store.
    pub async fn pull(
        self: &Arc<Self>,
        request: PullRequest,
        registry: &Client,
        keys: &dyn KeyProvider,
        progress: OnProgress,
    ) -> Result<Pulled, Error> {
        let (manifest_digest, manifest) =
            manifest(registry, &request.reference, &request.digest, &request.platform).await?;
        manifest.check_image()?;
        // Before anything stored is looked at: that another image was allowed to use a layer says nothing of this one.
        if let Some(gate) = &request.gate {
            let digests = [request.digest, manifest_digest];
            let one = request.digest == manifest_digest;
            let digests = digests.get(..if one { 1 } else { 2 }).unwrap_or_default();
            let subject = Subject { reference: &request.reference, digests };
            gate.admit(registry, &subject).await.map_err(Error::Refused)?;
        }
        let config = registry.blob_bytes(&request.reference, &manifest.config, MAX_CONFIG_BYTES).await?;
        let config = Config::parse(&config)?;
        config.check_layers(&manifest)?;
        check_platform(&config, &request.platform)?;

        // Keys too are asked for whether or not a layer is here.
        let jobs = topmost(unlock(&manifest, &config, keys).await?);
        let bytes = jobs.iter().fold(0_u64, |n, (_, _, job)| n.saturating_add(job.descriptor.size));
        if bytes > request.limits.total_bytes {
            let limit = request.limits.total_bytes;
            let why =
                format!("the image's layers have {bytes} bytes even packed; {limit} are allowed unpacked");
            return Err(cocoon_image::Error::TooLarge(why).into());
        }
        progress(Progress::Started { layers: jobs.len(), bytes });
        let layers = self.layers(jobs, &request, registry, progress).await?;
        let unpacked_bytes = layers.iter().fold(0_u64, |n, l| n.saturating_add(l.unpacked_bytes()));
        Ok(Pulled { config, manifest_digest, layers: visible(layers), unpacked_bytes })
    }

    async fn layers(
        self: &Arc<Self>,
        mut jobs: Vec<(usize, Name, Job)>,
        request: &PullRequest,
        registry: &Client,
        progress: OnProgress,
    ) -> Result<Vec<Layer>, Error> {
        let (alive, mut ended) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            registry: registry.clone(),
            reference: request.reference.clone(),
            options: UnpackOptions { preserve_owner: rustix::process::geteuid().is_root() },
            limits: request.limits,
            total: Arc::new(Total::new(request.limits)),
            progress,
            alive,
        });
        // The largest first: begun last, it would be waited for alone.
        jobs.sort_by_key(|(_, _, job)| std::cmp::Reverse(job.descriptor.size));
        // Dropping the set ends downloads; their channels close and the threads behind them end.
        let mut tasks = JoinSet::new();
        for (index, name, job) in jobs {
            let (store, shared) = (self.clone(), shared.clone());
            tasks.spawn(async move {
                let layer = store.layer(&name, job, &shared).await?;
                (shared.progress)(Progress::LayerDone { index });
                Ok::<_, Error>((index, layer))
            });
        }
        drop(shared);
        let mut layers = Vec::with_capacity(tasks.len());
        let mut failed = None;
        while let Some(done) = tasks.join_next().await {
            match done {
                Ok(Ok(layer)) => layers.push(layer),
                // The first failure is the one to tell; those after it are mostly its echo.
                Ok(Err(e)) => failed = failed.or(Some(e)),
                Err(_) => failed = failed.or(Some(Error::Interrupted("a layer's task ended early"))),
            }
            if failed.is_some() {
                tasks.abort_all();
            }
        }
        // Partial directories are gone before the caller hears that the pull failed.
        while ended.recv().await.is_some() {}
        if let Some(e) = failed {
            return Err(e);
        }
        layers.sort_by_key(|(index, _)| *index);
        Ok(layers.into_iter().map(|(_, layer)| layer).collect())
    }

    async fn layer(self: &Arc<Self>, name: &Name, job: Job, shared: &Arc<Shared>) -> Result<Layer, Error> {
        let mut tries = 0;
        loop {
            let claim = match self.lease_or_claim(name).await {
                Ok(layer) => {
                    shared.total.take(layer.unpacked_bytes(), layer.entries())?;
                    return Ok(layer);
                }
                Err(claim) => claim,
            };
            let Ok(_permit) = self.in_flight().acquire_owned().await else {
                return Err(Error::Interrupted("the store is closed"));
            };
            tries += 1;
            let mut mirror_lied = false;
            let fetched = fetch(claim, job.clone(), shared.clone(), &mut mirror_lied).await;
            // A mirror is found out at the end of its blob, and is not asked again: the next one may be honest.
            if fetched.is_ok() || !mirror_lied || tries > MAX_LIARS {
                return fetched;
            }
        }
    }
}

/// Of a layer that occurs more than once the topmost occurrence (see [`Pulled::layers`]), with its position.
fn topmost(jobs: Vec<Job>) -> Vec<(usize, Name, Job)> {
    let mut seen = HashSet::new();
    let mut kept: Vec<_> = jobs
        .into_iter()
        .enumerate()
        .rev()
        .filter_map(|(index, job)| {
            let name = Name::new(&job.diff_id, job.key.as_ref());
            seen.insert(name.clone()).then_some((index, name, job))
        })
        .collect();
    kept.reverse();
    kept
}

/// The layers from the topmost one with an opaque root up.
fn visible(mut layers: Vec<Layer>) -> Vec<Layer> {
    let from = layers.iter().rposition(Layer::is_opaque).unwrap_or(0);
    layers.split_off(from)
}

/// An image's manifest with its digest: the one of the pinned digest, or where that is an index's the platform's from it.
///
/// # Errors
/// [`Error::Registry`], [`Error::Image`].
pub async fn manifest(
    registry: &Client,
    reference: &Reference,
    digest: &Digest,
    platform: &Platform,
) -> Result<(Digest, Manifest), Error> {
    let bytes = registry.manifest(reference, digest).await?;
    let index = match Document::parse(&bytes)? {
        Document::Manifest(manifest) => return Ok((*digest, *manifest)),
        Document::Index(index) => index,
    };
    let chosen = index.select(platform)?;
    let bytes = registry.manifest(reference, &chosen.digest).await?;
    match Document::parse(&bytes)? {
        Document::Manifest(manifest) => Ok((chosen.digest, *manifest)),
        Document::Index(_) => Err(cocoon_image::Error::Manifest("an index holds an index".to_owned()).into()),
    }
}

/// An image for another machine would fail only when started, with a message that explains nothing.
fn check_platform(config: &Config, platform: &Platform) -> Result<(), Error> {
    let differs = |found: &str, wanted: &str| !found.is_empty() && found != wanted;
    if differs(&config.os, &platform.os) || differs(&config.architecture, &platform.architecture) {
        let why = format!("the image is for {}/{}, not for {platform}", config.os, config.architecture);
        return Err(cocoon_image::Error::Manifest(why).into());
    }
    Ok(())
}
