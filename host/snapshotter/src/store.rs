//! The snapshots: a graph of names, kept on disk, with the transitions that containerd's own snapshotters have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::FlockOperation;

pub use crate::record::{Kind, Snapshot};

use crate::record::{Records, Time};
use crate::rooms::{Rooms, Used};
use crate::{Accounts, Error};

/// Most snapshots.
const MAX_SNAPSHOTS: usize = 1 << 17;
/// Most bytes of a name or key.
const MAX_NAME: usize = 2048;
/// Most bytes of a label's name and value together; containerd's own limit.
const MAX_LABEL: usize = 4096;
/// Most bytes of all labels of a snapshot.
const MAX_LABELS: usize = 64 * 1024;

/// Labels of a snapshot.
pub type Labels = BTreeMap<String, String>;

/// The label by which containerd says, before it fetches a layer, which snapshot is to come of it.
pub(crate) const REFERENCE: &str = "containerd.io/snapshot.ref";

/// The snapshots of one folder.
#[derive(Debug)]
pub struct Store {
    state: Mutex<State>,
    records: Records,
    rooms: Rooms,
    /// Its lock ends with the process.
    _lock: File,
}

#[derive(Debug)]
struct State {
    snapshots: BTreeMap<String, Snapshot>,
    /// How many are based on one.
    children: BTreeMap<String, usize>,
    next: u64,
}

impl Store {
    /// Opens the folder, made (0700) where it is not there, and makes good what a killed process left.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Io`].
    pub fn open(folder: &Path) -> Result<Store, Error> {
        let private = |path: &Path| {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::io(path))
        };
        private(folder)?;
        let folder = folder.canonicalize().map_err(Error::io(folder))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(Error::io(&path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::InUse(folder)),
            Err(e) => return Err(Error::io(&path)(e.into())),
        }
        let inner = |name| {
            let path: PathBuf = folder.join(name);
            private(&path).map(|()| path)
        };
        let records = Records::new(inner("records")?);
        let rooms = Rooms::new(inner("snapshots")?, inner("trash")?);

        let mut state = State { snapshots: BTreeMap::new(), children: BTreeMap::new(), next: 1 };
        for snapshot in records.load()? {
            state.next = state.next.max(snapshot.id.saturating_add(1));
            state.insert(snapshot);
        }
        let with_room = state.snapshots.values().filter(|s| s.kind != Kind::Committed);
        let largest = rooms.discard_others(&with_room.map(|s| s.id).collect())?;
        state.next = state.next.max(largest.saturating_add(1));
        rooms.empty_trash();
        for snapshot in state.snapshots.values().filter(|s| s.kind != Kind::Committed) {
            rooms.make(snapshot.id)?;
        }
        Ok(Store { state: Mutex::new(state), records, rooms, _lock: lock })
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one insertion or removal, made after the disk has it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new snapshot that is not committed, with its directory; with the accounts in it, if given.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] for the key, [`Error::NotFound`] for the parent, [`Error::Invalid`] for one that is not
    /// committed, or names or labels out of bounds; [`Error::TooMany`], [`Error::Io`].
    pub fn create(
        &self,
        kind: Kind,
        key: &str,
        parent: &str,
        labels: Labels,
        accounts: Option<&Accounts>,
    ) -> Result<Snapshot, Error> {
        let mut state = self.locked();
        let snapshot = state.new_snapshot(kind, key, parent, labels)?;
        self.rooms.make(snapshot.id)?;
        let furnished = accounts.map_or(Ok(()), |accounts| self.rooms.furnish(snapshot.id, accounts));
        if let Err(error) = furnished.and_then(|()| self.records.put(&snapshot)) {
            let _ = self.rooms.discard(snapshot.id);
            return Err(error);
        }
        state.insert(snapshot.clone());
        Ok(snapshot)
    }

    /// The committed snapshot of a layer that containerd is about to fetch, made where there is none: the layer is never
    /// looked at. It is named by its reference, so that containerd's namespaces share it; where one of that name has
    /// another parent, a number is appended.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn adopt(&self, reference: &str, parent: &str, mut labels: Labels) -> Result<Snapshot, Error> {
        labels.insert(REFERENCE.to_owned(), reference.to_owned());
        let mut state = self.locked();
        let same = |s: &&Snapshot| {
            s.kind == Kind::Committed
                && s.parent == parent
                && s.labels.get(REFERENCE).is_some_and(|r| r == reference)
        };
        let named = state.snapshots.get(reference);
        let found = named.filter(same).or_else(|| {
            // Only where the plain name is another's is there a reason to look at all of them.
            named.and_then(|_| state.snapshots.values().find(same))
        });
        if let Some(found) = found {
            return Ok(found.clone());
        }
        let name = match named {
            None => reference.to_owned(),
            Some(_) => format!("{reference}@{}", state.next),
        };
        let snapshot = state.new_snapshot(Kind::Committed, &name, parent, labels)?;
        self.records.put(&snapshot)?;
        state.insert(snapshot.clone());
        Ok(snapshot)
    }

    /// Commits an active snapshot under a name. What was written to it is discarded: nobody on this host needs it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::AlreadyExists`] for the name, [`Error::Precondition`] for one that is not active.
    pub fn commit(&self, key: &str, name: &str, labels: Labels) -> Result<(), Error> {
        check_name(name)?;
        check_labels(&labels)?;
        let mut state = self.locked();
        if state.snapshots.contains_key(name) {
            return Err(Error::AlreadyExists(name.into()));
        }
        let active = state.get(key)?;
        if active.kind != Kind::Active {
            return Err(Error::Precondition(format!("snapshot {key} is not active")));
        }
        let now = Time::now();
        let committed = Snapshot {
            name: name.into(),
            kind: Kind::Committed,
            created: now,
            updated: now,
            labels,
            ..active.clone()
        };
        self.records.put(&committed)?;
        state.take(key);
        state.insert(committed.clone());
        self.rooms.discard(committed.id)?;
        drop(state);
        self.rooms.empty_trash();
        Ok(())
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Precondition`] while others are based on it.
    pub fn remove(&self, key: &str) -> Result<(), Error> {
        let mut state = self.locked();
        let id = state.get(key)?.id;
        if state.children.contains_key(key) {
            return Err(Error::Precondition(format!("others are based on snapshot {key}")));
        }
        self.records.remove(id)?;
        state.take(key);
        self.rooms.discard(id)?;
        drop(state);
        self.rooms.empty_trash();
        Ok(())
    }

    /// One snapshot.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn get(&self, key: &str) -> Result<Snapshot, Error> {
        self.locked().get(key).cloned()
    }

    /// The directory of a snapshot, and whether accounts are in it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Precondition`] for a committed one.
    pub fn room(&self, key: &str) -> Result<(Snapshot, PathBuf, bool), Error> {
        let snapshot = self.get(key)?;
        if snapshot.kind == Kind::Committed {
            return Err(Error::Precondition(format!("snapshot {key} is neither active nor a view")));
        }
        let (path, furnished) = (self.rooms.path(snapshot.id), self.rooms.furnished(snapshot.id));
        Ok((snapshot, path, furnished))
    }

    /// Puts accounts where a snapshot has none.
    ///
    /// # Errors
    /// As [`Store::room`]; [`Error::Io`].
    pub fn furnish(&self, key: &str, accounts: &Accounts) -> Result<(), Error> {
        let state = self.locked();
        let snapshot = state.get(key)?;
        match snapshot.kind {
            Kind::Committed => {
                Err(Error::Precondition(format!("snapshot {key} is neither active nor a view")))
            }
            _ => self.rooms.furnish(snapshot.id, accounts),
        }
    }

    /// Replaces labels: all, or those that `only` names; one without a value is removed.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`].
    pub fn relabel(&self, key: &str, labels: Labels, only: Option<&[String]>) -> Result<Snapshot, Error> {
        let mut state = self.locked();
        let mut changed = state.get(key)?.clone();
        match only {
            None => changed.labels = labels,
            Some(names) => {
                for name in names {
                    match labels.get(name).filter(|value| !value.is_empty()) {
                        Some(value) => changed.labels.insert(name.clone(), value.clone()),
                        None => changed.labels.remove(name),
                    };
                }
            }
        }
        check_labels(&changed.labels)?;
        changed.updated = Time::now();
        self.records.put(&changed)?;
        state.snapshots.insert(key.to_owned(), changed.clone());
        Ok(changed)
    }

    /// Those that `wanted` says, in the order of their names.
    pub fn list(&self, wanted: impl Fn(&Snapshot) -> bool) -> Vec<Snapshot> {
        self.locked().snapshots.values().filter(|s| wanted(s)).cloned().collect()
    }

    /// What a snapshot takes on this host; a committed one nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`].
    pub fn used(&self, key: &str) -> Result<Used, Error> {
        let snapshot = self.get(key)?;
        match snapshot.kind {
            Kind::Committed => Ok(Used::default()),
            _ => self.rooms.used(snapshot.id),
        }
    }

    /// Deletes what is no snapshot's.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn clean(&self) -> Result<(), Error> {
        let state = self.locked();
        let wanted: BTreeSet<u64> =
            state.snapshots.values().filter(|s| s.kind != Kind::Committed).map(|s| s.id).collect();
        self.rooms.discard_others(&wanted)?;
        drop(state);
        self.rooms.empty_trash();
        Ok(())
    }
}

impl State {
    fn get(&self, key: &str) -> Result<&Snapshot, Error> {
        self.snapshots.get(key).ok_or_else(|| Error::NotFound(key.into()))
    }

    /// Checks a new snapshot and gives it its number.
    fn new_snapshot(
        &mut self,
        kind: Kind,
        name: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<Snapshot, Error> {
        check_name(name)?;
        check_labels(&labels)?;
        if !parent.is_empty() && self.get(parent)?.kind != Kind::Committed {
            return Err(Error::Invalid(format!("the parent {parent} is not committed")));
        }
        if self.snapshots.contains_key(name) {
            return Err(Error::AlreadyExists(name.into()));
        }
        if self.snapshots.len() >= MAX_SNAPSHOTS {
            return Err(Error::TooMany(self.snapshots.len()));
        }
        let (id, now) = (self.next, Time::now());
        self.next = id.saturating_add(1);
        let (name, parent) = (name.to_owned(), parent.to_owned());
        Ok(Snapshot { id, name, parent, kind, created: now, updated: now, labels })
    }

    fn insert(&mut self, snapshot: Snapshot) {
        if !snapshot.parent.is_empty() {
            let count = self.children.entry(snapshot.parent.clone()).or_default();
            *count = count.saturating_add(1);
        }
        self.snapshots.insert(snapshot.name.clone(), snapshot);
    }

    fn take(&mut self, key: &str) {
        let Some(snapshot) = self.snapshots.remove(key) else { return };
        if let Some(count) = self.children.get_mut(&snapshot.parent) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.children.remove(&snapshot.parent);
            }
        }
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    match name.len() {
        0 => Err(Error::Invalid("a snapshot's name must not be empty".into())),
        1..=MAX_NAME if !name.chars().any(char::is_control) => Ok(()),
        _ => Err(Error::Invalid(format!("a snapshot's name has at most {MAX_NAME} bytes, all printable"))),
    }
}

fn check_labels(labels: &Labels) -> Result<(), Error> {
    let mut all = 0_usize;
    for (name, value) in labels {
        let bytes = name.len().saturating_add(value.len());
        if name.is_empty() || bytes > MAX_LABEL {
            return Err(Error::Invalid(format!("a label has a name, and at most {MAX_LABEL} bytes")));
        }
        all = all.saturating_add(bytes);
    }
    if all > MAX_LABELS {
        return Err(Error::Invalid(format!("labels have at most {MAX_LABELS} bytes together")));
    }
    Ok(())
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
