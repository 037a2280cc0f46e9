//! Says when something in folders of this host has changed (inotify(7)).

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Most folders of one watch.
const MAX_FOLDERS: usize = 256;
/// As deep as a volume's content may be.
const MAX_DEPTH: usize = cocoon_plan::files::MAX_DEPTH;

/// A watch over folders and files.
pub struct Watch {
    events: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Watches these and all folders below them. Needs a Tokio runtime.
    ///
    /// # Errors
    /// The kernel's: of watches a machine has only so many.
    pub fn over<'a>(places: impl IntoIterator<Item = &'a PathBuf>) -> io::Result<Watch> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
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
        for folder in folders {
            match inotify::add_watch(&descriptor, &folder, flags) {
                // It went while it was looked at: what is watched above it says so.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                added => drop(added?),
            }
        }
        Ok(Watch { events: ready(descriptor)? })
    }

    /// Waits for a change; takes all that are known by then as one. Safe to cancel.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.events.readable().await?;
            let taken = ready.try_io(|events| drain(events.get_ref()));
            // Where it was not ready after all it waits again.
            if let Ok(drained) = taken {
                return drained;
            }
        }
    }
}

#[allow(unsafe_code)]
fn ready(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `OwnedFd` owns an open descriptor, which is not replaced or closed while `AsyncFd` has it.
    let watched = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
    watched.map_err(io::Error::from)
}

/// Takes what is there; `WouldBlock` where nothing was.
fn drain(descriptor: &OwnedFd) -> io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(descriptor, &mut buffer);
    let mut any = false;
    loop {
        match reader.next() {
            Ok(_) => any = true,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && any => return Ok(()),
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

    async fn seen(watch: &mut Watch) -> bool {
        tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.is_ok_and(|seen| seen.is_ok())
    }

    #[tokio::test]
    async fn kubelets_exchange_and_plain_writes_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let mut watch = Watch::over([&dir.path().to_owned()]).unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(50), watch.changed()).await;
        assert!(quiet.is_err(), "nothing has happened yet");
        symlink("x", dir.path().join("..data_tmp")).unwrap();
        std::fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        assert!(seen(&mut watch).await);
        std::fs::write(dir.path().join("sub/file"), "x").unwrap();
        assert!(seen(&mut watch).await);
        let single = dir.path().join("sub/file");
        let mut watch = Watch::over([&single]).unwrap();
        std::fs::write(&single, "y").unwrap();
        assert!(seen(&mut watch).await);
    }
}
