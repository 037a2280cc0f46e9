//! A network namespace, and work done inside it.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Error;

/// Magic number of the file system that namespaces are files of (linux/magic.h, NSFS_MAGIC).
const NSFS: i64 = 0x6e73_6673;

/// A network namespace that is held open, so that work on it and its undoing meet the same one whatever its path
/// comes to mean.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    file: Arc<File>,
    path: PathBuf,
}

impl Namespace {
    /// # Errors
    /// [`Error::Namespace`] where the path is not of a network namespace.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let not = |reason: String| Error::Namespace { path: path.to_owned(), reason };
        // Without blocking: the path could be a fifo's.
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK;
        let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty())
            .map_err(|e| not(io::Error::from(e).to_string()))?;
        let kind = rustix::fs::fstatfs(&file).map_err(|e| not(io::Error::from(e).to_string()))?;
        // Narrower on some processors.
        #[allow(clippy::useless_conversion)]
        let magic = i64::from(kind.f_type);
        if magic != NSFS {
            return Err(not("an ordinary file".into()));
        }
        let namespace = Namespace { file: Arc::new(File::from(file)), path: path.to_owned() };
        // Namespaces of other kinds are files of the same kind; only the kernel tells.
        namespace.run(|| Ok(()))?;
        Ok(namespace)
    }

    /// Whether it is the one that this process began in.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub fn is_own(&self) -> Result<bool, Error> {
        let own =
            || Ok::<_, io::Error>((identity(&File::open("/proc/self/ns/net")?)?, identity(&self.file)?));
        let (own, this) = own().map_err(Error::step("compare network namespaces"))?;
        Ok(own == this)
    }

    /// Runs `work` on a thread of its own inside the namespace and waits for it. The calling thread is blocked, which
    /// on a runtime's worker is bearable for the few milliseconds that the kernel takes.
    ///
    /// # Errors
    /// [`Error::Namespace`] where the thread cannot enter, and those of `work`.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        let inside = || {
            let entered = move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network));
            entered.map_err(|e| Error::Namespace {
                path: self.path.clone(),
                reason: io::Error::from(e).to_string(),
            })?;
            work()
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("pod-network".into()).spawn_scoped(scope, inside);
            let thread = thread.map_err(Error::step("start a thread"))?;
            thread.join().unwrap_or_else(|_| {
                Err(Error::Kernel { step: "work in the namespace".into(), reason: "the thread ended".into() })
            })
        })
    }

    /// The same for work that waits: it has a runtime of its own on that thread.
    ///
    /// # Errors
    /// As [`Namespace::run`].
    pub fn run_async<T, F>(&self, work: impl FnOnce() -> F + Send) -> Result<T, Error>
    where
        T: Send,
        F: Future<Output = Result<T, Error>>,
    {
        self.run(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_io().build().map_err(Error::step("start a runtime"))?;
            runtime.block_on(work())
        })
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Whether a pod that has this network namespace uses the host's network (`hostNetwork: true`): an empty path, or the
/// namespace of this process.
///
/// # Errors
/// [`Error::Namespace`] where the path is not of a network namespace.
pub fn is_host_netns(netns: &Path) -> Result<bool, Error> {
    if netns.as_os_str().is_empty() {
        return Ok(true);
    }
    Namespace::open(netns)?.is_own()
}
