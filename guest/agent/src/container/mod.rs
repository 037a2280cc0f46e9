//! Containers: one process in its own namespaces, built from a [`ContainerPlan`] and an unpacked image.
//!
//! Nothing of what the host sends reaches here but resource limits and the far ends of the standard streams.

mod caps;
mod cgroup;
mod control;
mod init;
mod paths;
mod rootfs;
mod seccomp;
mod secrets;
mod spawn;
mod stdio;
mod user;

pub use rootfs::Mounts;
pub use secrets::SecretFile;
pub use spawn::INIT_NAME;
pub use stdio::{Reader, Streams, Writer};

pub(crate) use cgroup::Resources;
pub(crate) use init::main as init_main;
pub(crate) use rootfs::{DeviceNode, VolumeMount};

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use cocoon_plan::{ContainerPlan, MountPlan, Seccomp};
use containerd_shim_protos::cgroups_v2::metrics::Metrics;
use rustix::process::Pid;
use tokio::sync::watch;

use crate::Error;
use crate::reaper::Reaper;
use cgroup::Cgroup;
use control::Control;
use init::InitConfig;
use rootfs::{Bind, Rootfs, Tmpfs};
use stdio::Plumbing;

/// What all containers of a guest share.
#[derive(Debug)]
pub struct Settings {
    /// The guest binary, opened with `O_PATH`; it is executed again as each container's first process.
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

/// How a container's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 0 to 255, or 128 + signal.
    pub status: u32,
    /// When, by the guest's clock.
    pub at: SystemTime,
}

/// A container whose process exists.
#[derive(Debug)]
pub struct Container {
    pid: Pid,
    pidfd: Arc<OwnedFd>,
    control: Mutex<Option<Control>>,
    plumbing: Arc<Mutex<Option<Plumbing>>>,
    exit: watch::Receiver<Option<Exit>>,
    cgroup: Option<Cgroup>,
    folder: PathBuf,
}

impl Container {
    /// Builds a container up to the point where only the word to start is missing.
    ///
    /// `rootfs` is the unpacked image, this container's own; `hostname` the pod's.
    ///
    /// # Errors
    /// [`Error::User`], [`Error::Plan`] or [`Error::Container`].
    pub async fn create(
        settings: &Settings,
        plan: &ContainerPlan,
        rootfs: &Path,
        hostname: &str,
        secrets: &[SecretFile],
        mounts: &Mounts,
        streams: Streams,
    ) -> Result<Self, Error> {
        let root = File::open(rootfs).map_err(Error::container("open the image"))?;
        let user = user::lookup(root.as_fd(), &plan.user)?;
        let folder = settings.work.join(&plan.name);
        let mut binds = pod_files(&settings.etc);
        // Where the plan mounts something of its own there, that counts.
        binds.retain(|bind| plan.mounts.iter().all(|m| m.target() != bind.target));
        binds.extend(secrets::stage(&folder, secrets, &user)?);
        let cgroup = settings.cgroups.as_deref().map(|root| Cgroup::create(root, &plan.name)).transpose()?;
        let config = InitConfig {
            rootfs: Rootfs {
                image: rootfs.to_owned(),
                read_only: plan.read_only_root,
                tmpfs: plan.mounts.iter().filter_map(tmpfs).collect(),
                binds,
                volumes: mounts.volumes.clone(),
                devices: mounts.devices_of(user.uid, user.gid),
                unmasked: plan.unmasked,
                cwd: plan.cwd.clone(),
                cgroup: cgroup.is_some(),
            },
            hostname: hostname.to_owned(),
            args: plan.args.clone(),
            env: environment(plan, &user.home)?,
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
            capabilities: caps::mask(&plan.capabilities)?,
            no_new_privileges: plan.no_new_privileges,
            filter: match plan.seccomp {
                Seccomp::RuntimeDefault => true,
                Seccomp::Unconfined => false,
            },
            terminal: plan.terminal,
        };
        let streams_failed = || Error::container("connect the standard streams");
        let (mut plumbing, ends, kept) = if plan.terminal {
            let (plumbing, ends) = Plumbing::terminal().map_err(streams_failed())?;
            (plumbing, ends, streams)
        } else {
            let (plumbing, ends) = Plumbing::pipes(streams).map_err(streams_failed())?;
            (plumbing, ends, Streams::default())
        };
        let group = cgroup.as_ref().map(Cgroup::fd);
        let spawned =
            spawn::spawn(settings.exe.as_fd(), &settings.reaper, &config, ends.borrow(), group).await?;
        // The container's side must be the only one that holds the pipes open.
        drop(ends);
        if let Some(master) = spawned.terminal {
            plumbing.connect(master, kept).map_err(streams_failed())?;
        }
        let pidfd = Arc::new(spawned.pidfd);
        let plumbing = Arc::new(Mutex::new(Some(plumbing)));
        let (sender, exit) = watch::channel(None);
        let watcher = Watcher { reaper: Arc::clone(&settings.reaper), pid: spawned.pid, sender };
        tokio::spawn(watcher.run(Arc::clone(&pidfd), Arc::clone(&plumbing)));
        let control = Mutex::new(Some(spawned.control));
        Ok(Container { pid: spawned.pid, pidfd, control, plumbing, exit, cgroup, folder })
    }

    /// Lets the process become the workload.
    ///
    /// # Errors
    /// [`Error::Container`] with what failed, such as a missing program; a second start.
    pub async fn start(&self) -> Result<(), Error> {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner).take();
        spawn::start(control.ok_or_else(|| Error::Refused("started before".into()))?).await
    }

    /// The first process's id in the guest.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// How it ended, once it has, and its output is with the host.
    pub fn exited(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits until it ended and its output is with the host.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        let gone = Exit { status: 255, at: SystemTime::UNIX_EPOCH };
        exit.wait_for(Option::is_some).await.ok().and_then(|e| *e).unwrap_or(gone)
    }

    /// Sends a signal (1 to 64) to the first process.
    ///
    /// # Errors
    /// [`Error::Container`], such as for a process that is gone.
    pub fn signal(&self, number: u32) -> Result<(), Error> {
        let number = i32::try_from(number).map_err(|_| Error::Refused("not a signal".into()))?;
        crate::syscalls::pidfd_signal(self.pidfd.as_fd(), number).map_err(Error::container("send the signal"))
    }

    /// The host will send no more standard input.
    pub fn close_stdin(&self) {
        if let Some(plumbing) = &*self.plumbing.lock().unwrap_or_else(PoisonError::into_inner) {
            plumbing.close_input();
        }
    }

    /// Sets the terminal's size in characters.
    ///
    /// # Errors
    /// [`Error::Refused`] without a terminal; [`Error::Container`].
    pub fn resize(&self, width: u16, height: u16) -> Result<(), Error> {
        match &*self.plumbing.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(plumbing) => plumbing.resize(width, height).map_err(Error::container("resize the terminal")),
            None => Ok(()),
        }
    }

    /// Sets resource limits.
    pub(crate) fn update(&self, resources: &Resources) -> Result<(), Error> {
        self.cgroup.as_ref().map_or(Ok(()), |cgroup| cgroup.set(resources))
    }

    /// Resource figures, in containerd's form.
    pub fn metrics(&self) -> Metrics {
        self.cgroup.as_ref().map(Cgroup::metrics).unwrap_or_default()
    }

    /// Its processes, by their ids in the guest.
    pub fn pids(&self) -> Vec<u32> {
        self.cgroup.as_ref().map_or_else(|| vec![self.pid()], Cgroup::pids)
    }

    /// Ends what still runs and removes what was staged for it; the image's folder is the caller's.
    pub async fn destroy(&self) {
        if self.exited().is_none() {
            let _ = self.signal(libc::SIGKILL.unsigned_abs());
            self.wait().await;
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Waits for a container's process and then for its output.
struct Watcher {
    reaper: Arc<Reaper>,
    pid: Pid,
    sender: watch::Sender<Option<Exit>>,
}

impl Watcher {
    async fn run(self, pidfd: Arc<OwnedFd>, plumbing: Arc<Mutex<Option<Plumbing>>>) {
        let status = self.reaper.wait(self.pid, &pidfd).await.unwrap_or(255);
        let at = SystemTime::now();
        let plumbing = plumbing.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(plumbing) = plumbing {
            plumbing.finish().await;
        }
        self.sender.send_replace(Some(Exit { status, at }));
    }
}

fn tmpfs(mount: &MountPlan) -> Option<Tmpfs> {
    match mount {
        MountPlan::Tmpfs { target, size } => Some(Tmpfs { target: target.clone(), size: *size }),
        MountPlan::Volume { .. } => None,
    }
}

/// The pod's name resolution files, as mounts.
fn pod_files(etc: &Path) -> Vec<Bind> {
    let files = ["resolv.conf", "hosts", "hostname"].into_iter().filter(|name| etc.join(name).is_file());
    files
        .map(|name| Bind { source: etc.join(name), target: format!("/etc/{name}"), directory: false })
        .collect()
}

/// The plan's environment with what every program expects.
fn environment(plan: &ContainerPlan, home: &str) -> Result<Vec<String>, Error> {
    let mut env = plan.env.clone();
    // This guest does not unseal; a program must not get the sealed form in place of its secret.
    if let Some(entry) = env.iter().find(|e| e.split_once('=').is_some_and(|(_, v)| v.starts_with("sealed.")))
    {
        let name = entry.split('=').next().unwrap_or_default();
        return Err(Error::Plan(format!("{name} is a sealed secret, which this guest cannot unseal")));
    }
    let has = |env: &[String], name: &str| env.iter().any(|e| e.split('=').next() == Some(name));
    if !has(&env, "HOME") {
        env.push(format!("HOME={home}"));
    }
    if plan.terminal && !has(&env, "TERM") {
        env.push("TERM=xterm".into());
    }
    Ok(env)
}
