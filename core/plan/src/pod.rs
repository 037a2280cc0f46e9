//! What makes a plan a pod's: kinds of containers, what the host may run in them, volumes, devices, kernel settings.

use std::collections::BTreeMap;

use cocoon_protocol::PROOF_PORT;
use serde::{Deserialize, Serialize};

use crate::check::{check_name, check_path, check_uri};
use crate::{Error, MountPlan, Plan, sealed, targets};

const MAX_VOLUMES: usize = 256;
const MAX_LIST: usize = 1024;
const MAX_SYSCTLS: usize = 128;
/// Longest path below a volume, in bytes.
const MAX_SUB_PATH: usize = 4096;

/// Where the guest answers the workload on 127.0.0.1: secrets and, where the plan allows it, evidence. Never forwarded.
pub const REST_PORT: u16 = 8006;

/// When a container runs, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerKind {
    /// Beside the others, once all init containers before it are through.
    #[default]
    App,
    /// Alone, to its end, before those after it in the plan: they wait until it ended with status 0.
    Init,
    /// Started in its turn among the init containers and then running beside all others (an init container with
    /// `restartPolicy: Always`).
    Sidecar,
    /// Whenever the host asks for it, in no order (`kubectl debug`). The plan's name stands for itself and for every name
    /// that adds a `-` and a suffix to it.
    Ephemeral,
}

impl ContainerKind {
    pub(crate) fn is_app(&self) -> bool {
        *self == ContainerKind::App
    }
}

/// What the host may run in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecRules {
    /// Anything, with a terminal or without: whoever may ask the host may then read and change all that the container can.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any: bool,
    /// Exactly these programs with exactly these arguments, without terminal or input: probes and life-cycle hooks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<Vec<String>>,
}

impl ExecRules {
    pub(crate) fn is_none(&self) -> bool {
        !self.any && self.commands.is_empty()
    }
}

/// A volume of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumePlan {
    /// By which mounts name it, unique in the plan: `[a-z0-9.-]`, 1 to 63 characters.
    pub name: String,
    /// What it is.
    pub source: VolumeSource,
}

/// What a volume is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum VolumeSource {
    /// An empty directory in the guest's protected memory (`emptyDir`, `medium: Memory`).
    Memory {
        /// Size limit in bytes.
        size: u64,
        /// The group that it belongs to, and all that is made in it (`fsGroup`); root's without.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
    },
    /// An empty directory where the plan's space is: on the encrypted scratch disk, or in memory (`emptyDir`).
    Scratch {
        /// Size limit in bytes; 0: no limit but the space itself.
        #[serde(default)]
        size: u64,
        /// As for memory.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
    },
    /// Files that the host hands over, and may change while the pod runs (`configMap`, `secret`, `projected`,
    /// `downwardAPI`, `hostPath`). Untrusted, but for those with a digest.
    Files {
        /// Path below the volume to `sha256:<64 hex>`: with it only these files are taken, with exactly this content, and a
        /// container starts once all of those that it mounts are there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digests: Option<BTreeMap<String, String>>,
    },
    /// A disk that the host attaches, as it is: for [`DevicePlan`]s.
    Block {},
    /// A disk that the host attaches, with a file system that the guest encrypts (LUKS2): it outlives the pod, and the host
    /// sees nothing of what is on it. An empty disk is formatted; one that holds anything else is refused.
    Encrypted {
        /// `kbs:///…` of the key, which the guest alone gets: 32 random bytes or more.
        key: String,
        /// Whether blocks are authenticated too: what the host changed cannot be read then.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        integrity: bool,
        /// As for memory, of the file system's root.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
    },
}

/// A block volume as a device of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicePlan {
    /// Absolute path in the container.
    pub path: String,
    /// The volume's name; of kind `block`.
    pub volume: String,
    /// Whether the container may only read it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// The serial under which the host attaches the disk of a block volume: `vol-` and the first 16 hex digits of the SHA-256
/// of the volume's name, 20 characters, which is all that virtio-blk has room for.
pub fn block_serial(volume: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, volume.as_bytes());
    let mut serial = format!("vol-{}", hex::encode(digest.as_ref()));
    serial.truncate(20);
    serial
}

/// Checks what concerns the pod as a whole.
pub(crate) fn check(plan: &Plan) -> Result<(), Error> {
    let mut volumes = BTreeMap::new();
    if plan.volumes.len() > MAX_VOLUMES {
        return Err(Error::field("volumes", format!("must hold at most {MAX_VOLUMES}")));
    }
    for (i, volume) in plan.volumes.iter().enumerate() {
        let at = format!("volumes[{i}]");
        check_name(&format!("{at}.name"), &volume.name)?;
        volume.source.check(&at)?;
        if volumes.insert(volume.name.as_str(), &volume.source).is_some() {
            return Err(Error::field(format!("{at}.name"), "is used twice"));
        }
    }
    // By volume, whether its devices may only be read: the kernel knows that of a disk, not of a node.
    let mut disks = BTreeMap::new();
    for (i, container) in plan.containers.iter().enumerate() {
        let at = format!("containers[{i}]");
        for (j, mount) in container.mounts.iter().enumerate() {
            let at = format!("{at}.mounts[{j}]");
            let MountPlan::Volume { volume, sub_path, .. } = mount else { continue };
            match volumes.get(volume.as_str()) {
                None => return Err(Error::field(format!("{at}.volume"), "is no volume of the plan")),
                Some(VolumeSource::Block {}) => {
                    return Err(Error::field(format!("{at}.volume"), "is a disk: name it under devices"));
                }
                Some(_) => check_sub_path(&format!("{at}.sub_path"), sub_path)?,
            }
        }
        for (j, device) in container.devices.iter().enumerate() {
            let at = format!("{at}.devices[{j}]");
            check_path(&format!("{at}.path"), &device.path)?;
            if !matches!(volumes.get(device.volume.as_str()), Some(VolumeSource::Block {})) {
                return Err(Error::field(format!("{at}.volume"), "is no block volume of the plan"));
            }
            if *disks.entry(device.volume.as_str()).or_insert(device.read_only) != device.read_only {
                return Err(Error::field(
                    format!("{at}.read_only"),
                    "must be the same for all of the volume",
                ));
            }
        }
        if container.groups.len() > MAX_LIST || container.host_env.len() > MAX_LIST {
            return Err(Error::field(at, "too many groups or variables of the host"));
        }
        for (j, name) in container.host_env.iter().enumerate() {
            let plain = name.strip_prefix('*').or_else(|| name.strip_suffix('*')).unwrap_or(name);
            if plain.is_empty() || plain.contains(['*', '=', '\0']) {
                return Err(Error::field(
                    format!("{at}.host_env[{j}]"),
                    "must be a name, with at most one * at an end",
                ));
            }
        }
        if let Some(path) = &container.termination_message {
            check_path(&format!("{at}.termination_message"), path)?;
        }
        targets::check(&at, container, &volumes, &plan.secrets)?;
        if container.exec.commands.len() > MAX_LIST || container.exec.commands.iter().any(Vec::is_empty) {
            return Err(Error::field(format!("{at}.exec.commands"), "too many, or one without a program"));
        }
    }
    sealed::check(plan)?;
    check_sysctls(&plan.sysctls)?;
    if plan.forward_ports.len() > MAX_LIST || plan.forward_ports.contains(&0) {
        return Err(Error::field("forward_ports", "too many, or port 0"));
    }
    if plan.forward_ports.contains(&REST_PORT) {
        let problem = format!("{REST_PORT} is the guest's own endpoint, which is for the workload alone");
        return Err(Error::field("forward_ports", problem));
    }
    if plan.forward_ports.contains(&PROOF_PORT) {
        let problem = format!("{PROOF_PORT} is where the guest proves itself to whoever asks");
        return Err(Error::field("forward_ports", problem));
    }
    Ok(())
}

impl VolumeSource {
    fn check(&self, at: &str) -> Result<(), Error> {
        match self {
            VolumeSource::Memory { size: 0, .. } => Err(Error::field(format!("{at}.size"), "must not be 0")),
            // To chown(2) it means "leave it".
            VolumeSource::Memory { gid: Some(u32::MAX), .. }
            | VolumeSource::Scratch { gid: Some(u32::MAX), .. }
            | VolumeSource::Encrypted { gid: Some(u32::MAX), .. } => {
                Err(Error::field(format!("{at}.gid"), "is no group"))
            }
            VolumeSource::Encrypted { key, .. } => check_uri(&format!("{at}.key"), key),
            VolumeSource::Files { digests: Some(digests) } => {
                if digests.len() > MAX_LIST {
                    return Err(Error::field(format!("{at}.digests"), "too many"));
                }
                for (path, digest) in digests {
                    if let Err(e) = crate::files::names(path) {
                        return Err(Error::field(format!("{at}.digests"), format!("{path:?} {e}")));
                    }
                    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
                    if hex.len() != 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                        return Err(Error::field(
                            format!("{at}.digests"),
                            "must be path: sha256:<64 lower-case hex>",
                        ));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// A path below a volume: relative, of plain names.
pub(crate) fn check_sub_path(field: &str, path: &str) -> Result<(), Error> {
    let plain = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('\0');
    if path.is_empty() || path.len() <= MAX_SUB_PATH && path.split('/').all(plain) {
        return Ok(());
    }
    Err(Error::field(field, "must be a relative path of plain names"))
}

pub(crate) fn check_sysctls(sysctls: &BTreeMap<String, String>) -> Result<(), Error> {
    if sysctls.len() > MAX_SYSCTLS {
        return Err(Error::field("sysctls", format!("must hold at most {MAX_SYSCTLS}")));
    }
    for (name, value) in sysctls {
        // The settings that Kubernetes knows as namespaced: of the network and of System V and POSIX IPC.
        let known = ["net.", "kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
        let plain = |part: &str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':'))
        };
        if !known.iter().any(|k| name.starts_with(k)) || !name.split('.').all(plain) || value.len() > 1024 {
            return Err(Error::field(format!("sysctls.{name}"), "is no kernel setting of a pod"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::tests::sample;

    fn refused(change: impl Fn(&mut Plan)) -> String {
        let mut plan = sample();
        change(&mut plan);
        plan.to_canonical().unwrap_err().to_string()
    }

    fn files(name: &str) -> VolumePlan {
        VolumePlan { name: name.into(), source: VolumeSource::Files { digests: None } }
    }

    fn mount(volume: &str, sub_path: &str) -> MountPlan {
        let (target, volume, sub_path) = ("/v".into(), volume.into(), sub_path.into());
        MountPlan::Volume { target, volume, sub_path, read_only: true }
    }

    #[test]
    fn a_pods_plan_round_trips() {
        let mut plan = sample();
        plan.volumes = vec![
            files("config"),
            VolumePlan { name: "disk".into(), source: VolumeSource::Block {} },
            VolumePlan { name: "tmp".into(), source: VolumeSource::Scratch { size: 0, gid: Some(2000) } },
        ];
        plan.sysctls.insert("net.core.somaxconn".into(), "1024".into());
        plan.share_process_namespace = true;
        plan.forward_ports = vec![8080];
        let container = &mut plan.containers[0];
        container.kind = ContainerKind::Sidecar;
        container.mounts = vec![mount("config", "a/b")];
        container.devices =
            vec![DevicePlan { path: "/dev/x".into(), volume: "disk".into(), read_only: false }];
        container.host_env = vec!["KUBERNETES_*".into(), "*_PORT".into(), "NODE".into()];
        container.exec.commands = vec![vec!["/bin/probe".into()]];
        assert_eq!(Plan::parse(&plan.to_canonical().unwrap()).unwrap(), plan);
    }

    #[test]
    fn volumes_are_named_once_and_fit_their_use() {
        assert!(refused(|p| p.volumes = vec![files("a"), files("a")]).contains("twice"));
        assert!(refused(|p| p.containers[0].mounts = vec![mount("a", "")]).contains("no volume"));
        for bad in ["/a", "../a", "a/../b", "a//b"] {
            let why = refused(|p| {
                p.volumes = vec![files("a")];
                p.containers[0].mounts = vec![mount("a", bad)];
            });
            assert!(why.contains("plain names"), "{why}");
        }
        let digests = Some(BTreeMap::from([("x".to_owned(), "sha256:0".to_owned())]));
        let pinned = VolumePlan { name: "a".into(), source: VolumeSource::Files { digests } };
        assert!(refused(|p| p.volumes = vec![pinned.clone()]).contains("digests"));
        assert!(
            refused(|p| p.containers[0].mounts = vec![mount("a", ""), mount("a", "")]).contains("no volume")
        );
    }

    #[test]
    fn a_disk_has_a_serial_of_its_own_and_is_read_only_for_all_or_none() {
        let serial = block_serial("data");
        assert_eq!(serial, "vol-3a6eb0790f39ac87");
        assert_ne!(serial, block_serial("data2"));
        let device = |path: &str, read_only| DevicePlan { path: path.into(), volume: "d".into(), read_only };
        let with = |devices: Vec<DevicePlan>| {
            refused(|p| {
                p.volumes = vec![VolumePlan { name: "d".into(), source: VolumeSource::Block {} }];
                p.containers[0].devices = devices.clone();
            })
        };
        assert!(with(vec![device("/dev/a", true), device("/dev/b", false)]).contains("the same for all"));
        assert!(with(vec![device("/dev/a", true), device("/dev/a", true)]).contains("twice"));
    }

    #[test]
    fn what_is_the_hosts_to_say_is_bounded() {
        for bad in ["", "*", "a*b", "A=b", "**"] {
            assert!(refused(|p| p.containers[0].host_env = vec![bad.into()]).contains("host_env"), "{bad}");
        }
        for bad in ["kernel.modprobe", "net/../x", "vm.overcommit_memory", "net."] {
            assert!(refused(|p| drop(p.sysctls.insert(bad.into(), "1".into()))).contains("sysctls"), "{bad}");
        }
        assert!(refused(|p| p.forward_ports = vec![0]).contains("port 0"));
        assert!(refused(|p| p.forward_ports = vec![8080, REST_PORT]).contains("the workload alone"));
        assert!(refused(|p| p.forward_ports = vec![PROOF_PORT]).contains("proves itself"));
        let nobodys = VolumeSource::Scratch { size: 0, gid: Some(u32::MAX) };
        assert!(
            refused(|p| p.volumes = vec![VolumePlan { name: "a".into(), source: nobodys.clone() }])
                .contains("no group")
        );
        assert!(refused(|p| p.containers[0].exec.commands = vec![vec![]]).contains("program"));
    }
}
