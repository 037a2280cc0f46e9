//! Tells when someone changes an installed file, by inotify.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// Files that are watched, through the folders that they are in.
#[derive(Debug)]
pub struct Watched {
    fd: AsyncFd<OwnedFd>,
    /// For each folder the names in it that count.
    names: HashMap<i32, BTreeSet<OsString>>,
}

impl Watched {
    /// Watches `files`. Of one whose folder is not there the nearest folder above is watched for it to come.
    ///
    /// # Errors
    /// Where the system has no more inotify instances or watches.
    pub fn new(files: &[PathBuf]) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut names: HashMap<i32, BTreeSet<OsString>> = HashMap::new();
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        for file in files {
            let mut at: &Path = file;
            while let (Some(folder), Some(name)) = (at.parent(), at.file_name()) {
                match inotify::add_watch(&fd, folder, flags) {
                    Ok(watch) => {
                        names.entry(watch).or_default().insert(name.to_owned());
                        break;
                    }
                    Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => at = folder,
                    Err(e) => return Err(e.into()),
                }
            }
        }
        Ok(Watched { fd: register(fd)?, names })
    }

    /// Whether one of the files was changed, or may have been, since it was last asked.
    pub fn has_changed(&mut self) -> bool {
        drain(self.fd.get_ref(), &self.names).unwrap_or(true)
    }

    /// Waits until one of the files was changed, or may have been. Cancel-safe.
    ///
    /// # Errors
    /// Of reading.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.fd.readable().await?;
            if drain(self.fd.get_ref(), &self.names)? {
                return Ok(());
            }
            ready.clear_ready();
        }
    }
}

// The runtime asks for a promise about the descriptor.
#[allow(unsafe_code)]
fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open as long as it lives, and is neither closed nor replaced while `AsyncFd` owns it.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Reads all events that are there; whether one counts.
fn drain(fd: &OwnedFd, names: &HashMap<i32, BTreeSet<OsString>>) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(fd, &mut buffer);
    let mut counts = false;
    loop {
        let event = match reader.next() {
            Ok(event) => event,
            Err(rustix::io::Errno::AGAIN) => return Ok(counts),
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        };
        let lost =
            ReadFlags::QUEUE_OVERFLOW | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED;
        let name = event.file_name().map(|n| OsString::from(n.to_string_lossy().into_owned()));
        counts |= event.events().intersects(lost)
            || name.is_some_and(|n| names.get(&event.wd()).is_some_and(|known| known.contains(&n)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    async fn heard(watched: &mut Watched) -> bool {
        tokio::time::timeout(Duration::from_millis(300), watched.changed()).await.is_ok_and(|r| r.is_ok())
    }

    #[tokio::test]
    async fn a_change_of_an_installed_file_is_heard_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("cocoon.toml");
        let deep = dir.path().join("a/b/shim");
        fs::write(&file, "1").unwrap();
        let watch = || Watched::new(&[file.clone(), deep.clone()]).unwrap();
        let mut watched = watch();
        fs::write(dir.path().join("other.toml"), "1").unwrap();
        fs::write(dir.path().join(".cocoon-draft"), "1").unwrap();
        let _ = fs::read(&file).unwrap();
        assert!(!heard(&mut watched).await);
        fs::write(&file, "2").unwrap();
        assert!(heard(&mut watched).await);
        assert!(!heard(&mut watched).await, "said once");
        fs::rename(dir.path().join("other.toml"), &file).unwrap();
        assert!(heard(&mut watched).await);
        fs::remove_file(&file).unwrap();
        assert!(heard(&mut watched).await);
        fs::create_dir_all(deep.parent().unwrap()).unwrap();
        assert!(heard(&mut watched).await, "a folder on the way to a file came");
        let mut watched = watch();
        fs::remove_dir_all(dir.path().join("a")).unwrap();
        assert!(heard(&mut watched).await);
    }
}
