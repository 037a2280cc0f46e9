//! The cache: a layer from it, made where it is not there.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cocoon_image::{Descriptor, Digest};

use crate::convert::{Bounds, Made, make, shareable};
use crate::index::{Index, Key, Rooted};
use crate::lease::{lease, touch};
use crate::locks::{Claim, Flight, gate, sweep, sweep_named};
use crate::source::{Leash, MAX_LIARS};
use crate::temp::Sealed;
use crate::{Error, Lease, Source, folder, shape};

/// The node's cache. Clones share nothing but the folder, and need not: all that matters is in it.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) layers: PathBuf,
    pub(crate) index: Index,
    pub(crate) locks: PathBuf,
    pub(crate) tmp: PathBuf,
    pub(crate) gate: PathBuf,
    pub(crate) limit: u64,
}

/// A layer that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its diff id: the digest of its tar.
    pub diff_id: Digest,
    /// What a plan says that it must be.
    pub pinned: Option<Pinned>,
}

/// What a plan says of a shared layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The root hash.
    pub root: [u8; 32],
    /// The number of data blocks.
    pub blocks: u64,
}

impl Cache {
    /// Opens the cache in a folder, made where it is not there, and removes what killed processes left in it.
    ///
    /// `limit_bytes` is the most that all layers may have together, those being made with them (but for the last 16 MiB
    /// of each at most); layers that nobody uses are removed for it, the longest unused first.
    ///
    /// # Errors
    /// [`Error::Unfit`] where somebody else could change what is in the folder; [`Error::Io`].
    pub fn open(path: &Path, limit_bytes: u64) -> Result<Cache, Error> {
        folder::private(path)?;
        let path = path.canonicalize().map_err(Error::io(path))?;
        let within = |name: &str| {
            let path = path.join(name);
            folder::inner(&path).map(|()| path)
        };
        let (layers, index) = (within("layers")?, within("index")?);
        let (locks, tmp) = (within("locks")?, within("tmp")?);
        sweep(&tmp);
        sweep(&locks);
        sweep_named(&index, folder::HIDDEN);
        let (index, gate) = (Index::new(index), path.join("gate"));
        Ok(Cache { inner: Arc::new(Inner { layers, index, locks, tmp, gate, limit: limit_bytes }) })
    }

    /// The layer, with a lease that keeps it in the cache. Where it is there it is served after cheap checks; else it is
    /// read from its source, verified, converted and kept. Of those that want one layer at one time, in whatever
    /// process, one does so and the others wait. Of an encrypted layer the blob's digest is all that can be checked here.
    ///
    /// # Errors
    /// [`Error::WrongRoot`] where the plan names another root than the layer has; the source's and the file system's.
    /// Nothing is left behind.
    pub async fn layer(&self, wanted: &Wanted, source: &dyn Source) -> Result<Lease, Error> {
        shareable(source.descriptor())?;
        let key = Key::of(&wanted.diff_id, source.descriptor());
        if let Some(lease) = self.present(wanted, &key).await? {
            return Ok(lease);
        }
        let flight = Flight::take(self.inner.locks.join(key.name())).await?;
        match self.present(wanted, &key).await? {
            Some(lease) => Ok(lease),
            None => self.make(wanted, source, &flight).await,
        }
    }

    /// The layer, where it is in the cache already.
    ///
    /// # Errors
    /// [`Error::Interrupted`]; [`Error::Image`] for a layer that cannot be shared; what is not fit is as good as absent.
    pub async fn held(&self, wanted: &Wanted, descriptor: &Descriptor) -> Result<Option<Lease>, Error> {
        shareable(descriptor)?;
        self.present(wanted, &Key::of(&wanted.diff_id, descriptor)).await
    }

    /// The layer that a plan names, where it is in the cache already.
    ///
    /// # Errors
    /// [`Error::Interrupted`]; what is not fit is as good as absent.
    pub async fn pinned(&self, pinned: Pinned) -> Result<Option<Lease>, Error> {
        let inner = self.inner.clone();
        blocking(move || Ok(inner.rooted(Rooted { root: pinned.root, blocks: pinned.blocks }))).await
    }

    /// Reads the layer from its source and converts it, whatever the cache holds already, so that its root is known
    /// from its verified content alone: [`Lease::computed`].
    ///
    /// # Errors
    /// As [`Cache::layer`].
    pub async fn compute(&self, wanted: &Wanted, source: &dyn Source) -> Result<Lease, Error> {
        shareable(source.descriptor())?;
        let key = Key::of(&wanted.diff_id, source.descriptor());
        let flight = Flight::take(self.inner.locks.join(key.name())).await?;
        self.make(wanted, source, &flight).await
    }

    /// A lease on the layer where it is in the cache and fit.
    async fn present(&self, wanted: &Wanted, key: &Key) -> Result<Option<Lease>, Error> {
        let (inner, wanted, key) = (self.inner.clone(), wanted.clone(), key.clone());
        blocking(move || Ok(inner.present(&wanted, &key))).await
    }

    async fn make(&self, wanted: &Wanted, source: &dyn Source, flight: &Flight) -> Result<Lease, Error> {
        let mut made = self.make_of_one(wanted, source, flight).await;
        for _ in 0..MAX_LIARS {
            if !made.as_ref().is_err_and(Error::is_of_content) || !source.lied().await {
                break;
            }
            made = self.make_of_one(wanted, source, flight).await;
        }
        made
    }

    async fn make_of_one(
        &self,
        wanted: &Wanted,
        source: &dyn Source,
        flight: &Flight,
    ) -> Result<Lease, Error> {
        match self.try_make(wanted, source, flight).await {
            // The limit is larger than the disk: what nobody uses gives way, where that can be enough.
            Err(full) if full.is_full() => {
                let (inner, claim) = (self.inner.clone(), flight.claim()?);
                let (wanted_again, size) = (wanted.clone(), source.descriptor().size);
                if !blocking(move || inner.make_disk_room(&wanted_again, size, &claim)).await? {
                    return Err(full);
                }
                self.try_make(wanted, source, flight).await
            }
            result => result,
        }
    }

    async fn try_make(&self, wanted: &Wanted, source: &dyn Source, flight: &Flight) -> Result<Lease, Error> {
        let (inner, wanted, descriptor) = (self.inner.clone(), wanted.clone(), source.descriptor().clone());
        let claim = flight.claim()?;
        // Before a byte is fetched. What it is packed in is hardly more than itself.
        let (least, looked) = (least_bytes(&wanted, descriptor.size), flight.claim()?);
        let checked = inner.clone();
        blocking(move || checked.feasible(least, &looked)).await?;
        let leash = Leash::new();
        let blob = leash.on(source.open().await?);
        let made = blocking(move || inner.make(&wanted, &descriptor, blob, &claim)).await;
        drop(leash);
        made
    }
}

/// Bytes that the layer's file will have at least, as far as is known before it is made.
pub(crate) fn least_bytes(wanted: &Wanted, packed: u64) -> u64 {
    wanted.pinned.map_or(packed, |pinned| shape::file_bytes(pinned.blocks))
}

impl Inner {
    fn present(&self, wanted: &Wanted, key: &Key) -> Option<Lease> {
        let expected = match wanted.pinned {
            Some(Pinned { root, blocks }) => Rooted { root, blocks },
            None => self.index.get(key)?,
        };
        self.rooted(expected)
    }

    fn rooted(&self, expected: Rooted) -> Option<Lease> {
        match lease(&self.layers, expected.root) {
            Ok(Some(lease)) if lease.blocks == expected.blocks => {
                touch(&lease.file);
                Some(lease)
            }
            Ok(_) => None,
            Err(reason) => {
                let root = hex::encode(expected.root);
                tracing::warn!(root, reason, "a cached layer is not fit and is made again");
                None
            }
        }
    }

    fn make(
        &self,
        wanted: &Wanted,
        descriptor: &Descriptor,
        blob: impl Read + Send + 'static,
        claim: &Claim,
    ) -> Result<Lease, Error> {
        let room = |bytes| self.claim(bytes, claim);
        let bounds = Bounds { bytes: self.limit, pinned: wanted.pinned, room: &room };
        let Made { temp, rooted } = make(&self.tmp, wanted.diff_id, descriptor, blob, bounds)?;
        // Before the gate: while a large layer goes to the medium, others must get through.
        let sealed = temp.seal()?;
        self.keep(&Key::of(&wanted.diff_id, descriptor), wanted, sealed, rooted, claim)
    }

    /// Gives a new layer its place.
    fn keep(
        &self,
        key: &Key,
        wanted: &Wanted,
        sealed: Sealed,
        rooted: Rooted,
        claim: &Claim,
    ) -> Result<Lease, Error> {
        // Space is counted and taken by one at a time.
        let _gate = gate(&self.gate)?;
        let held = match lease(&self.layers, rooted.root) {
            Ok(Some(held)) if held.blocks == rooted.blocks => {
                drop(sealed);
                touch(&held.file);
                Lease { computed: true, ..held }
            }
            _ => {
                self.make_room(shape::file_bytes(rooted.blocks), claim)?;
                let path = self.layers.join(hex::encode(rooted.root));
                let file = sealed.publish(&path)?;
                Lease { path, root: rooted.root, blocks: rooted.blocks, computed: true, file }
            }
        };
        // From now on it counts as a layer.
        claim.set(0)?;
        self.index.put(key, &wanted.diff_id, rooted)?;
        Ok(held)
    }
}

/// Runs what waits for disks on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Interrupted))
}
