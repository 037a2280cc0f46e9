//! The pod's volumes and disks in a container's mount tree.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, fstat, makedev, mknodat, open};
use rustix::mount::{OpenTreeFlags, open_tree};
use serde::{Deserialize, Serialize};

use super::{NODEV, NOEXEC, NOSUID, RDONLY, Root, attach, memory, paths};
use crate::syscalls::mount_setattr;

/// A folder of the guest of which a container's first process has no use any more.
const ASIDE: &str = "/sys";

/// A directory or file of a volume, or a file that the guest reads back later, in the container. Never with device nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct VolumeMount {
    /// Absolute path in the guest.
    pub(crate) source: PathBuf,
    /// A path below `source` in its place. Containers may have made links of it: it is resolved by the kernel and does not
    /// leave `source`. Empty: `source` itself.
    pub(crate) beneath: String,
    /// Absolute path in the container.
    pub(crate) target: String,
    pub(crate) read_only: bool,
    /// Whether folders are made where `beneath` is missing.
    pub(crate) make: bool,
    /// Whether it is of files of the host: then nothing else may be mounted on it.
    pub(crate) files: bool,
}

/// A disk as a device node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DeviceNode {
    /// Absolute path in the container.
    pub(crate) path: String,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// Who may open it, beside whoever may open everything.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// What a container has of the pod's volumes.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    pub(crate) volumes: Vec<VolumeMount>,
    pub(crate) devices: Vec<DeviceNode>,
}

impl Mounts {
    /// The devices, as nodes of this user.
    pub(crate) fn devices_of(&self, uid: u32, gid: u32) -> Vec<DeviceNode> {
        self.devices.iter().map(|d| DeviceNode { uid, gid, ..d.clone() }).collect()
    }
}

impl Root {
    pub(super) fn volume(&mut self, volume: &VolumeMount) -> io::Result<()> {
        let source = open(&volume.source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let source = match (volume.beneath.as_str(), volume.make) {
            ("", _) => source,
            (path, true) => paths::made_beneath(source.as_fd(), path)?,
            (path, false) => paths::beneath(source.as_fd(), path)?,
        };
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let mount = open_tree(&source, "", flags)?;
        let attributes = if volume.read_only { NODEV | RDONLY } else { NODEV };
        mount_setattr(mount.as_fd(), attributes.bits().into(), 0, false)?;
        let is_directory = FileType::from_raw_mode(fstat(&source)?.st_mode).is_dir();
        let at = if is_directory {
            paths::directory(self.fd(), &volume.target)?
        } else {
            paths::mount_point_file(self.fd(), &volume.target)?
        };
        let id = self.attach(mount.as_fd(), at.as_fd())?;
        if volume.files {
            self.files.insert(id);
        }
        self.stays(&volume.target, id);
        Ok(())
    }

    /// A node on a file system of its own, since those that containers write to hold none that can be opened.
    pub(super) fn device(&mut self, device: &DeviceNode) -> io::Result<()> {
        let nodes = memory("64k", "700", NOSUID | NOEXEC)?;
        // The kernel takes no part of a mount that is nowhere. This namespace's view of the guest's /sys goes with the
        // rest of the guest's mounts.
        let aside = open(ASIDE, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        attach(nodes.as_fd(), aside.as_fd())?;
        let (name, none) = ("node", rustix::fs::AtFlags::empty());
        let mode = Mode::from_raw_mode(0o660);
        mknodat(&nodes, name, FileType::BlockDevice, mode, makedev(device.major, device.minor))?;
        chmodat(&nodes, name, mode, none)?;
        chownat(&nodes, name, Some(Uid::from_raw(device.uid)), Some(Gid::from_raw(device.gid)), none)?;
        let node =
            open_tree(&nodes, name, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
        let at = paths::mount_point_file(self.fd(), &device.path)?;
        let id = self.attach(node.as_fd(), at.as_fd())?;
        self.stays(&device.path, id);
        Ok(())
    }
}
