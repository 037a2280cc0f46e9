//! What the containers of a pod share: host name, System V and POSIX IPC, `/dev/shm`, and process ids where the plan says
//! so. The network is the VM's own.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::mount::{MountFlags, MoveMountFlags, UnmountFlags, mount, move_mount, unmount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::OnceCell;

use super::holder::{self, Holder};
use super::{Settings, SharedSettings};
use crate::{Error, syscalls, sysctls};

/// The pod's folder below the containers'; no id of a container holds an `@`.
const FOLDER: &str = "@pod";
/// Size of `/dev/shm`, as container engines have it.
const SHM_BYTES: &str = "64m";

/// What the containers of a pod share.
pub struct Shared {
    settings: SharedSettings,
    pids: AtomicBool,
    parts: OnceCell<Parts>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("hostname", &self.settings.hostname).finish_non_exhaustive()
    }
}

/// The same, in existence.
pub(crate) struct Parts {
    ipc: OwnedFd,
    names: OwnedFd,
    pids: Option<Pids>,
    shm: Mounted,
}

/// The pod's process ids.
struct Pids {
    holder: Holder,
    proc: Mounted,
}

impl Shared {
    /// Says what is to be shared; it comes to be with the first container.
    pub fn new(settings: SharedSettings) -> Self {
        let pids = AtomicBool::new(settings.pids);
        Shared { settings, pids, parts: OnceCell::new() }
    }

    /// Has process ids shared after all, if no container is there yet.
    pub(crate) fn share_pids(&self) {
        self.pids.store(true, Ordering::Relaxed);
    }

    /// Makes what does not exist yet.
    ///
    /// # Errors
    /// [`Error::Container`].
    pub(crate) async fn parts(&self, settings: &Settings) -> Result<&Parts, Error> {
        self.parts
            .get_or_try_init(|| {
                let shared =
                    SharedSettings { pids: self.pids.load(Ordering::Relaxed), ..self.settings.clone() };
                async move { Parts::make(settings, &shared).await }
            })
            .await
    }

    /// Who is told that memory ran out in a container.
    pub(crate) fn oom_teller(&self) -> Arc<dyn Fn(&str) + Send + Sync> {
        Arc::clone(&self.settings.oom)
    }
}

impl Parts {
    async fn make(settings: &Settings, shared: &SharedSettings) -> Result<Self, Error> {
        let folder = settings.work.join(FOLDER);
        let (ipc, names) =
            namespaces(&shared.hostname).map_err(Error::container("make the pod's namespaces"))?;
        let shm = Mounted::tmpfs(&folder.join("shm"), &format!("mode=1777,size={SHM_BYTES}"))
            .map_err(Error::container("make the pod's /dev/shm"))?;
        let pids = if shared.pids { Some(Pids::make(settings, &folder).await?) } else { None };
        let parts = Parts { ipc, names, pids, shm };
        let set = || sysctls::apply(Path::new(sysctls::ROOT), &shared.sysctls);
        parts.within(set).map_err(Error::container("enter the pod's namespaces"))??;
        Ok(parts)
    }

    /// What a container's process joins, in the order of its descriptors.
    pub(crate) fn joins(&self) -> Vec<BorrowedFd<'_>> {
        let mut joins = vec![self.ipc.as_fd(), self.names.as_fd()];
        joins.extend(self.pids.as_ref().map(|p| p.holder.pidfd()));
        joins
    }

    /// Whether process ids are the pod's.
    pub(crate) fn shares_pids(&self) -> bool {
        self.pids.is_some()
    }

    /// Where the pod's `/dev/shm` is mounted in the guest.
    pub(crate) fn shm(&self) -> &Path {
        &self.shm.0
    }

    /// Where the `/proc` of the pod's process ids is mounted in the guest.
    pub(crate) fn proc(&self) -> Option<&Path> {
        self.pids.as_ref().map(|p| p.proc.0.as_path())
    }

    /// Does something where the pod's IPC settings and host name are seen, on a thread of its own.
    ///
    /// # Errors
    /// The kernel's answer.
    fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> io::Result<T> {
        let (ipc, names) = (self.ipc.as_fd(), self.names.as_fd());
        on_thread(move || {
            move_into_link_name_space(ipc, Some(LinkNameSpaceType::InterProcessCommunication))?;
            move_into_link_name_space(names, Some(LinkNameSpaceType::HostNameAndNISDomainName))?;
            Ok(act())
        })
    }
}

impl Pids {
    async fn make(settings: &Settings, folder: &Path) -> Result<Self, Error> {
        let (holder, proc) = holder::spawn(settings).await?;
        let at = folder.join("proc");
        let attach = || -> io::Result<Mounted> {
            fs::create_dir_all(&at)?;
            move_mount(&proc, "", rustix::fs::CWD, &at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
            Ok(Mounted(at.clone()))
        };
        let proc = attach().map_err(Error::container("mount the pod's /proc"))?;
        Ok(Pids { holder, proc })
    }
}

/// A mount of the guest's, taken off when dropped.
#[derive(Debug)]
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Mounts an empty, inert file system in memory.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn tmpfs(at: &Path, options: &str) -> io::Result<Self> {
        fs::create_dir_all(at)?;
        let options = std::ffi::CString::new(options)?;
        let inert = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("tmpfs", at, "tmpfs", inert, Some(options.as_c_str()))?;
        Ok(Mounted(at.to_owned()))
    }

    /// Where it is.
    pub(crate) fn at(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(e) = unmount(&self.0, UnmountFlags::DETACH) {
            tracing::warn!("{} stays mounted: {e}", self.0.display());
        }
    }
}

/// New ipc and uts namespaces; the thread that makes them does not outlive this call.
fn namespaces(hostname: &str) -> io::Result<(OwnedFd, OwnedFd)> {
    on_thread(|| {
        syscalls::unshare_ipc_and_names()?;
        if !hostname.is_empty() {
            rustix::system::sethostname(hostname.as_bytes())?;
        }
        let open = |name: &str| File::open(format!("/proc/thread-self/ns/{name}")).map(OwnedFd::from);
        Ok((open("ipc")?, open("uts")?))
    })
}

fn on_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let done = scope.spawn(work).join();
        done.unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}
