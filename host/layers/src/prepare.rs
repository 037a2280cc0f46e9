//! All layers that a pod wants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cocoon_image::{Config, Descriptor, Digest, Manifest, Reference};
use cocoon_registry::Client;
use futures::{StreamExt, TryStreamExt, stream};

use crate::{Cache, Error, Lease, RegistrySource, Wanted};

/// Layers being read and converted at one time.
pub(crate) const AT_ONCE: usize = 2;

/// How far a preparation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes of blobs arrived.
    Downloaded {
        /// How many, since the event before.
        bytes: u64,
    },
    /// A layer is there.
    Ready {
        /// Its position among those wanted or, for [`crate::plan_roots`], in the image; from 0.
        index: usize,
    },
}

/// Hears of progress; called from several threads.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// Leases on the layers that a pod wants of an image, made where they are not in the cache. The image's manifest and
/// config say which blob has which diff id; both have been verified by the caller, or a plan's roots are wrong.
///
/// Layers with the same root are one file and one lease, at the place of the first: what is returned can be attached as
/// it is.
///
/// # Errors
/// [`Error::NotInImage`]; what [`Cache::layer`] says of the first layer that fails. The others are given up.
pub async fn prepare(
    cache: &Cache,
    registry: &Client,
    reference: &Reference,
    manifest: &Manifest,
    config: &Config,
    wanted: &[Wanted],
    progress: OnProgress,
) -> Result<Vec<Lease>, Error> {
    config.check_layers(manifest)?;
    let mut jobs = Vec::with_capacity(wanted.len());
    let mut places: BTreeMap<Digest, usize> = BTreeMap::new();
    for (index, wanted) in wanted.iter().enumerate() {
        let place = places.entry(wanted.diff_id).or_default();
        let descriptor = blob_of(manifest, config, &wanted.diff_id, *place)?;
        *place += 1;
        let source = RegistrySource::new(registry.clone(), reference.clone(), descriptor, progress.clone());
        jobs.push((index, wanted.clone(), source));
    }
    let leases: Vec<Lease> = stream::iter(jobs)
        .map(|(index, wanted, source)| {
            let (cache, progress) = (cache.clone(), progress.clone());
            async move {
                let lease = cache.layer(&wanted, &source).await?;
                progress(Progress::Ready { index });
                Ok::<_, Error>(lease)
            }
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let mut seen = BTreeSet::new();
    Ok(leases.into_iter().filter(|lease| seen.insert(lease.root)).collect())
}

/// The blob of the image's layer with this diff id. One plaintext can be there several times under different keys: then
/// the one at this place among them, or the last.
fn blob_of(
    manifest: &Manifest,
    config: &Config,
    diff_id: &Digest,
    place: usize,
) -> Result<Descriptor, Error> {
    let mut found = None;
    let layers = manifest.layers.iter().zip(&config.rootfs.diff_ids).filter(|(_, d)| *d == diff_id);
    for (descriptor, _) in layers.take(place.saturating_add(1)) {
        found = Some(descriptor.clone());
    }
    found.ok_or_else(|| Error::NotInImage(diff_id.to_string()))
}
