//! The guest's own mounts, made once at boot.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, mount, mount_bind, mount_move, mount_remount};

use crate::Error;

/// The guest's folder for containers: images, secrets, name resolution files.
pub(crate) const WORK: &str = "/run/cocoon";
/// Layers and what containers write, where the plan names no scratch disk.
pub(crate) const IMAGES: &str = "/run/cocoon/images";
/// Where containers' root file systems are mounted.
pub(crate) const ROOTS: &str = "/run/cocoon/roots";
/// Where shared layers are mounted, by root hash.
pub(crate) const LAYERS: &str = "/run/cocoon/layers";
/// Where the scratch disk is mounted.
pub(crate) const SCRATCH: &str = "/run/cocoon/scratch";
/// The pod's volumes that lie in memory.
pub(crate) const VOLUMES: &str = "/run/cocoon/volumes";
/// The root of the unified cgroup hierarchy.
pub(crate) const CGROUPS: &str = "/sys/fs/cgroup";
/// The guest binary on a read-only mount: where containers' first processes come from.
const PROGRAM: &str = "/run/cocoon/init";

const INERT: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Puts a mount over the initramfs root and makes it the root. Containers can then `pivot_root`, which the kernel
/// refuses from the initramfs itself, and `..` from a container's root never reaches what lies below.
///
/// # Errors
/// [`Error::Boot`].
pub(crate) fn leave_initramfs() -> Result<(), Error> {
    let switch = || -> io::Result<()> {
        fs::create_dir_all("/.root")?;
        mount_bind("/", "/.root")?;
        rustix::process::chdir("/.root")?;
        mount_move(".", "/")?;
        rustix::process::chroot(".")?;
        rustix::process::chdir("/")?;
        Ok(())
    };
    switch().map_err(Error::boot("leave the initramfs"))
}

/// Mounts the kernel's file systems and the guest's memory.
///
/// # Errors
/// [`Error::Boot`] with the mount that failed.
pub(crate) fn mount_all() -> Result<(), Error> {
    let none = MountFlags::empty();
    file_system("proc", "/proc", INERT, "")?;
    file_system("sysfs", "/sys", INERT, "")?;
    file_system("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755")?;
    file_system(
        "devpts",
        "/dev/pts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        "mode=0620,gid=5,ptmxmode=0666",
    )?;
    file_system("tmpfs", "/dev/shm", INERT, "mode=1777")?;
    file_system("tmpfs", "/run", MountFlags::NOSUID | MountFlags::NODEV, "mode=0755")?;
    file_system("tmpfs", "/tmp", INERT, "mode=1777")?;
    file_system("cgroup2", CGROUPS, INERT, "")?;
    fs::create_dir_all(WORK).map_err(Error::boot(WORK))?;
    fs::set_permissions(WORK, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .map_err(Error::boot(WORK))?;
    // Images may take most of the memory; the unpacker's own limits come before this one. Programs in them may
    // be set-uid and are executed, so the mount is not inert.
    file_system("tmpfs", IMAGES, none | MountFlags::NODEV, "mode=0755,size=90%,nr_inodes=4m")?;
    // Files of the host and containers' copies of them; volumes with a size of their own are mounted below it.
    file_system("tmpfs", VOLUMES, MountFlags::NOSUID | MountFlags::NODEV, "mode=0700,size=40%")?;
    Ok(())
}

/// What the guest can do without: configfs (evidence of real TEEs) where the kernel has it.
pub(crate) fn mount_optional() {
    let config = Path::new("/sys/kernel/config");
    if config.is_dir() {
        let _ = mount("configfs", config, "configfs", INERT, None);
    }
}

/// Hands the resource controllers on to containers' cgroups.
///
/// # Errors
/// [`Error::Boot`].
pub(crate) fn delegate_controllers() -> Result<(), Error> {
    let file = format!("{CGROUPS}/cgroup.subtree_control");
    fs::write(&file, "+cpu +memory +pids").map_err(Error::boot("enable cgroup controllers"))
}

/// The guest binary by a descriptor on a read-only mount, so that whoever comes by the running file's path cannot
/// open it for writing.
///
/// # Errors
/// [`Error::Boot`].
pub(crate) fn own_program() -> Result<std::os::fd::OwnedFd, Error> {
    let open = || -> io::Result<_> {
        fs::write(PROGRAM, "")?;
        mount_bind("/proc/self/exe", PROGRAM)?;
        mount_remount(
            PROGRAM,
            MountFlags::BIND | MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID,
            "",
        )?;
        Ok(rustix::fs::open(PROGRAM, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
    };
    open().map_err(Error::boot("find the guest program"))
}

fn file_system(kind: &str, target: &str, flags: MountFlags, options: &str) -> Result<(), Error> {
    let step = || format!("mount {kind} at {target}");
    fs::create_dir_all(target).map_err(Error::boot(step()))?;
    let options = std::ffi::CString::new(options).map_err(io::Error::from).map_err(Error::boot(step()))?;
    mount(kind, target, kind, flags, Some(options.as_c_str())).map_err(Error::boot(step()))
}
