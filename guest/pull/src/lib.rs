//! Pulls images inside the guest into a store of layers: manifest by pinned digest, signature, config, keys, and
//! layers in one streaming pass each: download → size and digest → decrypt → decompress → diff id → unpack.
//!
//! Contract: runs inside the TEE and trusts neither registry nor network nor host. Only what the pinned digest names
//! is unpacked; where a signature is required it is decided for every pull, on the name that the owner wrote and
//! before any layer is asked for or looked up, also when all of them are in the store already. Likewise every
//! encrypted layer's key is unwrapped for every pull. Nothing unverified ever has its final name: a layer is unpacked into
//! `<name>.partial-<N>`, which becomes `<name>` by one rename after the last check, and is deleted on every
//! failure and when the pull is cancelled (its future dropped).
//!
//! The heap does not grow with the image: at most three layers are in flight, over all pulls of a store, each with about
//! 4 MiB in channels and up to 8 MiB in a decoder. (A layer packed with a larger zstd window, at most 128 MiB, gets it, but
//! only one at a time.)

mod error;
mod fetch;
mod keys;
mod partial;
mod pull;
mod space;
mod store;
mod stream;
mod total;

use std::sync::Arc;

use async_trait::async_trait;
use cocoon_image::{Config, Digest, Limits, Platform, Reference};
use cocoon_registry::Client;
use cocoon_signature::Subject;
use cocoon_stage::Failure;

pub use error::Error;
pub use keys::KeyProvider;
pub use pull::manifest;
pub use store::{Layer, Store};

/// What to pull.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// The image's name as the owner wrote it; a signature must be for its repository.
    pub reference: Reference,
    /// The digest of the manifest or index that the plan pins.
    pub digest: Digest,
    /// Who decides whether the image may be used, where more than its digest is asked for.
    pub gate: Option<Arc<dyn Gate>>,
    /// What the unpacked image may cost, layers that it shares with others included.
    pub limits: Limits,
    /// Which image to take from an index.
    pub platform: Platform,
}

impl PullRequest {
    /// A request with default limits for this machine's platform.
    pub fn new(reference: Reference, digest: Digest) -> Self {
        PullRequest { reference, digest, gate: None, limits: Limits::default(), platform: Platform::host() }
    }
}

/// Decides whether an image may be used, before any of its layers is asked for or looked up.
#[async_trait]
pub trait Gate: std::fmt::Debug + Send + Sync {
    /// Lets the image through, by the name that its owner wrote and the digests that stand for it: the pinned one and,
    /// where that is an index's, the chosen manifest's.
    ///
    /// # Errors
    /// The coded refusal.
    async fn admit(&self, registry: &Client, subject: &Subject<'_>) -> Result<(), Failure>;
}

/// An image whose layers are complete, verified and held.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The image's config.
    pub config: Config,
    /// The digest of the manifest (where the pinned digest is an index's: of the image chosen from it).
    pub manifest_digest: Digest,
    /// The layers, lowest first, ready for overlayfs (whose `lowerdir` names the topmost first). They stay as long as
    /// these leases, or clones of them, live.
    ///
    /// Of a layer that the manifest names twice only the topmost occurrence is here, because overlayfs takes no
    /// directory twice. Nothing is lost: whatever the lower occurrence holds or hides, the topmost holds or hides
    /// as well, above everything between the two. (Keeping the lower one instead would let layers between them
    /// win.) Layers below one whose root is opaque are left out: none of them shows.
    pub layers: Vec<Layer>,
    /// Bytes of all layers, as [`Limits::total_bytes`] counts them.
    pub unpacked_bytes: u64,
}

/// How far a pull is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Manifest, signature and config are right; layers follow.
    Started {
        /// Number of layers, each counted once.
        layers: usize,
        /// Bytes to download, where no layer is in the store.
        bytes: u64,
    },
    /// More bytes arrived.
    Downloaded {
        /// How many, since the event before.
        bytes: u64,
    },
    /// A layer is unpacked and verified, or was there already.
    LayerDone {
        /// Its position, from 0, in the manifest.
        index: usize,
    },
}

/// Hears of progress; called from several threads.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;
