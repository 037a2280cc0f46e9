//! The volumes whose files the host hands over: one generation after the other, each taken as a whole or not at all.
//!
//! A volume's folder looks as Kubernetes makes it, so that programs which watch their configuration see what they
//! expect: the files lie in a folder of their generation, `..data` is a link to it, and each name is a link through
//! `..data`. A new generation is written elsewhere; renaming one link exchanges all files at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cocoon_plan::files::MAX_POD_BYTES;
use tokio::sync::watch;

use super::Refusal;
use super::tree::{self, Piece, Tree};

/// The link to the present generation.
const DATA: &str = "..data";
/// Its next value, before it takes its place.
const NEXT: &str = "..data_tmp";

/// The pod's volumes of files.
#[derive(Debug)]
pub(super) struct Files {
    /// Holds `files/VOLUME`, which containers mount, and `incoming/VOLUME`.
    folder: PathBuf,
    volumes: Mutex<BTreeMap<String, Volume>>,
}

struct Volume {
    digests: Option<BTreeMap<String, String>>,
    /// The largest generation of which anything came.
    newest: u64,
    incoming: Option<Incoming>,
    present: Option<Present>,
    /// What is there, for those who wait for it.
    announced: watch::Sender<Arrived>,
}

/// What has come of a volume.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrived {
    /// The present generation, 0 where there is none yet.
    pub(super) generation: u64,
    /// Its files, where the plan has digests.
    pinned: BTreeSet<String>,
}

impl Arrived {
    /// Whether all is there of what the plan has at or below `sub_path` of the volume (empty: all of it). Of a volume
    /// without digests it is not known what that is: any generation counts.
    pub(super) fn holds(&self, digests: Option<&BTreeMap<String, String>>, sub_path: &str) -> bool {
        let wanted = |path: &str| match path.strip_prefix(sub_path) {
            Some(rest) => sub_path.is_empty() || rest.is_empty() || rest.starts_with('/'),
            None => false,
        };
        let mut pinned = digests.into_iter().flat_map(BTreeMap::keys).filter(|path| wanted(path));
        self.generation != 0 && pinned.all(|path| self.pinned.contains(path))
    }
}

impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Volume").field("newest", &self.newest).finish_non_exhaustive()
    }
}

struct Incoming {
    generation: u64,
    tree: Tree,
}

struct Present {
    folder: String,
    names: BTreeSet<String>,
    taken: u64,
}

impl Volume {
    fn taken(&self) -> u64 {
        let present = self.present.as_ref().map_or(0, |p| p.taken);
        present.max(self.incoming.as_ref().map_or(0, |i| i.tree.taken()))
    }
}

impl Files {
    /// None yet; `folder` is made when it is needed.
    pub(super) fn new(folder: PathBuf) -> Self {
        Files { folder, volumes: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Volume>> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a volume, empty until the host hands files over; nothing where it is there already.
    pub(super) fn add(&self, name: &str, digests: Option<BTreeMap<String, String>>) {
        self.lock().entry(name.to_owned()).or_insert_with(|| Volume {
            digests,
            newest: 0,
            incoming: None,
            present: None,
            announced: watch::Sender::default(),
        });
    }

    /// Where a volume is mounted from.
    pub(super) fn root(&self, name: &str) -> PathBuf {
        self.folder.join("files").join(name)
    }

    /// Hears of each generation of a volume.
    pub(super) fn generations(&self, name: &str) -> Option<watch::Receiver<Arrived>> {
        self.lock().get(name).map(|v| v.announced.subscribe())
    }

    /// Takes pieces of a generation, and with `commit` the whole in place of what was there. A half-sent generation ends
    /// with the first piece of a newer one, and with whatever is wrong with it. Blocks.
    pub(super) fn put(
        &self,
        name: &str,
        generation: u64,
        pieces: &[Piece<'_>],
        commit: bool,
    ) -> Result<(), Refusal> {
        let mut volumes = self.lock();
        let others = volumes.iter().filter(|(n, _)| *n != name).map(|(_, v)| v.taken());
        let room = MAX_POD_BYTES.saturating_sub(others.fold(0, u64::saturating_add));
        let volume = volumes
            .get_mut(name)
            .ok_or_else(|| Refusal::Host(format!("{name:?} is no volume for files of the host")))?;
        let place = Place { root: self.root(name), incoming: self.folder.join("incoming").join(name) };
        let done = volume.put(&place, generation, pieces, commit, room);
        if volume.incoming.is_none() {
            let _ = fs::remove_dir_all(&place.incoming);
        }
        done
    }

    /// Copies the present generation to `to`, which does not exist. Blocks.
    pub(super) fn copy(&self, name: &str, to: &Path) -> io::Result<()> {
        // Under the lock, so that the generation stays while it is copied.
        let volumes = self.lock();
        let present = volumes.get(name).and_then(|v| v.present.as_ref());
        let present = present.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        tree::copy(&self.root(name).join(&present.folder), to)
    }
}

/// A volume's two folders.
struct Place {
    root: PathBuf,
    incoming: PathBuf,
}

impl Volume {
    fn put(
        &mut self,
        place: &Place,
        generation: u64,
        pieces: &[Piece<'_>],
        commit: bool,
        room: u64,
    ) -> Result<(), Refusal> {
        let incoming = match self.incoming.take() {
            Some(incoming) if incoming.generation == generation => incoming,
            // An older one must not end what is under way.
            incoming if generation <= self.newest => {
                self.incoming = incoming;
                return Err(Refusal::Host(format!("generation {generation} after {}", self.newest)));
            }
            _ => {
                self.newest = generation;
                fresh(&place.incoming).map_err(Refusal::io("make a volume's folder"))?;
                let tree = Tree::open(&place.incoming).map_err(Refusal::io("open a volume's folder"))?;
                Incoming { generation, tree }
            }
        };
        let mut tree = incoming.tree;
        for piece in pieces {
            if self.digests.as_ref().is_some_and(|d| !d.contains_key(piece.path)) {
                return Err(Refusal::Digests(format!("file {:?} is not the plan's", piece.path)));
            }
            tree.add(piece, room)?;
        }
        if commit {
            let complete = tree.finish(self.digests.as_ref(), &self.announced.borrow().pinned)?;
            let pinned = complete.pinned.clone();
            self.exchange(place, generation, complete)
                .map_err(Refusal::io("put a volume's files in place"))?;
            self.announced.send_replace(Arrived { generation, pinned });
        } else {
            self.incoming = Some(Incoming { generation, tree });
        }
        Ok(())
    }

    fn exchange(&mut self, place: &Place, generation: u64, complete: tree::Complete) -> io::Result<()> {
        let folder = format!("..{generation}");
        folder_0755(&place.root)?;
        let new = place.root.join(&folder);
        fs::rename(&place.incoming, &new)?;
        let next = place.root.join(NEXT);
        let exchanged = remove_link(&next)
            .and_then(|()| symlink(&folder, &next))
            .and_then(|()| fs::rename(&next, place.root.join(DATA)));
        if let Err(e) = exchanged {
            let _ = remove_link(&next);
            let _ = fs::remove_dir_all(&new);
            return Err(e);
        }
        // From here on the new generation is what containers see. What remains is names, each tried whatever became of
        // the others.
        let mut done = Ok(());
        for name in &complete.names {
            match symlink(Path::new(DATA).join(name), place.root.join(name)) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => done = done.and(Err(e)),
                _ => {}
            }
        }
        if let Some(old) = self.present.take() {
            for name in old.names.difference(&complete.names) {
                done = done.and(remove_link(&place.root.join(name)));
            }
            done = done.and(fs::remove_dir_all(place.root.join(&old.folder)));
        }
        self.present = Some(Present { folder, names: complete.names, taken: complete.taken });
        done
    }
}

/// Makes an empty folder, in place of whatever an earlier attempt left there.
fn fresh(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    folder_0755(path)
}

fn folder_0755(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)
}

fn remove_link(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
