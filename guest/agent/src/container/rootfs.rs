//! Builds a container's mount tree, inside its own mount namespace, and makes it the root.
//!
//! Every mount is `nodev` but the standard device nodes (bind mounts of the guest's own), so that a process with
//! `CAP_MKNOD` can make nodes but open none. Mounts are made detached and moved onto descriptors that were
//! resolved beneath the root, so that no link of the image decides where something is mounted.

mod attached;
mod lasting;
mod masks;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, open, openat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change,
    move_mount, open_tree, unmount,
};
use rustix::process::{fchdir, pivot_root};
use serde::{Deserialize, Serialize};

use super::paths;
use crate::Error;
use crate::syscalls::mount_setattr;

pub use attached::Mounts;
pub(crate) use attached::{DeviceNode, VolumeMount};

const RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;
const NOSUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
const NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;
const INERT: MountAttrFlags = NOSUID.union(NODEV).union(NOEXEC);

/// Device nodes that every container has (OCI runtime-spec, Linux, default devices).
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Links in /dev, as there.
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];
/// A file or directory of the guest that appears in the container, inert.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Bind {
    /// Absolute path in the guest.
    pub(crate) source: PathBuf,
    /// Absolute path in the container.
    pub(crate) target: String,
    /// Whether it is a directory.
    pub(crate) directory: bool,
    /// Whether the container may write to it.
    pub(crate) writable: bool,
    /// Paths in the container at which it is to be found once all is mounted: nothing may cover it there.
    pub(crate) stays: Vec<String>,
}

/// An empty directory in memory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tmpfs {
    /// Absolute path in the container.
    pub(crate) target: String,
    /// Limit in bytes.
    pub(crate) size: u64,
}

/// What a container's mount tree is made of.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rootfs {
    /// The unpacked image, absolute path in the guest.
    pub(crate) image: PathBuf,
    pub(crate) read_only: bool,
    pub(crate) tmpfs: Vec<Tmpfs>,
    pub(crate) binds: Vec<Bind>,
    pub(crate) volumes: Vec<VolumeMount>,
    pub(crate) devices: Vec<DeviceNode>,
    /// Whether nothing of `/proc` and `/sys` is masked or read-only.
    pub(crate) unmasked: bool,
    /// The working directory, made where missing.
    pub(crate) cwd: String,
    /// Whether the guest has a unified cgroup hierarchy to show.
    pub(crate) cgroup: bool,
    /// The pod's /dev/shm, absolute path in the guest.
    pub(crate) shm: PathBuf,
    /// The /proc of the pod's process ids, absolute path in the guest; `None`: of this process's.
    pub(crate) proc: Option<PathBuf>,
}

/// The root under construction.
pub(crate) struct Root {
    mount: OwnedFd,
    /// The mount at its `/dev`: held, since an image may have made `/dev` a link.
    dev: OwnedFd,
    /// Mounts of files of the host, by id.
    files: BTreeSet<u64>,
    /// Paths in the container, each with the mount that is to be found there.
    stay: Vec<(String, u64)>,
    /// Mounts that become read-only once all mount points are there.
    closing: Vec<OwnedFd>,
}

impl Rootfs {
    /// Builds the tree; nothing of the guest's mount namespace changes.
    ///
    /// # Errors
    /// [`Error::Container`] with the step that failed.
    pub(crate) fn build(&self) -> Result<Root, Error> {
        let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
        mount_change("/", private).map_err(Error::container("make mounts private"))?;
        let mount = self.mount_image().map_err(Error::container("mount the image"))?;
        kernel_file_systems(mount.as_fd(), self.cgroup, self.proc.as_deref(), self.unmasked)?;
        let dev = devices(mount.as_fd(), &self.shm)?;
        let mut root = Root { mount, dev, files: BTreeSet::new(), stay: Vec::new(), closing: Vec::new() };
        for mount in self.in_order() {
            let target = mount.target();
            mount.make(&mut root).map_err(|e| Error::container(lasting::step(target, &e))(e))?;
        }
        root.settle()?;
        if !self.unmasked {
            root.mask_all()?;
        }
        paths::directory(root.fd(), &self.cwd)
            .map_err(Error::container(format!("working directory {}", self.cwd)))?;
        Ok(root)
    }

    /// The container's own mounts, outer ones before those below them, whatever kind they are of.
    fn in_order(&self) -> Vec<Wanted<'_>> {
        let mut wanted: Vec<_> = self.tmpfs.iter().map(Wanted::Tmpfs).collect();
        wanted.extend(self.binds.iter().map(Wanted::Bind));
        wanted.extend(self.volumes.iter().map(Wanted::Volume));
        wanted.extend(self.devices.iter().map(Wanted::Device));
        // Stable: what is equally deep stays in the order of kinds above.
        wanted.sort_by_key(|w| w.target().split('/').filter(|p| !matches!(*p, "" | ".")).count());
        wanted
    }

    fn mount_image(&self) -> io::Result<OwnedFd> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = open_tree(CWD, &self.image, flags)?;
        mount_setattr(mount.as_fd(), NODEV.bits().into(), 0, false)?;
        // Over itself: a mount point of its own is what pivot_root asks for.
        let target = open(&self.image, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        attach(mount.as_fd(), target.as_fd())?;
        Ok(mount)
    }
}

/// One of the container's own mounts.
enum Wanted<'a> {
    Tmpfs(&'a Tmpfs),
    Bind(&'a Bind),
    Volume(&'a VolumeMount),
    Device(&'a DeviceNode),
}

impl Wanted<'_> {
    fn target(&self) -> &str {
        match self {
            Wanted::Tmpfs(tmpfs) => &tmpfs.target,
            Wanted::Bind(bind) => &bind.target,
            Wanted::Volume(volume) => &volume.target,
            Wanted::Device(device) => &device.path,
        }
    }

    fn make(&self, root: &mut Root) -> io::Result<()> {
        match self {
            Wanted::Tmpfs(Tmpfs { target, size }) => {
                let made = memory(&size.to_string(), "1777", NOSUID | NODEV)?;
                let at = paths::directory(root.fd(), target)?;
                root.attach(made.as_fd(), at.as_fd()).map(drop)
            }
            Wanted::Bind(bind) => root.bind(bind),
            Wanted::Volume(volume) => root.volume(volume),
            Wanted::Device(device) => root.device(device),
        }
    }
}

fn kernel_file_systems(
    root: BorrowedFd<'_>,
    cgroup: bool,
    proc: Option<&Path>,
    unmasked: bool,
) -> Result<(), Error> {
    let sys = if unmasked { INERT } else { INERT | RDONLY };
    match proc {
        None => drop(mount(root, "proc", &[], INERT, "/proc")?),
        Some(proc) => {
            let at = paths::directory(root, "/proc").map_err(Error::container("find /proc"))?;
            shared(proc, at.as_fd()).map_err(Error::container("mount the pod's /proc"))?;
        }
    }
    mount(root, "sysfs", &[], sys, "/sys")?;
    if cgroup {
        mount(root, "cgroup2", &[], sys, "/sys/fs/cgroup")?;
    }
    Ok(())
}

/// Mounts at `at` what the guest has mounted, with the attributes that it has there.
fn shared(source: &Path, at: BorrowedFd<'_>) -> io::Result<()> {
    let mount = open_tree(CWD, source, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    attach(mount.as_fd(), at)
}

fn devices(root: BorrowedFd<'_>, shm: &Path) -> Result<OwnedFd, Error> {
    let dev = mount(root, "tmpfs", &[("size", "65536k"), ("mode", "755")], NOSUID | NODEV | NOEXEC, "/dev")?;
    for name in ["pts", "shm", "mqueue"] {
        let mode = Mode::from_raw_mode(0o755);
        mkdirat(&dev, name, mode).map_err(Error::container(format!("make /dev/{name}")))?;
    }
    let pts = [("mode", "0620"), ("ptmxmode", "0666"), ("gid", "5")];
    // Terminals are devices.
    mount(root, "devpts", &pts, NOSUID | NOEXEC, "/dev/pts")?;
    let at = openat(&dev, "shm", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::container("find /dev/shm"))?;
    shared(shm, at.as_fd()).map_err(Error::container("mount the pod's /dev/shm"))?;
    match mount(root, "mqueue", &[], INERT, "/dev/mqueue") {
        // A kernel without POSIX message queues.
        Err(Error::Container { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => {}
        other => drop(other?),
    }
    for name in DEVICES {
        let step = || format!("make /dev/{name}");
        let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(&dev, name, create, Mode::from_raw_mode(0o666)).map_err(Error::container(step()))?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let node = open_tree(CWD, format!("/dev/{name}"), flags).map_err(Error::container(step()))?;
        let at = openat(&dev, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let at = at.map_err(Error::container(step()))?;
        let attributes = u64::from((NOSUID | NOEXEC).bits());
        mount_setattr(node.as_fd(), attributes, 0, false).map_err(Error::container(step()))?;
        attach(node.as_fd(), at.as_fd()).map_err(Error::container(step()))?;
    }
    for (target, name) in DEVICE_LINKS {
        symlinkat(target, &dev, name).map_err(Error::container(format!("make /dev/{name}")))?;
    }
    Ok(dev)
}

/// Mounts a new file system at a path, which is made where missing, and gives a handle on its root.
fn mount(
    root: BorrowedFd<'_>,
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
    target: &str,
) -> Result<OwnedFd, Error> {
    let step = || format!("mount {kind} at {target}");
    let mount = file_system(kind, options, attributes).map_err(Error::container(step()))?;
    let at = paths::directory(root, target).map_err(Error::container(step()))?;
    attach(mount.as_fd(), at.as_fd()).map_err(Error::container(step()))?;
    Ok(mount)
}

impl Root {
    fn fd(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }

    fn bind(&mut self, bind: &Bind) -> io::Result<()> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = open_tree(CWD, &bind.source, flags)?;
        // Into a directory more may be mounted, for which mount points are made: it is closed when they are there.
        let closes = bind.directory && !bind.writable;
        let attributes = if bind.writable || closes { INERT } else { INERT | RDONLY };
        mount_setattr(mount.as_fd(), attributes.bits().into(), 0, false)?;
        let at = if bind.directory {
            paths::directory(self.fd(), &bind.target)?
        } else {
            paths::mount_point_file(self.fd(), &bind.target)?
        };
        let id = self.attach(mount.as_fd(), at.as_fd())?;
        for path in &bind.stays {
            self.stays(path, id);
        }
        if closes {
            self.closing.push(mount);
        }
        Ok(())
    }

    /// Opens a terminal of the container's own: master, and slave (also its `/dev/console`).
    ///
    /// # Errors
    /// [`Error::Container`].
    pub(crate) fn terminal(&self) -> Result<(OwnedFd, OwnedFd), Error> {
        let open = || -> io::Result<_> {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            let ptmx = openat(&self.dev, "pts/ptmx", flags, Mode::empty())?;
            rustix::pty::unlockpt(&ptmx)?;
            use rustix::pty::OpenptFlags;
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let slave = rustix::pty::ioctl_tiocgptpeer(&ptmx, flags)?;
            let name = rustix::pty::ptsname(&ptmx, Vec::new())?;
            let number = name.to_string_lossy().rsplit('/').next().unwrap_or_default().to_owned();
            let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            openat(&self.dev, "console", create, Mode::from_raw_mode(0o600))?;
            let at = openat(&self.dev, "console", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let node = open_tree(&self.dev, format!("pts/{number}"), flags)?;
            attach(node.as_fd(), at.as_fd())?;
            Ok((ptmx, slave))
        };
        open().map_err(Error::container("open a terminal"))
    }

    /// Makes this the root of the process and lets go of the guest's.
    ///
    /// # Errors
    /// [`Error::Container`].
    pub(crate) fn enter(self, read_only: bool) -> Result<(), Error> {
        if read_only {
            let done = mount_setattr(self.fd(), RDONLY.bits().into(), 0, false);
            done.map_err(Error::container("make the root read-only"))?;
        }
        let enter = || -> io::Result<()> {
            fchdir(&self.mount)?;
            // The old root lands on top of the new one and is taken off again.
            pivot_root(".", ".")?;
            unmount(".", UnmountFlags::DETACH)?;
            rustix::process::chdir("/")?;
            Ok(())
        };
        enter().map_err(Error::container("change the root"))
    }
}

fn memory(size: &str, mode: &str, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    // A tmpfs of size 0 is one without limit; an empty one that is read-only needs no space anyway.
    let size = if size == "0" { "4k" } else { size };
    file_system("tmpfs", &[("size", size), ("mode", mode)], attributes)
}

/// A new, detached mount of a new file system.
fn file_system(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if kind == "devpts" {
        // Kernels since 4.7 always make a new instance; the flag says what is meant.
        match fsconfig_set_flag(&context, "newinstance") {
            Ok(()) | Err(Errno::INVAL) => {}
            Err(e) => return Err(e.into()),
        }
    }
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value)?;
    }
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn attach(mount: BorrowedFd<'_>, at: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", at, "", flags)?)
}

#[cfg(test)]
#[path = "rootfs_tests.rs"]
mod tests;
