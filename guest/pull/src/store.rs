//! Unpacked layers, each stored once, shared by all images and containers of the pod.
//!
//! ```text
//! <folder>/lock                                held while a store is open
//! <folder>/layers/<diff id, hex>               a layer, complete and verified
//! <folder>/layers/<diff id, hex>-<key, hex>    the same of a layer that came encrypted
//! <folder>/layers/<name>.partial-<N>           being unpacked, or being deleted
//! ```
//! Content that came out of an encrypted blob is found again only with the key that opened it: its name holds a digest of
//! that key. The diff id alone would not do, because an image's config shows the diff ids of its encrypted layers
//! to everybody, and any manifest can name them. The same content encrypted under two keys, or once plain, is stored
//! twice.

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cocoon_image::{Digest, LayerKey, remove_tree};
use rustix::fs::FlockOperation;
use tokio::sync::{Semaphore, watch};

use crate::Error;
use crate::partial::{Partial, fail};
use crate::space::{Reservation, Space};

/// Layers being downloaded and unpacked at the same time, over all pulls. Each has about 4 MiB in its channels and
/// decoders, and 8 MiB more where a zstd window is in use.
const IN_FLIGHT: usize = 3;

/// What a layer is known by: its directory's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name(String);

impl Name {
    /// The name of a layer that was, or will be, opened with this key.
    pub(crate) fn new(diff_id: &Digest, key: Option<&LayerKey>) -> Self {
        let Some(key) = key else { return Name(diff_id.hex()) };
        // One way, of 256 random bits: the name tells nothing of the key.
        let labelled = [b"cocoon layer key:".as_slice(), key.private.symkey.as_slice()].concat();
        let labelled = zeroize::Zeroizing::new(labelled);
        Name(format!("{}-{}", diff_id.hex(), Digest::sha256(&labelled).hex()))
    }
}

/// A stored layer and the lease on it: the directory stays as long as a clone of this lives.
#[derive(Clone, Debug)]
pub struct Layer(Arc<Stored>);

impl Layer {
    /// The directory: a lower layer for overlayfs, to be read only. (Paths are long; a caller that stacks many can
    /// open each and give `/proc/self/fd/N` instead, or add them one by one with `fsconfig`.)
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The digest of its uncompressed tar.
    pub fn diff_id(&self) -> Digest {
        self.0.diff_id
    }

    /// What it takes in bytes, as [`cocoon_image::Limits::total_bytes`] counts.
    pub fn unpacked_bytes(&self) -> u64 {
        self.0.bytes
    }

    pub(crate) fn entries(&self) -> u64 {
        self.0.entries
    }

    /// Whether nothing of the layers below it shows.
    pub(crate) fn is_opaque(&self) -> bool {
        self.0.opaque
    }
}

pub(crate) struct Stored {
    pub(crate) path: PathBuf,
    pub(crate) diff_id: Digest,
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    pub(crate) opaque: bool,
    /// Held as long as the directory is there.
    pub(crate) _reservation: Reservation,
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path.fmt(f)
    }
}

enum Slot {
    /// Somebody fetches it; the channel closes when that ended, well or not.
    Making(watch::Receiver<()>),
    Ready(Arc<Stored>),
}

/// The layer store of a pod.
pub struct Store {
    layers: PathBuf,
    slots: Mutex<HashMap<Name, Slot>>,
    space: Arc<Space>,
    in_flight: Arc<Semaphore>,
    /// Held by the one layer that may use a zstd window of more than 8 MiB.
    pub(crate) big_window: Semaphore,
    partials: AtomicU64,
    /// Locked: a second store in this folder would delete the first one's layers.
    _lock: File,
}

impl Store {
    /// Opens a store in a folder (made if missing; its parent must exist) for layers of `budget_bytes` in all, as
    /// [`cocoon_image::Limits::total_bytes`] counts. Whatever layers an earlier run left there are deleted: nobody alive
    /// has verified them. The folder must be the guest's own: memory, or an encrypted disk.
    ///
    /// # Errors
    /// [`Error::Directory`]; also where another store has the folder open.
    pub fn open(folder: &Path, budget_bytes: u64) -> Result<Arc<Store>, Error> {
        let make = |path: &Path| match DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(fail(path, e)),
            _ => Ok(()),
        };
        make(folder)?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(|e| fail(&path, e))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|e| fail(&path, e.into()))?;
        let layers = folder.join("layers");
        remove_tree(&layers).map_err(|e| fail(&layers, e))?;
        make(&layers)?;
        let opened = File::open(&layers).map_err(|e| fail(&layers, e))?;
        Ok(Arc::new_cyclic(|store: &Weak<Store>| {
            let store = store.clone();
            let make_room = Box::new(move || store.upgrade().is_some_and(|s| s.collect() > 0));
            Store {
                layers,
                slots: Mutex::default(),
                space: Space::new(budget_bytes, opened.into(), make_room),
                in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
                big_window: Semaphore::new(1),
                partials: AtomicU64::new(0),
                _lock: lock,
            }
        }))
    }

    /// Deletes the layers that nobody holds a lease on; gives their number. Pulls do it by themselves where the
    /// budget is short. Blocks while it deletes.
    pub fn collect(&self) -> usize {
        let mut unused = Vec::new();
        {
            let mut slots = self.lock();
            // Under the lock nobody can take a new lease on what only the map holds.
            let free = |slot: &Slot| matches!(slot, Slot::Ready(s) if Arc::strong_count(s) == 1);
            let names: Vec<_> = slots.iter().filter(|(_, s)| free(s)).map(|(n, _)| n.clone()).collect();
            for name in names {
                let Some(Slot::Ready(stored)) = slots.remove(&name) else { continue };
                let doomed = self.partial_path(&name);
                // The name is free for the next pull at once; the tree goes without the lock.
                let path = match std::fs::rename(&stored.path, &doomed) {
                    Ok(()) => doomed,
                    Err(_) => stored.path.clone(),
                };
                unused.push((Partial::doomed(path), stored));
            }
        }
        unused.len()
    }

    /// Bytes that layers, finished or not, have reserved of the budget.
    pub fn used_bytes(&self) -> u64 {
        self.space.used()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partial_path(&self, name: &Name) -> PathBuf {
        let n = self.partials.fetch_add(1, Ordering::Relaxed);
        self.layers.join(format!("{}.partial-{n}", name.0))
    }

    /// A lease on the layer, or the claim to make it. Waits while somebody else is at it, and takes over where that
    /// fails or is cancelled.
    pub(crate) async fn lease_or_claim(self: &Arc<Self>, name: &Name) -> Result<Layer, Claim> {
        loop {
            let mut making = {
                let mut slots = self.lock();
                match slots.get(name) {
                    Some(Slot::Ready(stored)) => return Ok(Layer(stored.clone())),
                    Some(Slot::Making(making)) => making.clone(),
                    None => {
                        let (done, making) = watch::channel(());
                        slots.insert(name.clone(), Slot::Making(making));
                        return Err(Claim { store: self.clone(), name: name.clone(), _done: done });
                    }
                }
            };
            // An error is the channel's closing, which is what is waited for.
            let _ = making.changed().await;
        }
    }

    pub(crate) fn in_flight(&self) -> Arc<Semaphore> {
        self.in_flight.clone()
    }
}

/// The right to make a layer. Dropped, it lets the next who waits take over.
pub(crate) struct Claim {
    store: Arc<Store>,
    name: Name,
    _done: watch::Sender<()>,
}

impl Claim {
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Where to unpack.
    pub(crate) fn partial(&self) -> Result<Partial, Error> {
        Partial::create(self.store.partial_path(&self.name))
    }

    /// An empty reservation in the store's budget.
    pub(crate) fn reservation(&self) -> Reservation {
        Reservation::new(self.store.space.clone())
    }

    /// The layer's final place.
    pub(crate) fn path(&self) -> PathBuf {
        self.store.layers.join(&self.name.0)
    }

    /// Puts the finished layer into the store.
    pub(crate) fn keep(self, partial: Partial, stored: Stored) -> Result<Layer, Error> {
        partial.commit(&stored.path)?;
        let stored = Arc::new(stored);
        self.store.lock().insert(self.name.clone(), Slot::Ready(stored.clone()));
        Ok(Layer(stored))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut slots = self.store.lock();
        if matches!(slots.get(&self.name), Some(Slot::Making(_))) {
            slots.remove(&self.name);
        }
    }
}
