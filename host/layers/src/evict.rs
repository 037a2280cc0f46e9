//! What is in the cache, and making room in it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;

use crate::cache::{Inner, Wanted, blocking, least_bytes};
use crate::convert::check;
use crate::lease::{lease, root_of};
use crate::locks::{Claim, gate, try_lock};
use crate::{Cache, Error, folder, shape};

/// A layer in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its root hash, 64 hex digits.
    pub root: String,
    /// Bytes of its file.
    pub bytes: u64,
    /// Data blocks; `None` where its length is none that a layer can have.
    pub blocks: Option<u64>,
    /// When it was last taken, in seconds since 1970.
    pub used_unix: u64,
    /// Whether a pod uses it.
    pub in_use: bool,
    /// Diff ids of layers that became it, as the cache remembers.
    pub diff_ids: Vec<String>,
}

/// How full the cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Number of layers.
    pub layers: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of those that pods use.
    pub in_use: u64,
    /// The most that all may have.
    pub limit: u64,
}

/// What a full check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The layer's root hash, 64 hex digits.
    pub root: String,
    /// What is wrong; `None` where every block is right.
    pub problem: Option<String>,
    /// Whether the layer was removed for it. One that a pod uses stays until a later check.
    pub removed: bool,
}

impl Cache {
    /// All layers, the last used first.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn list(&self) -> Result<Vec<Entry>, Error> {
        let inner = self.inner.clone();
        blocking(move || {
            let gate = gate(&inner.gate)?;
            let mut entries = inner.entries()?;
            drop(gate);
            entries.reverse();
            Ok(entries)
        })
        .await
    }

    /// How full the cache is.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn usage(&self) -> Result<Usage, Error> {
        let entries = self.list().await?;
        let sum = |of: &dyn Fn(&Entry) -> bool| entries.iter().filter(|e| of(e)).map(|e| e.bytes).sum();
        Ok(Usage {
            layers: entries.len(),
            bytes: sum(&|_| true),
            in_use: sum(&|e| e.in_use),
            limit: self.inner.limit,
        })
    }

    /// Removes a layer that no pod uses.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Absent`], [`Error::Io`].
    pub async fn remove(&self, root: [u8; 32]) -> Result<(), Error> {
        let inner = self.inner.clone();
        blocking(move || {
            let _gate = gate(&inner.gate)?;
            match inner.evict(root)? {
                Evicted::Yes => {
                    inner.forget_stale();
                    Ok(())
                }
                Evicted::InUse => Err(Error::InUse(hex::encode(root))),
                Evicted::Absent => Err(Error::Absent(hex::encode(root))),
            }
        })
        .await
    }

    /// Removes layers that no pod uses, the longest unused first, until all together have at most `to_bytes`. Gives
    /// the roots of those removed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn prune(&self, to_bytes: u64) -> Result<Vec<String>, Error> {
        let inner = self.inner.clone();
        blocking(move || inner.shrink(to_bytes)).await
    }

    /// Checks every block of every layer, or of those with the given roots, against the root hash, and removes damaged
    /// ones that nobody uses: whoever wants them next has them made again.
    ///
    /// # Errors
    /// [`Error::Io`]; what is wrong with a layer is in its verdict.
    pub async fn verify(&self, roots: &[[u8; 32]]) -> Result<Vec<Verdict>, Error> {
        let (inner, mut roots) = (self.inner.clone(), roots.to_vec());
        blocking(move || {
            if roots.is_empty() {
                let _gate = gate(&inner.gate)?;
                roots = inner.entries()?.iter().filter_map(|e| root_of(&e.root)).collect();
            }
            Ok(roots.into_iter().map(|root| inner.verdict(root)).collect())
        })
        .await
    }
}

enum Evicted {
    Yes,
    InUse,
    Absent,
}

impl Inner {
    /// All layers, the longest unused first. What has no root's name is not ours and is left alone. The gate must be
    /// held, or who looks which are in use would take another's look for a use.
    fn entries(&self) -> Result<Vec<Entry>, Error> {
        let mut diff_ids: BTreeMap<[u8; 32], Vec<String>> = BTreeMap::new();
        for (_, diff_id, rooted) in self.index.all() {
            diff_ids.entry(rooted.root).or_default().push(diff_id.to_string());
        }
        let mut entries = Vec::new();
        for found in std::fs::read_dir(&self.layers).map_err(Error::io(&self.layers))?.flatten() {
            let Some((name, root)) =
                found.file_name().into_string().ok().and_then(|n| Some((n.clone(), root_of(&n)?)))
            else {
                continue;
            };
            // One that vanishes meanwhile is no longer there.
            let Ok(meta) = found.path().symlink_metadata() else { continue };
            entries.push(Entry {
                bytes: meta.len(),
                blocks: meta.is_file().then(|| shape::data_blocks(meta.len())).flatten(),
                used_unix: u64::try_from(meta.mtime()).unwrap_or(0),
                in_use: self.in_use(&name),
                diff_ids: diff_ids.remove(&root).unwrap_or_default(),
                root: name,
            });
        }
        // Seconds are too coarse for layers that came together; the rest is in the order of names.
        entries.sort_by_cached_key(|e| (self.used(&e.root), e.root.clone()));
        Ok(entries)
    }

    fn used(&self, name: &str) -> SystemTime {
        let found = self.layers.join(name).symlink_metadata().and_then(|m| m.modified());
        found.unwrap_or(UNIX_EPOCH)
    }

    fn in_use(&self, name: &str) -> bool {
        let Ok(file) = folder::open(&self.layers.join(name)) else { return false };
        !try_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap_or(false)
    }

    /// Removes a layer unless somebody holds a lease on it.
    fn evict(&self, root: [u8; 32]) -> Result<Evicted, Error> {
        let path = self.layers.join(hex::encode(root));
        let fail = Error::io(&path);
        match folder::open(&path) {
            Ok(file) => {
                if !try_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(Error::io(&path))? {
                    return Ok(Evicted::InUse);
                }
                if !folder::names(&path, &file).map_err(Error::io(&path))? {
                    return Ok(Evicted::Absent);
                }
                std::fs::remove_file(&path).map_err(fail)?;
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Evicted::Absent),
            // A link, or what cannot be opened: nobody can have a lease on it.
            Err(_) => std::fs::remove_file(&path).map_err(fail)?,
        }
        tracing::debug!(root = hex::encode(root), "layer removed from the cache");
        Ok(Evicted::Yes)
    }

    /// Whether a layer of so many bytes could have room now.
    pub(crate) fn feasible(&self, bytes: u64, claim: &Claim) -> Result<(), Error> {
        let _gate = gate(&self.gate)?;
        self.room_beside(bytes, claim).map(drop)
    }

    /// Makes room for a layer in the making that has grown to so many bytes.
    pub(crate) fn claim(&self, bytes: u64, claim: &Claim) -> Result<(), Error> {
        let _gate = gate(&self.gate)?;
        if bytes <= claim.bytes() {
            return Ok(());
        }
        self.make_room(bytes, claim)?;
        claim.set(bytes)
    }

    /// Makes room for a layer of so many bytes; removes nothing where that would not be enough. The gate must be held.
    pub(crate) fn make_room(&self, bytes: u64, claim: &Claim) -> Result<(), Error> {
        let for_layers = self.room_beside(bytes, claim)?;
        let left = self.shrink_gated(for_layers)?.1;
        match left > for_layers {
            // One that could not be removed, or was taken meanwhile.
            true => Err(Error::Limit { bytes, in_use: left, limit: self.limit }),
            false => Ok(()),
        }
    }

    /// The bytes that finished layers may have beside this one and all others in the making; an error where those in use
    /// have more.
    fn room_beside(&self, bytes: u64, claim: &Claim) -> Result<u64, Error> {
        let in_use: u64 = self.entries()?.iter().filter(|e| e.in_use).map(|e| e.bytes).sum();
        let others = claim.others();
        let taken = bytes.saturating_add(others);
        match self.limit.checked_sub(taken) {
            Some(room) if in_use <= room => Ok(room),
            _ => Err(Error::Limit { bytes, in_use: in_use.saturating_add(others), limit: self.limit }),
        }
    }

    /// Removes what nobody uses from a full disk, as much as a second try to make a layer is likely to need. `false`
    /// where that cannot help: then nothing is removed.
    pub(crate) fn make_disk_room(&self, wanted: &Wanted, packed: u64, claim: &Claim) -> Result<bool, Error> {
        let _gate = gate(&self.gate)?;
        let space = rustix::fs::statvfs(&self.layers).map_err(|e| Error::io(&self.layers)(e.into()))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        let entries = self.entries()?;
        let all: u64 = entries.iter().map(|e| e.bytes).sum();
        let idle: u64 = entries.iter().filter(|e| !e.in_use).map(|e| e.bytes).sum();
        // It grew so far before there was no space.
        let least = least_bytes(wanted, packed).max(claim.bytes());
        claim.set(0)?;
        if idle == 0 || least > free.saturating_add(idle) {
            return Ok(false);
        }
        // Unpacked it may be several times as large.
        let likely = if wanted.pinned.is_some() { least } else { least.saturating_mul(3) };
        let missing = likely.saturating_sub(free).clamp(1, idle);
        Ok(!self.shrink_gated(all.saturating_sub(missing))?.0.is_empty())
    }

    pub(crate) fn shrink(&self, to_bytes: u64) -> Result<Vec<String>, Error> {
        let _gate = gate(&self.gate)?;
        Ok(self.shrink_gated(to_bytes)?.0)
    }

    /// Removes what nobody uses until at most so many bytes are left, if that can be. Gives what was removed, and the
    /// bytes left.
    fn shrink_gated(&self, to_bytes: u64) -> Result<(Vec<String>, u64), Error> {
        let entries = self.entries()?;
        let mut left: u64 = entries.iter().map(|e| e.bytes).sum();
        let mut removed = Vec::new();
        for entry in entries {
            if left <= to_bytes {
                break;
            }
            let Some(root) = root_of(&entry.root) else { continue };
            match self.evict(root) {
                Ok(Evicted::Yes) => {
                    left = left.saturating_sub(entry.bytes);
                    removed.push(entry.root);
                }
                Ok(Evicted::Absent) => left = left.saturating_sub(entry.bytes),
                Ok(Evicted::InUse) => {}
                // A folder by a layer's name, for one: it must not keep the rest from being removed.
                Err(e) => tracing::warn!(error = %e, "a layer could not be removed from the cache"),
            }
        }
        if !removed.is_empty() {
            self.forget_stale();
        }
        Ok((removed, left))
    }

    /// Forgets which layers had the roots that are no longer there.
    fn forget_stale(&self) {
        for (name, _, rooted) in self.index.all() {
            if self.layers.join(hex::encode(rooted.root)).symlink_metadata().is_err() {
                self.index.forget(&name);
            }
        }
    }

    fn verdict(&self, root: [u8; 32]) -> Verdict {
        let problem = match lease(&self.layers, root) {
            Err(reason) => Some(reason.to_owned()),
            Ok(None) => Some("it is not in the cache".to_owned()),
            // The lease ends here, or it would keep the layer from being removed.
            Ok(Some(lease)) => check(&lease.file, lease.blocks, &root).err().map(|e| e.to_string()),
        };
        let removed = problem.is_some() && self.remove_damaged(root);
        Verdict { root: hex::encode(root), problem, removed }
    }

    fn remove_damaged(&self, root: [u8; 32]) -> bool {
        let Ok(_gate) = gate(&self.gate) else { return false };
        let removed = self.evict(root).is_ok_and(|evicted| matches!(evicted, Evicted::Yes));
        if removed {
            self.forget_stale();
        }
        removed
    }
}
