//! Containers: a program in its own namespaces, built from a [`ContainerPlan`] and an unpacked image, and what the host may
//! run beside it.
//!
//! Of what the host sends only [`HostPart`] reaches here, and the far ends of the standard streams.

mod caps;
mod cgroup;
mod control;
mod environment;
mod exec;
mod holder;
mod init;
mod oom;
mod paths;
mod process;
mod profile;
mod program;
mod rootfs;
mod seccomp;
mod secrets;
mod shared;
mod spawn;
mod stdio;
mod syscall_names;
mod termination;
mod user;

pub use cgroup::Resources;
pub use exec::ExecSpec;
pub use holder::HOLDER_NAME;
pub use process::{Exit, Process};
pub use profile::check as check_profile;
pub use rootfs::Mounts;
pub use secrets::SecretFile;
pub use shared::Shared;
pub use spawn::INIT_NAME;
pub use stdio::{Reader, Streams, Writer};
pub use termination::MAX_MESSAGE;

pub(crate) use holder::main as holder_main;
pub(crate) use init::main as init_main;
pub(crate) use profile::Filter;
pub(crate) use rootfs::{DeviceNode, VolumeMount};

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use cocoon_plan::{ContainerPlan, MountPlan};
use containerd_shim_protos::cgroups_v2::metrics::Metrics;

use crate::Error;
use crate::reaper::Reaper;
use crate::syscalls::Fresh;
use cgroup::Cgroup;
use init::{InitConfig, Place};
use program::Program;
use rootfs::{Bind, Rootfs, Tmpfs};
use seccomp::Wish;
use spawn::Entry;
use termination::Termination;

/// What all containers of a guest share.
#[derive(Debug)]
pub struct Settings {
    /// The guest binary, opened with `O_PATH`; it is executed again as each container's processes.
    pub exe: OwnedFd,
    /// A folder in memory for what belongs to containers (mode 0700).
    pub work: PathBuf,
    /// The folder with the pod's `resolv.conf`, `hosts` and `hostname`; missing files are not mounted.
    pub etc: PathBuf,
    /// The root of the unified cgroup hierarchy; `None` only in tests on hosts without one.
    pub cgroups: Option<PathBuf>,
    /// Who waits for processes.
    pub reaper: Arc<Reaper>,
}

/// What is shared by the containers of a pod, beside the guest's own.
#[derive(Clone)]
pub struct SharedSettings {
    /// The pod's host name; empty: as it is.
    pub hostname: String,
    /// Whether they see each other's processes.
    pub pids: bool,
    /// Kernel settings of System V and POSIX IPC, which are the pod's own.
    pub sysctls: BTreeMap<String, String>,
    /// Called with the id of a container in which memory ran out.
    pub oom: Arc<dyn Fn(&str) + Send + Sync>,
}

/// What the host says of a container, checked and bounded.
#[derive(Clone, Debug, Default)]
pub struct HostPart {
    /// The container's id, as the host made it up: a plain file name.
    pub id: String,
    /// Further variables, `NAME=value`: those that the plan leaves to the host.
    pub env: Vec<String>,
    /// Names of those among `env` that the guest has unsealed: no exec of the host's changes them.
    pub sealed: Vec<String>,
    /// The container's `/etc/hosts`, in place of the pod's.
    pub hosts: Option<String>,
    /// Limits to begin with.
    pub resources: Option<Resources>,
}

/// What a container is made of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// Its plan.
    pub plan: &'a ContainerPlan,
    /// Its unpacked image, its own.
    pub rootfs: &'a Path,
    /// What the host has to say.
    pub host: &'a HostPart,
    /// The pod's secrets.
    pub secrets: &'a [SecretFile],
    /// What it has of the pod's volumes.
    pub mounts: &'a Mounts,
}

/// A container whose process exists.
#[derive(Debug)]
pub struct Container {
    process: Process,
    /// The program as the plan has it; what runs beside it is alike but for arguments, terminal and folder.
    program: Program,
    ending: Arc<Ending>,
    cgroup: Option<Arc<Cgroup>>,
    folder: PathBuf,
    termination: Option<Termination>,
    /// Names of variables that were unsealed.
    sealed: Vec<String>,
}

/// What ends with a container's own process.
#[derive(Debug, Default)]
struct Ending(Mutex<Beside>);

#[derive(Debug, Default)]
struct Beside {
    over: bool,
    processes: Vec<Weak<Process>>,
}

impl Ending {
    /// Takes a process along; `false` where it is too late.
    fn add(&self, process: &Arc<Process>) -> bool {
        let mut beside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        beside.processes.retain(|p| p.strong_count() > 0);
        beside.processes.push(Arc::downgrade(process));
        !beside.over
    }

    fn end(&self) {
        let mut beside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        beside.over = true;
        for process in beside.processes.drain(..).filter_map(|p| p.upgrade()) {
            let _ = process.signal(libc::SIGKILL.unsigned_abs());
        }
    }
}

/// How long a container's processes may take to stand still.
const STILL: Duration = Duration::from_secs(10);

/// Numbers containers, so that one that is still going never meets another of the same id.
static NUMBER: AtomicU64 = AtomicU64::new(0);

impl Container {
    /// Builds a container up to the point where only the word to start is missing.
    ///
    /// # Errors
    /// [`Error::User`], [`Error::Root`], [`Error::Plan`], [`Error::Resources`] or [`Error::Container`].
    pub async fn create(
        settings: &Settings,
        shared: &Shared,
        parts: Parts<'_>,
        streams: Streams,
    ) -> Result<Self, Error> {
        let Parts { plan, rootfs, host, secrets, mounts } = parts;
        let root = File::open(rootfs).map_err(Error::container("open the image"))?;
        let user = user::lookup(root.as_fd(), &plan.user)?.with_groups(&plan.groups);
        if plan.run_as_non_root && user.uid == 0 {
            return Err(Error::Root(plan.user.clone()));
        }
        let pod = shared.parts(settings).await?;
        let name = format!("{}-{}", NUMBER.fetch_add(1, Ordering::Relaxed), host.id);
        let folder = Folder(settings.work.join(&name));
        // This makes the folder.
        let staged = secrets::stage(&folder.0, secrets, &user)?;
        let mut binds = pod_files(&settings.etc, &folder.0, host.hosts.as_deref())?;
        // Where the plan mounts something of its own there, that counts.
        binds.retain(|bind| plan.mounts.iter().all(|m| m.target() != bind.target));
        // So does a volume of files above it, on which nothing is mounted.
        binds.retain(|bind| {
            mounts.volumes.iter().all(|v| !v.files || !Path::new(&bind.target).starts_with(&v.target))
        });
        binds.extend(staged);
        let termination = plan.termination_message.as_deref();
        let termination = termination.map(|_| Termination::stage(&folder.0, &user)).transpose()?;
        if let (Some(file), Some(target)) = (&termination, &plan.termination_message) {
            binds.push(file.bind(target));
        }
        let cgroup = settings.cgroups.as_deref().map(|root| Cgroup::create(root, &name)).transpose()?;
        let cgroup = cgroup.map(Arc::new);
        if let (Some(cgroup), Some(resources)) = (&cgroup, &host.resources) {
            cgroup.set(resources)?;
        }
        let program = Program {
            args: plan.args.clone(),
            env: environment::of(plan, &host.env, &user.home)?,
            cwd: plan.cwd.clone(),
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
            capabilities: caps::mask(&plan.capabilities)?,
            no_new_privileges: plan.no_new_privileges,
            filter: Wish::of(plan)?,
            terminal: plan.terminal,
        };
        let rootfs = Rootfs {
            image: rootfs.to_owned(),
            read_only: plan.read_only_root,
            tmpfs: plan.mounts.iter().filter_map(tmpfs).collect(),
            binds,
            volumes: mounts.volumes.clone(),
            devices: mounts.devices_of(user.uid, user.gid),
            unmasked: plan.unmasked,
            cwd: plan.cwd.clone(),
            cgroup: cgroup.is_some(),
            shm: pod.shm().to_owned(),
            proc: pod.proc().map(Path::to_owned),
        };
        let shares_pids = pod.shares_pids();
        let config = InitConfig {
            place: Place::New { rootfs: Box::new(rootfs), shared_pids: shares_pids },
            program: program.clone(),
        };
        let entry = Entry {
            exe: settings.exe.as_fd(),
            reaper: &settings.reaper,
            fresh: if shares_pids { Fresh::Mounts } else { Fresh::MountsAndPids },
            joins: pod.joins(),
            cgroup: cgroup.as_ref().map(|c| c.fd()),
            helper: shares_pids,
        };
        let oom = cgroup.as_ref().and_then(|c| oom::Watch::start(c.path(), &host.id, shared.oom_teller()));
        let ending = Arc::new(Ending::default());
        let ended = ended(Arc::clone(&ending), cgroup.clone(), oom, shares_pids);
        let process = Process::spawn(entry, &settings.reaper, &config, streams, false, ended).await?;
        let folder = folder.keep();
        Ok(Container { process, program, ending, cgroup, folder, termination, sealed: host.sealed.clone() })
    }

    /// Its own process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Lets the process become the workload.
    ///
    /// # Errors
    /// [`Error::Container`] with what failed, such as a missing program; a second start.
    pub async fn start(&self) -> Result<(), Error> {
        self.process.start().await
    }

    /// How it ended, once it has, and its output is with the host.
    pub fn exited(&self) -> Option<Exit> {
        self.process.exited()
    }

    /// Waits until it ended and its output is with the host.
    pub async fn wait(&self) -> Exit {
        self.process.wait().await
    }

    /// Sends a signal (1 to 64) to its own process.
    ///
    /// # Errors
    /// [`Error::Container`], such as for a process that is gone.
    pub fn signal(&self, number: u32) -> Result<(), Error> {
        self.process.signal(number)
    }

    /// Sends a signal (1 to 64) to all its processes.
    ///
    /// # Errors
    /// [`Error::Container`].
    pub fn signal_all(&self, number: u32) -> Result<(), Error> {
        match &self.cgroup {
            Some(cgroup) if number == libc::SIGKILL.unsigned_abs() => {
                cgroup.kill().map_err(Error::container("kill all processes"))
            }
            Some(cgroup) => cgroup.signal(number).map_err(Error::container("send the signal")),
            // The first process of its ids takes all others along, where there are ids of its own.
            None => self.process.signal(number),
        }
    }

    /// Sets resource limits.
    ///
    /// # Errors
    /// [`Error::Resources`] where the kernel refuses one.
    pub fn update(&self, resources: &Resources) -> Result<(), Error> {
        self.cgroup.as_ref().map_or(Ok(()), |cgroup| cgroup.set(resources))
    }

    /// Has all its processes stand still, or go on.
    ///
    /// # Errors
    /// [`Error::Container`], such as where they do not all stand still within [`STILL`]: then they go on.
    pub async fn hold(&self, still: bool) -> Result<(), Error> {
        let Some(cgroup) = &self.cgroup else { return Ok(()) };
        let step = || Error::container(if still { "pause" } else { "resume" });
        match tokio::time::timeout(STILL, cgroup.freeze(still)).await {
            Ok(done) => done.map_err(step()),
            Err(late) => {
                let _ = cgroup.freeze(false).await;
                Err(step()(late.into()))
            }
        }
    }

    /// Whether its processes stand still.
    pub fn is_held(&self) -> bool {
        self.cgroup.as_ref().is_some_and(|cgroup| cgroup.is_frozen())
    }

    /// Resource figures, in containerd's form.
    pub fn metrics(&self) -> Metrics {
        self.cgroup.as_ref().map(|c| c.metrics()).unwrap_or_default()
    }

    /// Its processes, by their ids in the guest.
    pub fn pids(&self) -> Vec<u32> {
        self.cgroup.as_ref().map_or_else(|| vec![self.process.pid()], |c| c.pids())
    }

    /// What it has left in the file that the plan names, at most its last [`MAX_MESSAGE`] bytes; `None` where the plan
    /// names none. To be asked once it has ended.
    ///
    /// # Errors
    /// [`Error::Container`].
    pub fn termination_message(&self) -> Result<Option<Vec<u8>>, Error> {
        let read = |t: &Termination| t.read().map_err(Error::container("read the termination message"));
        self.termination.as_ref().map(read).transpose()
    }

    /// Ends what still runs and removes what was staged for it; the image's folder is the caller's.
    pub async fn destroy(&self) {
        if self.exited().is_none() {
            let _ = self.signal(libc::SIGKILL.unsigned_abs());
            self.wait().await;
        }
        if let Some(termination) = &self.termination {
            termination.take_off();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A container's folder, which goes where the container does not come to be.
struct Folder(PathBuf);

impl Folder {
    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// The container's own process has ended: so does everything beside it.
async fn ended(ending: Arc<Ending>, cgroup: Option<Arc<Cgroup>>, oom: Option<oom::Watch>, shares_pids: bool) {
    ending.end();
    if let Some(cgroup) = cgroup.filter(|_| shares_pids) {
        // Nothing else does it where process ids are not the container's own.
        match cgroup.kill() {
            Ok(()) => cgroup.emptied().await,
            Err(e) => tracing::warn!("processes may outlive their container: {e}"),
        }
    }
    // Said before the end itself, so that the host can tell why it came.
    if let Some(oom) = oom {
        oom.finish().await;
    }
}

fn tmpfs(mount: &MountPlan) -> Option<Tmpfs> {
    match mount {
        MountPlan::Tmpfs { target, size } => Some(Tmpfs { target: target.clone(), size: *size }),
        MountPlan::Volume { .. } => None,
    }
}

/// The pod's name resolution files, as mounts; `hosts` is the container's own, where it has one.
fn pod_files(etc: &Path, folder: &Path, hosts: Option<&str>) -> Result<Vec<Bind>, Error> {
    let mut binds = Vec::new();
    for name in ["resolv.conf", "hosts", "hostname"] {
        let source = match hosts {
            Some(text) if name == "hosts" => {
                let path = folder.join("hosts");
                fs::write(&path, text).map_err(Error::container("write the container's hosts"))?;
                path
            }
            _ => etc.join(name),
        };
        if source.is_file() {
            let target = format!("/etc/{name}");
            binds.push(Bind { source, target, directory: false, writable: false, stays: Vec::new() });
        }
    }
    Ok(binds)
}
