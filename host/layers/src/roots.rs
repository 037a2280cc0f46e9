//! The owner's side: the roots of an image's layers, at the time a plan is made.
//!
//! Trusted by the owner, like the process that makes the plan: it takes roots that it computed itself from content
//! whose digests the image's config names, and its own records of such. What a node's cache says counts for nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cocoon_image::{Config, Descriptor, Digest, Manifest, Reference};
use cocoon_registry::Client;
use futures::{StreamExt, TryStreamExt, stream};

use crate::cache::blocking;
use crate::convert::{Bounds, make, shareable};
use crate::index::{Index, Key, Rooted};
use crate::locks::{sweep, sweep_named};
use crate::prepare::{AT_ONCE, OnProgress, Progress};
use crate::source::{Leash, MAX_LIARS};
use crate::{Cache, Error, Lease, Pinned, RegistrySource, Source, Wanted, folder};

/// The most that a layer may have while its root is computed without a node's cache, in bytes: 64 GiB.
pub const DEFAULT_LIMIT: u64 = 64 << 30;

/// The owner's records: which root each layer has that was computed before. A folder of the owner's own, not one that
/// a node's service can write to.
#[derive(Clone, Debug)]
pub struct Roots {
    index: Index,
    tmp: PathBuf,
    limit: u64,
}

/// A layer's root, as the owner knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The layer's diff id.
    pub diff_id: Digest,
    /// The root hash.
    pub root: [u8; 32],
    /// Data blocks.
    pub blocks: u64,
}

/// What a plan needs to pin.
#[derive(Debug)]
pub struct Planned {
    /// A root for each layer of the image, lowest first.
    pub layers: Vec<Known>,
    /// Leases on those layers that are in the node's cache, so that they are still there when the pod boots.
    pub leases: Vec<Lease>,
}

impl Roots {
    /// Opens the records in a folder, made (0700) where it is not there.
    ///
    /// # Errors
    /// [`Error::Unfit`] where somebody else could change what is in it; [`Error::Io`].
    pub fn open(path: &Path) -> Result<Roots, Error> {
        folder::private(path)?;
        let (records, tmp) = (path.join("roots"), path.join("tmp"));
        folder::inner(&records)?;
        folder::inner(&tmp)?;
        sweep(&tmp);
        sweep_named(&records, folder::HIDDEN);
        Ok(Roots { index: Index::new(records), tmp, limit: DEFAULT_LIMIT })
    }

    /// The most bytes that a layer may have while its root is computed without a node's cache; else
    /// [`DEFAULT_LIMIT`].
    #[must_use]
    pub fn with_limit(self, limit_bytes: u64) -> Roots {
        Roots { limit: limit_bytes, ..self }
    }

    /// The recorded root of a layer, by its diff id and its descriptor in the manifest. One that only a guest can decrypt
    /// has none, even where its plaintext has.
    pub fn get(&self, diff_id: &Digest, descriptor: &Descriptor) -> Option<Known> {
        shareable(descriptor).ok()?;
        let Rooted { root, blocks } = self.index.get(&Key::of(diff_id, descriptor))?;
        Some(Known { diff_id: *diff_id, root, blocks })
    }

    fn put(&self, descriptor: &Descriptor, known: &Known) -> Result<(), Error> {
        let rooted = Rooted { root: known.root, blocks: known.blocks };
        self.index.put(&Key::of(&known.diff_id, descriptor), &known.diff_id, rooted)
    }

    /// Computes a layer's root and keeps nothing but that.
    async fn compute(&self, diff_id: Digest, source: &dyn Source) -> Result<Rooted, Error> {
        let mut rooted = self.compute_of_one(diff_id, source).await;
        for _ in 0..MAX_LIARS {
            if !rooted.as_ref().is_err_and(Error::is_of_content) || !source.lied().await {
                break;
            }
            rooted = self.compute_of_one(diff_id, source).await;
        }
        rooted
    }

    async fn compute_of_one(&self, diff_id: Digest, source: &dyn Source) -> Result<Rooted, Error> {
        let (tmp, descriptor) = (self.tmp.clone(), source.descriptor().clone());
        let leash = Leash::new();
        let blob = leash.on(source.open().await?);
        let limit = self.limit;
        let made = blocking(move || {
            let room = |bytes| match bytes > limit {
                true => Err(Error::Limit { bytes, in_use: 0, limit }),
                false => Ok(()),
            };
            let bounds = Bounds { bytes: limit, pinned: None, room: &room };
            make(&tmp, diff_id, &descriptor, blob, bounds).map(|made| made.rooted)
        })
        .await;
        drop(leash);
        made
    }
}

/// The roots of all layers of an image: from the owner's records, else computed from the registry's content. With a
/// node's cache on this machine the layers that are computed land in it, in the same pass.
///
/// # Errors
/// What is wrong with the first layer that fails; the others are given up.
pub async fn plan_roots(
    roots: &Roots,
    node: Option<&Cache>,
    registry: &Client,
    reference: &Reference,
    manifest: &Manifest,
    config: &Config,
    progress: OnProgress,
) -> Result<Planned, Error> {
    config.check_layers(manifest)?;
    let mut distinct = BTreeMap::new();
    let layers = || manifest.layers.iter().zip(&config.rootfs.diff_ids);
    for (index, (descriptor, diff_id)) in layers().enumerate() {
        shareable(descriptor)?;
        let source =
            RegistrySource::new(registry.clone(), reference.clone(), descriptor.clone(), progress.clone());
        distinct.entry(Key::of(diff_id, descriptor).name().to_owned()).or_insert((index, *diff_id, source));
    }
    let found: Vec<(String, Known, Option<Lease>)> = stream::iter(distinct)
        .map(|(key, (index, diff_id, source))| {
            let progress = progress.clone();
            async move {
                let (known, lease) = root_of(roots, node, diff_id, &source).await?;
                progress(Progress::Ready { index });
                Ok::<_, Error>((key, known, lease))
            }
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let (mut by_key, mut leases) = (BTreeMap::new(), Vec::new());
    for (key, known, lease) in found {
        by_key.insert(key, known);
        leases.extend(lease);
    }
    let known = layers().filter_map(|(descriptor, diff_id)| by_key.get(Key::of(diff_id, descriptor).name()));
    Ok(Planned { layers: known.copied().collect(), leases })
}

async fn root_of(
    roots: &Roots,
    node: Option<&Cache>,
    diff_id: Digest,
    source: &RegistrySource,
) -> Result<(Known, Option<Lease>), Error> {
    if let Some(known) = roots.get(&diff_id, source.descriptor()) {
        let pinned = Some(Pinned { root: known.root, blocks: known.blocks });
        let lease = match node {
            Some(cache) => cache.held(&Wanted { diff_id, pinned }, source.descriptor()).await?,
            None => None,
        };
        return Ok((known, lease));
    }
    let (rooted, lease) = match node {
        Some(cache) => {
            let lease = cache.compute(&Wanted { diff_id, pinned: None }, source).await?;
            (Rooted { root: lease.root, blocks: lease.blocks }, Some(lease))
        }
        None => (roots.compute(diff_id, source).await?, None),
    };
    let known = Known { diff_id, root: rooted.root, blocks: rooted.blocks };
    roots.put(source.descriptor(), &known)?;
    Ok((known, lease))
}
