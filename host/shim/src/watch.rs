//! Says when something in folders of this host has changed (inotify(7)).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Most changes taken at once.
const MAX_CHANGES: usize = 4096;
/// Most folders of one volume.
const MAX_FOLDERS: usize = 256;
/// As deep as a volume's content may be.
const MAX_DEPTH: usize = cocoon_plan::files::MAX_DEPTH;

/// Watches of the volumes of one pod, in one of the kernel's instances: of those a user has few.
pub struct Watches {
    events: AsyncFd<OwnedFd>,
    /// Whose folders the kernel's watches are of.
    owners: Mutex<Owners>,
}

/// Volumes by the kernel's number for a watch.
type Owners = BTreeMap<i32, BTreeSet<String>>;

impl Watches {
    /// Watches nothing yet. Needs a Tokio runtime.
    ///
    /// # Errors
    /// The kernel's: a user has only so many instances.
    pub fn new() -> io::Result<Watches> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Watches { events: ready(descriptor)?, owners: Mutex::default() })
    }

    /// From now on this volume is these places and all folders below them, as they are now.
    ///
    /// # Errors
    /// The kernel's: of watches too a user has only so many. What was watched before still is.
    pub fn set<'a>(&self, volume: &str, places: impl IntoIterator<Item = &'a PathBuf>) -> io::Result<()> {
        let mut folders = BTreeSet::new();
        for place in places {
            gather(place, 0, &mut folders);
        }
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ATTRIB;
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = BTreeSet::new();
        for folder in folders {
            match inotify::add_watch(self.events.get_ref(), &folder, flags) {
                // It went while it was looked at: what is watched above it says so.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                added => {
                    let number = added?;
                    wanted.insert(number);
                    owners.entry(number).or_default().insert(volume.to_owned());
                }
            }
        }
        owners.retain(|number, volumes| {
            if !wanted.contains(number) {
                volumes.remove(volume);
            }
            if volumes.is_empty() {
                // Of a folder that is gone the kernel has let go by itself.
                let _ = inotify::remove_watch(self.events.get_ref(), *number);
            }
            !volumes.is_empty()
        });
        Ok(())
    }

    /// Waits for a change; gives the volumes of all that are known by then. Safe to cancel.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn changed(&self) -> io::Result<BTreeSet<String>> {
        loop {
            let mut ready = self.events.readable().await?;
            let taken = ready.try_io(|events| drain(events.get_ref()));
            // Where it was not ready after all it waits again.
            if let Ok(drained) = taken {
                let changed = self.volumes(&drained?);
                if !changed.is_empty() {
                    return Ok(changed);
                }
            }
        }
    }

    fn volumes(&self, changes: &[Change]) -> BTreeSet<String> {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let mut volumes = BTreeSet::new();
        for change in changes {
            match change {
                Change::In(number) => volumes.extend(owners.get(number).cloned().unwrap_or_default()),
                Change::Gone(number) => volumes.extend(owners.remove(number).unwrap_or_default()),
                Change::Lost => volumes.extend(owners.values().flatten().cloned()),
            }
        }
        volumes
    }
}

/// What the kernel says of its watches.
enum Change {
    /// Something changed there.
    In(i32),
    /// What was watched is gone, and the watch with it.
    Gone(i32),
    /// There was more to say than it keeps.
    Lost,
}

#[allow(unsafe_code)]
fn ready(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `OwnedFd` owns an open descriptor, which is not replaced or closed while `AsyncFd` has it.
    let watched = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
    watched.map_err(io::Error::from)
}

/// Takes what is there; `WouldBlock` where nothing was.
fn drain(descriptor: &OwnedFd) -> io::Result<Vec<Change>> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(descriptor, &mut buffer);
    let mut changes = Vec::new();
    loop {
        match reader.next() {
            // The queue is bounded by the kernel, but may be filled as fast as it is read.
            Ok(_) if changes.len() >= MAX_CHANGES => return Ok(vec![Change::Lost]),
            Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => changes.push(Change::Lost),
            Ok(event) if event.events().contains(ReadFlags::IGNORED) => {
                changes.push(Change::Gone(event.wd()))
            }
            Ok(event) => changes.push(Change::In(event.wd())),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && !changes.is_empty() => return Ok(changes),
            Err(e) => return Err(e.into()),
        }
    }
}

/// The place and the folders below it. Links are not followed: kubelet's lead to folders of the same volume.
fn gather(place: &Path, depth: usize, folders: &mut BTreeSet<PathBuf>) {
    if folders.len() >= MAX_FOLDERS || depth > MAX_DEPTH {
        return;
    }
    folders.insert(place.to_owned());
    let Ok(entries) = std::fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            gather(&entry.path(), depth + 1, folders);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    async fn seen(watches: &Watches) -> Vec<String> {
        let changed = tokio::time::timeout(Duration::from_secs(10), watches.changed()).await;
        changed.unwrap().unwrap().into_iter().collect()
    }

    async fn quiet(watches: &Watches) -> bool {
        tokio::time::timeout(Duration::from_millis(50), watches.changed()).await.is_err()
    }

    #[tokio::test]
    async fn kubelets_exchange_and_plain_writes_are_seen_by_volume() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let watches = Watches::new().unwrap();
        watches.set("v", [&dir.path().to_owned()]).unwrap();
        watches.set("w", [&other.path().to_owned()]).unwrap();
        assert!(quiet(&watches).await, "nothing has happened yet");
        symlink("x", dir.path().join("..data_tmp")).unwrap();
        std::fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        assert_eq!(seen(&watches).await, ["v"]);
        std::fs::write(dir.path().join("sub/file"), "x").unwrap();
        assert_eq!(seen(&watches).await, ["v"]);
        std::fs::write(other.path().join("file"), "x").unwrap();
        assert_eq!(seen(&watches).await, ["w"]);
        // A folder of both, and one that is watched no more.
        let single = dir.path().join("sub/file");
        watches.set("w", [&single]).unwrap();
        watches.set("v", [&dir.path().join("sub")]).unwrap();
        std::fs::write(other.path().join("file"), "y").unwrap();
        std::fs::write(dir.path().join("top"), "y").unwrap();
        assert!(quiet(&watches).await);
        std::fs::write(&single, "y").unwrap();
        assert_eq!(seen(&watches).await, ["v", "w"]);
    }
}
