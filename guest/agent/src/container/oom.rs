//! Notices that memory ran out in a container: the kernel counts the processes that it killed for it, and says when the
//! count changes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::syscalls::watched;

/// How often one container's shortage is told: a program that runs into it again and again is not worth a line each time.
const MAX_TOLD: u32 = 64;

/// Says when a file of a cgroup changes.
pub(crate) struct Changes(AsyncFd<std::os::fd::OwnedFd>);

impl Changes {
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn of(file: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&inotify, file, WatchFlags::MODIFY)?;
        Ok(Changes(watched(inotify, Interest::READABLE)?))
    }

    /// Waits for a change since the last call, or since the beginning.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) async fn next(&self) -> io::Result<()> {
        let mut buffer = [0; 1024];
        let read = |fd: &std::os::fd::OwnedFd| Ok(rustix::io::read(fd, &mut buffer)?);
        self.0.async_io(Interest::READABLE, read).await.map(|_| ())
    }
}

/// A container under watch.
pub(crate) struct Watch {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Watches the cgroup in this folder; `tell` is called with the id. `None` where the kernel keeps no such count.
    pub(crate) fn start(cgroup: &Path, id: &str, tell: Arc<dyn Fn(&str) + Send + Sync>) -> Option<Self> {
        let file = cgroup.join("memory.events");
        let changes = Changes::of(&file).ok()?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(watch(changes, file, id.to_owned(), tell, stopped));
        Some(Watch { stop, task })
    }

    /// Tells what there is to tell, and ends.
    pub(crate) async fn finish(self) {
        drop(self.stop);
        let _ = self.task.await;
    }
}

async fn watch(
    changes: Changes,
    file: PathBuf,
    id: String,
    tell: Arc<dyn Fn(&str) + Send + Sync>,
    mut stopped: oneshot::Receiver<()>,
) {
    let (mut seen, mut told) = (kills(&file), 0);
    loop {
        let last = tokio::select! {
            changed = changes.next() => changed.is_err(),
            _ = &mut stopped => true,
        };
        let now = kills(&file);
        if now > seen && told < MAX_TOLD {
            tell(&id);
            told += 1;
        }
        seen = now;
        if last {
            return;
        }
    }
}

fn kills(file: &Path) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let count = text.lines().find_map(|l| l.strip_prefix("oom_kill "));
    count.and_then(|c| c.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn every_shortage_is_told_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory.events");
        let write = |oom: u32, kills: u32| {
            std::fs::write(&file, format!("low 0\noom {oom}\noom_kill {kills}\noom_group_kill 9\n")).unwrap();
        };
        write(1, 1);
        let told = Arc::new(Mutex::new(Vec::new()));
        let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let (list, tell) = (Arc::clone(&told), move |id: &str| sender.send(id.to_owned()).unwrap());
        let tell = move |id: &str| {
            list.lock().unwrap().push(id.to_owned());
            tell(id);
        };
        let watch = Watch::start(dir.path(), "c1", Arc::new(tell)).unwrap();
        tokio::task::yield_now().await;
        write(2, 2);
        assert_eq!(heard.recv().await.unwrap(), "c1", "a change is heard of");
        write(3, 2);
        write(4, 3);
        watch.finish().await;
        let told = told.lock().unwrap().len();
        assert!((2..=3).contains(&told), "the last one is told before the end: {told}");
        assert!(Watch::start(Path::new("/nowhere"), "c1", Arc::new(|_: &str| ())).is_none());
    }
}
