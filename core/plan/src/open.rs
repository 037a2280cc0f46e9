//! A guest without plan: containers from what the host says (an OCI runtime-spec document, an image's name, mounts).
//!
//! Only a developer's guest does that, whose measurement is another, so that no owner's secret ever reaches one that was
//! not meant to run open. The host decides everything then; what is checked here is form, so that nothing of it breaks
//! the guest itself. Namespaces, cgroups, resource limits, devices and hooks of the document are the host's own affair
//! and are passed over; a mount that the guest cannot make is refused.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::{check_name, check_path};
use crate::images::ImageSettings;
pub use crate::oci::MAX_SPEC;
use crate::oci::{Mount, Namespace, Process, Spec};
use crate::pod::{
    ContainerKind, DevicePlan, ExecRules, VolumePlan, VolumeSource, check_sub_path, check_sysctls,
};
use crate::{ContainerPlan, ImagePlan, MountPlan, Plan, Restart, Seccomp};
use cocoon_stage::{Code, Failure, Stage};

/// Longest name of a container, in bytes.
const MAX_CONTAINER_NAME: usize = 128;
const MAX_MOUNTS: usize = 1024;
const MAX_LIST: usize = 16_384;
/// Size of a tmpfs for which none is given, in bytes.
const TMPFS: u64 = 64 << 20;
/// The largest directory in memory that may be asked for, in bytes: the VM's own memory is the limit that counts.
const MAX_MEMORY: u64 = 1 << 44;

/// What the host says of a container.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenRequest<'a> {
    /// By which the guest is to know it.
    pub name: &'a str,
    /// The image's reference, with a tag, a digest or neither.
    pub image: &'a str,
    /// The OCI runtime-spec document, JSON.
    pub spec: &'a [u8],
    /// What the guest has for mounts of the document.
    pub mounts: &'a [OpenMount],
}

/// A mount that the host made ready in the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenMount {
    /// Absolute path in the container.
    pub target: String,
    /// The volume's name.
    pub volume: String,
    /// A path below the volume, in place of its root.
    pub sub_path: String,
    /// Whether the container may only read it.
    pub read_only: bool,
    /// `files`, `memory`, `scratch`, or `block` for a disk that becomes a device at `target`.
    pub kind: String,
}

/// A container as the host wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenContainer {
    /// As a plan would say it. The image's digest is empty where the reference holds none.
    pub container: ContainerPlan,
    /// The volumes that it mounts.
    pub volumes: Vec<VolumePlan>,
    /// Kernel settings that come with it.
    pub sysctls: BTreeMap<String, String>,
    /// Whether it joins process ids that are there: the pod's.
    pub shares_pids: bool,
}

/// What every container has without being asked; `/etc/…` is the guest's to write.
pub(crate) const STANDARD: &[&str] = &[
    "/proc",
    "/dev",
    "/dev/pts",
    "/dev/shm",
    "/dev/mqueue",
    "/sys",
    "/sys/fs/cgroup",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/run",
];

impl Plan {
    /// The plan of a guest without plan: no container yet, no secret, any setting that a plan might hold.
    ///
    /// # Errors
    /// A coded refusal of a setting that is none of a pod's.
    pub fn open(sysctls: BTreeMap<String, String>, share_process_namespace: bool) -> Result<Plan, Failure> {
        check_sysctls(&sysctls).map_err(|e| refused(e.to_string()))?;
        Ok(Plan {
            version: 1,
            name: "open".into(),
            instance: String::new(),
            containers: Vec::new(),
            secrets: Vec::new(),
            secret_env: Vec::new(),
            sealed: Vec::new(),
            attestation_api: true,
            registry_auth: None,
            images: ImageSettings::default(),
            volumes: Vec::new(),
            sysctls,
            share_process_namespace,
            forward_ports: Vec::new(),
            exact: false,
        })
    }
}

/// The volume of a guest without plan into which the host puts files.
///
/// # Errors
/// A coded refusal of a name that is none.
pub fn files_volume(name: &str) -> Result<VolumePlan, Failure> {
    check_name("volume", name).map_err(|e| refused(e.to_string()))?;
    Ok(VolumePlan { name: name.to_owned(), source: VolumeSource::Files { digests: None } })
}

/// A container from what the host says of it.
///
/// # Errors
/// A coded refusal with what of it is malformed, too large, or cannot be done.
pub fn container(request: &OpenRequest<'_>) -> Result<OpenContainer, Failure> {
    check_container_name(request.name)?;
    if request.image.is_empty() || request.image.len() > 512 {
        return Err(refused("the image has no name, or too long a one"));
    }
    if request.spec.len() > MAX_SPEC {
        return Err(refused(format!("a document of {} bytes", request.spec.len())));
    }
    let spec: Spec = serde_json::from_slice(request.spec)
        .map_err(|e| refused(format!("the document is not an OCI runtime-spec's: {e}")))?;
    let Spec { process, root, mounts, linux } = spec;
    check_process(&process)?;
    let digest = request.image.split_once('@').map(|(_, digest)| digest.to_owned()).unwrap_or_default();
    let mut found = Found::default();
    let mounts = mounts.unwrap_or_default();
    if mounts.len() > MAX_MOUNTS || request.mounts.len() > MAX_MOUNTS {
        return Err(refused("too many mounts"));
    }
    for ready in request.mounts {
        found.ready(ready)?;
    }
    for mount in &mounts {
        found.mount(mount)?;
    }
    let sysctls = linux.sysctl.unwrap_or_default();
    check_sysctls(&sysctls).map_err(|e| refused(e.to_string()))?;
    let joined = |n: &Namespace| n.kind == "pid" && !n.path.is_empty();
    let shares_pids = linux.namespaces.unwrap_or_default().iter().any(joined);
    let capabilities = process.capabilities.unwrap_or_default().bounding.unwrap_or_default();
    let container = ContainerPlan {
        name: request.name.to_owned(),
        kind: ContainerKind::App,
        image: ImagePlan { reference: request.image.to_owned(), digest, signature: None, layers: None },
        args: process.args,
        env: process.env.unwrap_or_default(),
        host_env: Vec::new(),
        cwd: process.cwd,
        user: format!("{}:{}", process.user.uid, process.user.gid),
        groups: process.user.additional_gids.unwrap_or_default(),
        run_as_non_root: false,
        capabilities,
        no_new_privileges: process.no_new_privileges,
        read_only_root: root.readonly,
        seccomp: Seccomp::Unconfined,
        seccomp_profile: linux.seccomp.filter(|s| !s.is_null()),
        unmasked: linux.masked_paths.is_none_or(|paths| paths.is_empty()),
        mounts: found.mounts,
        devices: found.devices,
        exec: ExecRules { any: true, commands: Vec::new() },
        termination_message: found.termination,
        terminal: process.terminal,
        stdin: true,
        logs: true,
        restart: Restart::Always,
        stop_signal: 15,
    };
    let volumes = found.volumes.into_values().collect();
    Ok(OpenContainer { container, volumes, sysctls, shares_pids })
}

fn check_container_name(name: &str) -> Result<(), Failure> {
    let ok = (1..=MAX_CONTAINER_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if ok { Ok(()) } else { Err(refused("a container's name is not of letters, digits, - . and _")) }
}

fn check_process(process: &Process) -> Result<(), Failure> {
    let user = &process.user;
    let groups = user.additional_gids.as_ref().map_or(0, Vec::len);
    let env = process.env.as_deref().unwrap_or_default();
    if process.args.first().is_none_or(String::is_empty) {
        return Err(refused("the document names no program"));
    }
    if process.args.len() > MAX_LIST || env.len() > MAX_LIST || groups > MAX_LIST {
        return Err(refused("too many arguments, variables or groups"));
    }
    if process.args.iter().chain(env).any(|t| t.contains('\0')) {
        return Err(refused("an argument or variable holds a NUL character"));
    }
    if env.iter().any(|e| e.find('=').is_none_or(|p| p == 0)) {
        return Err(refused("a variable is not NAME=value"));
    }
    check_path("cwd", &process.cwd).map_err(|e| refused(e.to_string()))
}

/// What mounts come to.
#[derive(Default)]
struct Found {
    mounts: Vec<MountPlan>,
    devices: Vec<DevicePlan>,
    volumes: BTreeMap<String, VolumePlan>,
    termination: Option<String>,
    targets: BTreeSet<String>,
}

impl Found {
    /// A mount that the host made ready.
    fn ready(&mut self, ready: &OpenMount) -> Result<(), Failure> {
        let OpenMount { target, volume, sub_path, read_only, kind } = ready;
        check_name("volume", volume)
            .and_then(|()| check_sub_path("sub_path", sub_path))
            .map_err(|e| refused(e.to_string()))?;
        let source = match kind.as_str() {
            "files" => VolumeSource::Files { digests: None },
            "memory" => VolumeSource::Memory { size: MAX_MEMORY, gid: None },
            "scratch" => VolumeSource::Scratch { size: 0, gid: None },
            "block" => VolumeSource::Block {},
            other => return Err(refused(format!("a mount of kind {other:?}"))),
        };
        if !self.target(target)? {
            return Err(refused(format!("{target:?} is mounted twice")));
        }
        if kind == "block" {
            let (path, volume, read_only) = (target.clone(), volume.clone(), *read_only);
            self.devices.push(DevicePlan { path, volume, read_only });
        } else {
            self.mounts.push(MountPlan::Volume {
                target: target.clone(),
                volume: volume.clone(),
                sub_path: sub_path.clone(),
                read_only: *read_only,
            });
        }
        let new = VolumePlan { name: volume.clone(), source };
        match self.volumes.insert(volume.clone(), new.clone()) {
            Some(old) if old != new => Err(refused(format!("volume {volume:?} of two kinds"))),
            _ => Ok(()),
        }
    }

    /// A mount of the document: made ready, one that every container has, or one that the guest makes.
    fn mount(&mut self, mount: &Mount) -> Result<(), Failure> {
        let target = mount.destination.as_str();
        let plain = target.trim_end_matches('/');
        if self.targets.contains(plain) {
            return Ok(());
        }
        if STANDARD.contains(&plain)
            && (mount.kind != "bind" || plain.starts_with("/etc/") || plain == "/dev/shm")
        {
            return Ok(());
        }
        if is_termination_log(mount) {
            self.target(target)?;
            self.termination = Some(target.to_owned());
            return Ok(());
        }
        if mount.kind == "tmpfs" {
            let size = size_of(mount.options.as_deref().unwrap_or_default());
            self.target(target)?;
            self.mounts.push(MountPlan::Tmpfs { target: target.to_owned(), size });
            return Ok(());
        }
        Err(refused(format!("mount {target:?}: this guest was given nothing for it")))
    }

    /// Takes a path; whether it was free.
    fn target(&mut self, target: &str) -> Result<bool, Failure> {
        check_path("target", target).map_err(|e| refused(e.to_string()))?;
        let plain = target.trim_end_matches('/');
        if plain.is_empty() {
            return Err(refused("a mount over the root"));
        }
        Ok(self.targets.insert(plain.to_owned()))
    }
}

/// The file that kubelet mounts for a container's last words.
fn is_termination_log(mount: &Mount) -> bool {
    // kubelet: <root>/pods/<uid>/containers/<name>/<hex>
    let parts: Vec<&str> = mount.source.split('/').collect();
    let kubelets = parts.windows(5).last().is_some_and(
        |last| matches!(last, [pods, _, containers, _, _] if *pods == "pods" && *containers == "containers"),
    );
    mount.kind == "bind" && (mount.destination == "/dev/termination-log" || kubelets)
}

/// `size=` of a tmpfs, in bytes: a number, or one with k, m or g (tmpfs(5)).
fn size_of(options: &[String]) -> u64 {
    let size = |option: &String| {
        let text = option.strip_prefix("size=")?.to_ascii_lowercase();
        let (digits, factor) = match text.strip_suffix(['k', 'm', 'g']) {
            Some(digits) if text.ends_with('k') => (digits, 1 << 10),
            Some(digits) if text.ends_with('m') => (digits, 1 << 20),
            Some(digits) => (digits, 1 << 30),
            None => (text.as_str(), 1),
        };
        digits.parse::<u64>().ok()?.checked_mul(factor).filter(|s| (1..=MAX_MEMORY).contains(s))
    };
    options.iter().rev().find_map(size).unwrap_or(TMPFS)
}

fn refused(reason: impl Into<String>) -> Failure {
    Failure::new(Code::PlanRequestRefused, reason).at(Stage::Start)
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
