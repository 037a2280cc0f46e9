//! What the host's mounts of a container are to its pod: content that the guest is handed, a directory of the guest's own,
//! a disk, or nothing at all.

use std::path::{Path, PathBuf};

use cocoon_plan::pod::VolumeSource;
use cocoon_plan::{ContainerPlan, MountPlan, Plan};
use cocoon_sandbox_api::sandbox::Mount as GuestMount;
use cocoon_stage::Failure;

use crate::empty_dir::EmptyDir;
use crate::spec::{Mount, Spec, refused};

/// What the guest makes itself, or what the pod has once.
const STANDARD: [&str; 5] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/shm", "/dev/mqueue"];
/// Where kubelet has a container leave its message, unless told otherwise.
const TERMINATION: &str = "/dev/termination-log";

/// A part of a volume's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The volume's name.
    pub volume: String,
    /// Where below the volume the content belongs; empty: it is the whole.
    pub sub_path: String,
    /// The host's folder or file.
    pub source: PathBuf,
}

/// A disk for a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDevice {
    /// The volume's name.
    pub volume: String,
    /// The host's device.
    pub device: PathBuf,
    /// Whether the guest may only read it.
    pub read_only: bool,
}

/// A container's mounts, sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arranged {
    /// Content to hand over.
    pub parts: Vec<Part>,
    /// What a guest without plan is to mount.
    pub mounts: Vec<GuestMount>,
    /// The host's file for the container's last message.
    pub termination_message: Option<PathBuf>,
    /// Disks to attach.
    pub devices: Vec<BlockDevice>,
}

/// Sorts the mounts and devices of a container that the plan knows.
///
/// # Errors
/// `PLAN-REQUEST-REFUSED` for a path of the host that the plan has nothing for.
pub fn planned(spec: &Spec, plan: &Plan, container: &ContainerPlan) -> Result<Arranged, Failure> {
    let mut arranged = Arranged::default();
    for mount in spec.mounts.iter().filter(|m| m.is_bind()) {
        let target = plain(&mount.destination);
        if STANDARD.contains(&target) {
            continue;
        }
        let named = container.termination_message.as_deref().map(plain);
        if named == Some(target) && may_take_message(mount) {
            arranged.termination_message = Some(PathBuf::from(&mount.source));
            continue;
        }
        if named.is_none() && target == TERMINATION {
            continue;
        }
        let wanted = container.mounts.iter().find(|m| plain(m.target()) == target);
        match wanted {
            Some(MountPlan::Volume { volume, sub_path, .. }) => {
                let source = plan.volumes.iter().find(|v| v.name == *volume).map(|v| &v.source);
                if let Some(VolumeSource::Files { .. }) = source {
                    arranged.parts.push(part(volume, sub_path, &mount.source));
                }
            }
            Some(MountPlan::Tmpfs { .. }) => {}
            // Kubelet mounts more than a pod asked for: the guest does without.
            None if is_kubelets(&mount.source) => {
                tracing::info!(target = mount.destination, "a mount that the plan does not have is left out");
            }
            None => return Err(unplanned(mount)),
        }
    }
    for device in spec.linux.devices.iter().filter(|d| d.kind == "b") {
        // What the plan encrypts is a folder in the container, where the manifest has a device.
        if let Some((volume, read_only)) = encrypted(plan, container, &device.path) {
            arranged.devices.push(BlockDevice {
                volume,
                device: format!("/dev/block/{}:{}", device.major, device.minor).into(),
                read_only: read_only || spec.may_write(device) == Some(false),
            });
            continue;
        }
        let wanted = container.devices.iter().find(|d| d.path == device.path);
        let wanted = wanted.ok_or_else(|| {
            refused(format!("block device {}: the plan has no such device of this container", device.path))
        })?;
        arranged.devices.push(BlockDevice {
            volume: wanted.volume.clone(),
            device: format!("/dev/block/{}:{}", device.major, device.minor).into(),
            read_only: wanted.read_only || spec.may_write(device) == Some(false),
        });
    }
    Ok(arranged)
}

/// The encrypted volume that a container has at this path, and whether it may only read it.
fn encrypted(plan: &Plan, container: &ContainerPlan, path: &str) -> Option<(String, bool)> {
    container.mounts.iter().find_map(|mount| {
        let MountPlan::Volume { target, volume, read_only, .. } = mount else { return None };
        let source = plan.volumes.iter().find(|v| v.name == *volume).map(|v| &v.source);
        let here = plain(target) == plain(path) && matches!(source, Some(VolumeSource::Encrypted { .. }));
        here.then(|| (volume.clone(), *read_only))
    })
}

/// Sorts the mounts of a container for a guest without plan: everything is handed over that can be.
///
/// # Errors
/// `PLAN-REQUEST-REFUSED` for a block device: such a guest has no place to plug one in.
pub fn open(spec: &Spec) -> Result<Arranged, Failure> {
    let mut arranged = Arranged::default();
    for mount in spec.mounts.iter().filter(|m| m.is_bind()) {
        let target = plain(&mount.destination);
        if STANDARD.contains(&target) {
            continue;
        }
        if may_take_message(mount) {
            arranged.termination_message = Some(mount.source.clone().into());
            continue;
        }
        let (kind, volume, mut sub_path) = match EmptyDir::of(&mount.source) {
            Some(it) if it.in_memory() => ("memory", it.name, it.sub_path),
            Some(it) => ("scratch", it.name, it.sub_path),
            None => ("files", volume_name(&mount.source), String::new()),
        };
        if kind == "files" {
            arranged.parts.push(part(&volume, "", &mount.source));
            if Path::new(&mount.source).is_file() {
                sub_path = file_name(&mount.source);
            }
        }
        arranged.mounts.push(GuestMount {
            target: mount.destination.clone(),
            volume,
            sub_path,
            read_only: mount.is_read_only(),
            kind: kind.into(),
            ..GuestMount::default()
        });
    }
    if let Some(device) = spec.linux.devices.iter().find(|d| d.kind == "b") {
        return Err(refused(format!("block device {}: only a plan has places for disks", device.path)));
    }
    Ok(arranged)
}

/// A file is the volume's content under its own name, unless the plan gives it a name.
fn part(volume: &str, sub_path: &str, source: &str) -> Part {
    let sub_path = match sub_path {
        "" if Path::new(source).is_file() => file_name(source),
        path => path.to_owned(),
    };
    Part { volume: volume.into(), sub_path, source: source.into() }
}

fn file_name(path: &str) -> String {
    Path::new(path).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

fn unplanned(mount: &Mount) -> Failure {
    refused(format!(
        "the host's {} at {}: the plan has no volume there (hostPath must be in the plan)",
        mount.source, mount.destination
    ))
}

fn plain(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    }
}

/// Whether kubelet made it for the pod, below `…/pods/UID/`.
fn is_kubelets(source: &str) -> bool {
    let Some((_, below)) = source.split_once("/pods/") else { return false };
    let below = below.split_once('/').map_or("", |(_, rest)| rest);
    ["volumes/kubernetes.io~", "volume-subpaths/", "containers/", "etc-hosts", "plugins/"]
        .iter()
        .any(|place| below.starts_with(place))
}

/// Whether the shim may write there: kubelet made it for a container's last message, and lets the container write it. It is
/// this host's root that writes, so nothing else will do.
fn may_take_message(mount: &Mount) -> bool {
    is_termination_file(&mount.source) && !mount.is_read_only()
}

/// Whether it is `…/pods/UID/containers/NAME/ID`.
fn is_termination_file(source: &str) -> bool {
    let Some(path) = source.strip_prefix('/') else { return false };
    let parts: Vec<&str> = path.split('/').collect();
    let plain = parts.iter().all(|part| !matches!(*part, "" | "." | ".."));
    plain && matches!(parts.as_slice(), [_, .., "pods", _, "containers", _, _])
}

/// A name for the volume: kubelet's own, where the path is a whole volume of kubelet's; else one of the path.
fn volume_name(source: &str) -> String {
    let kubelets = source.split_once("/volumes/kubernetes.io~").and_then(|(_, rest)| rest.split_once('/'));
    match kubelets {
        Some((_, name)) if is_volume_name(name) => name.to_owned(),
        _ => {
            let digest = cocoon_protocol::HashAlgorithm::Sha256.digest(source.as_bytes());
            let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            format!("host-{hex}")
        }
    }
}

/// Whether a volume of a pod may be named like that.
pub fn is_volume_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
