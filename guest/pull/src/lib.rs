//! Pulls an image inside the guest: manifest by pinned digest, signature, config, and layers in one streaming pass
//! each: download → size and digest → decrypt → decompress → diff id → unpack.
//!
//! Contract: runs inside the TEE and trusts neither registry nor network nor host. Only what the pinned digest names
//! is unpacked; where a signature is required, it is decided before any layer is asked for. Nothing unverified ever
//! has its final name: layers are unpacked into `<rootfs>.partial`, which becomes `<rootfs>` by one rename after the
//! last check, and is deleted on every failure and when the pull is cancelled (its future dropped).
//! The heap does not grow with the image: at most three layers are in flight, each with two channels of at most 2 MiB.

mod error;
mod keys;
mod layers;
mod partial;
mod signature;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;

use cocoon_image::{Config, Digest, Document, Limits, MAX_CONFIG_BYTES, Manifest, Platform, Reference};
use cocoon_registry::Client;

pub use cocoon_plan::SignatureRequirement;
pub use error::Error;
pub use keys::KeyProvider;

use crate::partial::Partial;

/// What to pull, and where to.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// The image's name as the owner wrote it; a signature must be for its repository.
    pub reference: Reference,
    /// The digest of the manifest or index that the plan pins.
    pub digest: Digest,
    /// The signature that the image must carry, if any.
    pub signature: Option<SignatureRequirement>,
    /// The directory to be made. It must not exist; its parent must.
    pub rootfs_dir: PathBuf,
    /// What the unpacked image may cost.
    pub limits: Limits,
    /// Which image to take from an index.
    pub platform: Platform,
    /// Keep owners of files (needs root).
    pub preserve_owner: bool,
}

impl PullRequest {
    /// A request with default limits for this machine's platform that keeps owners.
    pub fn new(reference: Reference, digest: Digest, rootfs_dir: impl Into<PathBuf>) -> Self {
        PullRequest {
            reference,
            digest,
            signature: None,
            rootfs_dir: rootfs_dir.into(),
            limits: Limits::default(),
            platform: Platform::host(),
            preserve_owner: true,
        }
    }
}

/// An image whose root file system is complete and verified.
#[derive(Clone, Debug)]
pub struct PulledImage {
    /// The image's config.
    pub config: Config,
    /// The digest of the manifest (where the pinned digest is an index's: of the image chosen from it).
    pub manifest_digest: Digest,
    /// Number of layers.
    pub layers: usize,
    /// Bytes unpacked, as [`Limits::total_bytes`] counts them.
    pub unpacked_bytes: u64,
}

/// How far a pull is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Manifest, signature and config are right; layers follow.
    Started {
        /// Number of layers.
        layers: usize,
        /// Bytes to download.
        bytes: u64,
    },
    /// More bytes arrived.
    Downloaded {
        /// How many, since the event before.
        bytes: u64,
    },
    /// A layer is unpacked and verified.
    LayerDone {
        /// Its position, from 0.
        index: usize,
    },
}

/// Hears of progress; called from several threads.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// Pulls an image. Dropping the future cancels the pull and cleans up.
///
/// # Errors
/// [`Error`], which converts to a coded failure. Nothing is left at `rootfs_dir` or beside it.
pub async fn pull(
    request: PullRequest,
    registry: &Client,
    keys: &dyn KeyProvider,
    progress: OnProgress,
) -> Result<PulledImage, Error> {
    let (manifest_digest, manifest) = manifest(&request, registry).await?;
    manifest.check_image()?;
    if let Some(requirement) = &request.signature {
        let accepted = [request.digest, manifest_digest];
        signature::check(registry, &request.reference, &accepted, requirement).await?;
    }
    let config = registry.blob_bytes(&request.reference, &manifest.config, MAX_CONFIG_BYTES).await?;
    let config = Config::parse(&config)?;
    config.check_layers(&manifest)?;
    check_platform(&config, &request.platform)?;

    let bytes = manifest.layers.iter().fold(0_u64, |n, l| n.saturating_add(l.size));
    if bytes > request.limits.total_bytes {
        let limit = request.limits.total_bytes;
        let why = format!("the image's layers have {bytes} bytes even packed; {limit} are allowed unpacked");
        return Err(cocoon_image::Error::TooLarge(why).into());
    }
    let jobs = keys::unlock(&manifest, &config, keys).await?;
    progress(Progress::Started { layers: jobs.len(), bytes });

    let layers = jobs.len();
    let partial = Partial::create(&request.rootfs_dir)?;
    let (partial, unpacked_bytes) = layers::unpack_all(&request, registry, jobs, partial, progress).await?;
    partial.commit()?;
    Ok(PulledImage { config, manifest_digest, layers, unpacked_bytes })
}

/// The image's manifest: the pinned one, or the platform's from the pinned index.
async fn manifest(request: &PullRequest, registry: &Client) -> Result<(Digest, Manifest), Error> {
    let bytes = registry.manifest(&request.reference, &request.digest).await?;
    let index = match Document::parse(&bytes)? {
        Document::Manifest(manifest) => return Ok((request.digest, *manifest)),
        Document::Index(index) => index,
    };
    let chosen = index.select(&request.platform)?;
    let bytes = registry.manifest(&request.reference, &chosen.digest).await?;
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
